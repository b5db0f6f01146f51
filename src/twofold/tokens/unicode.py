"""Which code points are letters, numbers and white space, exactly as the `tokenizers` package sees them.

The patterns that cut text into words speak of \\p{L}, \\p{N} and \\s. Which characters these are depends on
the version of Unicode that a regular expression engine was built with, so we ask the engine that trains and
encodes, once per process, and write the answer into the model file as `twofold.unicode`. With it run.c, the
readable reference and `tokenizers` agree on every code point. Not covered: other properties (case, marks,
scripts).
"""

import array
import functools
from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, pre_tokenizers

OTHER, LETTER, NUMBER, WHITESPACE = 0, 1, 2, 3

# Planes 4 to 13 are unassigned, 15 and 16 are for private use: Unicode promises no letters there, and a test
# checks it. Leaving them out makes this four times as fast. Surrogates are not characters.
_ASKED = ((0, 0xD800), (0xE000, 0x40000), (0xE0000, 0xF0000))
_PATTERNS = {LETTER: r"\p{L}+", NUMBER: r"\p{N}+", WHITESPACE: r"\s+"}


def probe(ranges: tuple[tuple[int, int], ...] = _ASKED) -> list[tuple[int, int]]:
    """Return (first code point, class) of each run of one class, ascending from 0, by asking the engine."""
    split = pre_tokenizers.Split(Regex("|".join(_PATTERNS.values())), "isolated")
    kinds = [(kind, pre_tokenizers.Split(Regex(p), "removed")) for kind, p in _PATTERNS.items()]
    runs = [(0, OTHER)]
    for start, end in ranges:
        text = array.array("I", range(start, end)).tobytes().decode("utf-32-le")
        at = start
        for piece, _ in split.pre_tokenize_str(text):
            kind = next((k for k, s in kinds if not s.pre_tokenize_str(piece[0])), OTHER)
            if kind != runs[-1][1]:
                runs.append((at, kind))
            at += len(piece)
        if runs[-1][1] != OTHER:
            runs.append((end, OTHER))
    return runs


@functools.cache
def runs() -> tuple[tuple[int, int], ...]:
    """Return (first code point, class) of each run of one class, ascending, the first at 0. Asked once."""
    found: dict[int, int] = {}
    for first, kind in probe():
        found[first] = kind  # a later run that starts at the same place replaces an empty one
    return tuple(found.items())


def packed() -> NDArray[np.uint32]:
    """Return the runs as `twofold.unicode` holds them: uint32 [runs], first code point * 4 + class."""
    return np.array([first * 4 + kind for first, kind in runs()], dtype=np.uint32)


@functools.cache
def _starts() -> list[int]:
    return [first for first, _ in runs()]


def class_of(character: str) -> int:
    """Return OTHER, LETTER, NUMBER or WHITESPACE."""
    return runs()[bisect_right(_starts(), ord(character)) - 1][1]
