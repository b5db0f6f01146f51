"""Contamination: of which items of a benchmark a piece stood in the text that a model was trained on.

As in GPT-3's report (Brown et al. 2020, arXiv 2005.14165, appendix C): an item was seen when one of its runs
of 13 words occurs in the training text. Words are runs of letters and digits in lower case. An item of 8 to
12 words counts as one run of all of them; a shorter one is not judged, since such runs occur by chance.
What is compared is an item's `text`: question and right answer (see items.py).

The words of the benchmarks become random 64-bit numbers and a run of them a polynomial in those, so that one
pass of numpy over the training text finds all runs of all lengths; two different runs fall together once in
about 10^7 such searches.

Not covered: paraphrases, translations, answers without their question.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]

LONGEST, SHORTEST = 13, 8  # words in a run
_WORD = re.compile(r"[^\W_]+")
_BUFFER = 1 << 20  # words that are looked at together
_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_BITS = 22  # of the table that sorts most runs out


class Overlap:
    """Looks for the runs of words of some texts in a stream of documents."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._words: dict[str, int] = {}
        self._lengths: list[int] = []  # of each text's runs; 0: too short to judge
        ids: list[list[int]] = []
        for text in texts:
            words = _WORD.findall(text.lower())
            self._lengths.append(0 if len(words) < SHORTEST else min(LONGEST, len(words)))
            ids.append([self._words.setdefault(word, len(self._words) + 1) for word in words])
        generator = np.random.default_rng(20200522)
        self._numbers = generator.integers(1, 2**64, len(self._words) + 1, np.uint64)
        self._numbers[0] = 0  # a word that no text has
        self._found = np.zeros(len(texts), bool)
        self._runs: dict[int, tuple[Hashes, NDArray[np.int64]]] = {}  # by length: hashes, sorted; their texts
        for length in sorted(set(self._lengths) - {0}):
            parts = [
                (_hashes(self._numbers[ids[i]], length), i)
                for i, own in enumerate(self._lengths)
                if own == length
            ]
            hashes = np.concatenate([h for h, _ in parts])
            owners = np.concatenate([np.full(len(h), i, np.int64) for h, i in parts])
            order = np.argsort(hashes, kind="stable")
            self._runs[length] = hashes[order], owners[order]
        self._waiting: list[int] = []
        self.words = 0
        """Words of training text looked at."""

    def read(self, documents: Iterable[str]) -> None:
        """Look through documents; a run does not cross from one into the next."""
        get = self._words.get
        for document in documents:
            words = _WORD.findall(document.lower())
            self.words += len(words)
            self._waiting.extend([get(word, 0) for word in words])
            self._waiting.append(0)
            if len(self._waiting) >= _BUFFER:
                self._search()

    def seen(self) -> list[bool | None]:
        """Return for each text whether a run of it occurred; None for one that is too short to judge."""
        self._search()
        return [
            bool(found) if length else None for found, length in zip(self._found, self._lengths, strict=True)
        ]

    def _search(self) -> None:
        numbers = self._numbers[np.asarray(self._waiting, np.int64)]
        self._waiting = []
        for length, (hashes, owners) in self._runs.items():
            table = np.zeros(1 << _BITS, bool)
            table[(hashes >> np.uint64(64 - _BITS)).astype(np.int64)] = True
            runs = _hashes(numbers, length)
            runs = np.unique(runs[table[(runs >> np.uint64(64 - _BITS)).astype(np.int64)]])
            low, high = np.searchsorted(hashes, runs, "left"), np.searchsorted(hashes, runs, "right")
            for first, end in zip(low.tolist(), high.tolist(), strict=True):
                self._found[owners[first:end]] = True


def _hashes(numbers: Hashes, length: int) -> Hashes:
    """Return the number of each run of `length` words, modulo 2^64; none when there are fewer words."""
    count = len(numbers) - length + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    total = np.zeros(count, np.uint64)
    for k in range(length):
        total *= _BASE
        total += numbers[k : k + count]
    # A multiplication that spreads the last words, which stand in the low bits, over the high ones.
    return (total ^ (total >> np.uint64(32))) * _BASE
