"""Guessing tokens ahead, so that several are checked in one pass over the weights.

A pass that checks four or eight guesses reads the weights once, as a pass for one token does; where reading
is what decoding waits for, a right guess is nearly free (Leviathan et al. 2022, arXiv 2211.17192). Guesses
come from the text itself, which often repeats names, code and quotations (prompt look-up: Saxena 2023), or
from a smaller model with the same vocabulary. Every token is still chosen from the large model's own logits
by the same sampler and the same random numbers, and run.c gives the same bits for a token in any batch: the
output is what it would have been.
"""

import time
from collections.abc import Sequence
from typing import Protocol

LENGTHS = (3, 7)  # guesses per pass: with the token before them they fill run.c's tiles of 4 and 8
_FIRST_RATE, _FIRST_WEIGHT = 0.6, 2.0  # before anything was seen: worth a try or two


class Draft(Protocol):
    """Where guesses come from."""

    def guess(self, ids: Sequence[int], count: int) -> list[int]:
        """Return at most `count` tokens that may follow `ids`."""
        ...


class PromptLookup:
    """Guesses what followed the last time that the newest three (or two) tokens stood in the text."""

    def __init__(self) -> None:
        self._seen = 0
        self._after: dict[tuple[int, ...], int] = {}  # a run of tokens -> where it last ended

    def guess(self, ids: Sequence[int], count: int) -> list[int]:
        """Return at most `count` tokens; `ids` only grows from call to call."""
        for end in range(max(self._seen, 2), len(ids)):  # the newest run itself is not yet in the index
            for size in (2, 3):
                if end >= size:
                    self._after[tuple(ids[end - size : end])] = end
        self._seen = len(ids)
        for size in (3, 2):
            if len(ids) >= size and (start := self._after.get(tuple(ids[-size:]))):
                return list(ids[start : start + count])
        return []


class Pacer:
    """Decides how many guesses a pass should check, from what passes took and how many guesses were right."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # tokens in a pass -> the quickest seen
        self._right, self._made = _FIRST_RATE * _FIRST_WEIGHT, _FIRST_WEIGHT

    def reset(self) -> None:
        """Forget how good the guesses were (another text), not how long passes take."""
        self._right, self._made = _FIRST_RATE * _FIRST_WEIGHT, _FIRST_WEIGHT

    def length(self) -> int:
        """Return the number of guesses that makes most tokens per second; 0: none."""
        best, most = 0, 1.0
        single = self._seconds.get(1)
        if single is None:
            return 0
        rate = min(self._right / self._made, 0.98)
        for count in LENGTHS:
            tokens = (1 - rate ** (count + 1)) / (1 - rate)  # each guess needs all before it to be right
            pace = tokens * single / self._seconds.get(count + 1, single)
            if pace > 1.05 * most:  # a tie is not worth the trouble
                best, most = count, pace
        return best

    def timed(self, tokens: int, start: float) -> None:
        """Note a pass over `tokens` tokens that began at `start` (time.perf_counter) and ends now."""
        seconds = time.perf_counter() - start
        # The least is the pass itself; it drifts up slowly, as attention does with the context.
        self._seconds[tokens] = min(seconds, 1.02 * self._seconds.get(tokens, seconds))

    def judged(self, right: int, made: int) -> None:
        """Note that of `made` guesses the first `right` were right; older news fades."""
        fade = 0.9 if made else 1.0
        # A guess after the first wrong one was never put to the test.
        self._right = fade * self._right + right
        self._made = fade * self._made + min(right + 1, made)
