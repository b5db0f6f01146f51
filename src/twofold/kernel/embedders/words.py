"""Vectors of words that were made here: texts that belong together are near, without a transformer.

A text is the mean of its words' vectors. `recipes/word_vectors.py` learned them, from public-domain and
openly licensed text, so that a sentence is near the paragraph that it was taken from and far from others
(in-batch negatives; van den Oord et al. 2018, arXiv 1807.03748; the sentence out of its context after Lee et
al. 2019, arXiv 1906.00300). How much a word says is the length of its vector, and learned with it. A word
that is not known, a name or a number mostly, gets a direction of its own by its spelling, so it is near
itself only.

English. Order and negation do not matter to it. `words.npz`: the words by frequency, a row of 4-bit numbers
for each, two in a byte and 8 too large, and what a row is multiplied by.
"""

import functools
import re
import zlib
from collections.abc import Sequence
from importlib import resources

import numpy as np

from twofold.kernel.embedders import Embedder, Floats, unit

DESCRIPTION = "vectors of English words, made here; ships with the package"

_WORD = re.compile(r"[^\W_]+")


def split(text: str) -> list[str]:
    """Return the words of a text as the vectors know them."""
    return _WORD.findall(text.lower())


class Words:
    """The mean of words' vectors."""

    def __init__(self, words: Sequence[str], rows_VD: Floats, unknown: float) -> None:
        """rows_VD: the vectors, [V, D]. unknown: the length of the vector of a word that is not known."""
        self.dim, self.meaning = rows_VD.shape[1], 0.3
        self._places = {word: n for n, word in enumerate(words)}
        self._rows_VD, self._unknown = rows_VD, unknown
        self._spelled = functools.lru_cache(maxsize=1 << 14)(self._by_spelling)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return a row for each text, [N, dim]."""
        found_ND = np.zeros((len(texts), self.dim), np.float32)
        for row_D, text in zip(found_ND, texts, strict=True):
            words = split(text)
            known = [self._places[word] for word in words if word in self._places]
            row_D += self._rows_VD[known].sum(0)
            for word in words:
                if word not in self._places:
                    row_D += self._spelled(word)
        return unit(found_ND)

    def _by_spelling(self, word: str) -> Floats:
        random = np.random.default_rng(zlib.crc32(word.encode()))
        row_1D = unit(random.standard_normal((1, self.dim)).astype(np.float32))
        found: Floats = np.float32(self._unknown) * row_1D[0]
        return found


@functools.cache
def open() -> Embedder:
    """Return the embedder; the file is read once."""
    with (resources.files("twofold.kernel.embedders") / "words.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        packed = stored["rows"]
        numbers_VD = np.stack([packed >> 4, packed & 15], 2).reshape(len(packed), -1).astype(np.float32) - 8
        rows_VD = numbers_VD * stored["scales"].astype(np.float32)[:, None]
        return Words(stored["words"].tobytes().decode().split("\n"), rows_VD, float(stored["unknown"]))
