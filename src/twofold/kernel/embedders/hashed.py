"""Words and their parts, hashed: texts that share words, or spell them alike, are near each other.

Each word counts as itself and as its runs of 3 to 5 letters (Bojanowski et al. 2017, arXiv 1607.04606,
section 3.2, without learning), each hashed to a place and a sign (Weinberger et al. 2009, "Feature hashing").
It knows no meaning: "car" and "automobile" have nothing in common. It needs no file and reads every language.
"""

import functools
import re
import zlib
from collections.abc import Sequence

import numpy as np

from twofold.kernel.embedders import Embedder, Floats, unit

DESCRIPTION = "words and their parts, hashed: spelling and no meaning; needs no file"

_WORD = re.compile(r"\w+")
_SHORTEST, _LONGEST = 3, 5


class Hashed:
    """Vectors of `dim` numbers from hashed parts of words."""

    def __init__(self, dim: int = 1024) -> None:
        self.dim, self.meaning = dim, 0.4
        self._parts = functools.lru_cache(maxsize=1 << 15)(self._places)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return a row for each text, [N, dim]."""
        rows_ND = np.zeros((len(texts), self.dim), np.float32)
        for row_D, text in zip(rows_ND, texts, strict=True):
            for word in _WORD.findall(text.lower()):
                places, values = self._parts(word)
                np.add.at(row_D, places, values)
        # A word that is there ten times says little more than one that is there once.
        return unit(np.sign(rows_ND) * np.sqrt(np.abs(rows_ND)))

    def _places(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """Return where a word goes, and with which weights. Longer words say more: the short are the
        frequent."""
        marked = f"<{word}>"
        parts = {
            marked[i : i + n] for n in range(_SHORTEST, _LONGEST + 1) for i in range(len(marked) - n + 1)
        }
        hashes = np.array([zlib.crc32(part.encode()) for part in sorted(parts | {word})], np.uint32)
        weight = min(1.0, (len(word) / 6) ** 2) / np.sqrt(len(hashes))
        return hashes % self.dim, np.where(hashes >> 31, weight, -weight).astype(np.float32)


def open() -> Embedder:
    """Return the embedder."""
    return Hashed()
