"""Arithmetic: sums, differences, products and quotients of whole numbers, from one digit to three.

Right is the last number of the answer, after any thoughts. Exact division only. Not covered: fractions,
negative operands.
"""

import random
from collections.abc import Iterator

from twofold.environments import Episode, Problem, Split, last_number, only, said

ANSWER_TOKENS = 48


def problems(seed: int, split: Split) -> Iterator[Problem]:
    """Return problems in an endless stream, all sizes and operations alike often."""
    return only(split, _all(random.Random(f"arithmetic {seed} {split}")))


def _all(chance: random.Random) -> Iterator[Problem]:
    while True:
        most = chance.choice((9, 99, 999))
        a, b, sign = chance.randint(0, most), chance.randint(0, most), chance.choice("+-*/")
        if sign == "*":
            b = chance.randint(0, min(most, 12))
        elif sign == "/":
            b = chance.randint(1, min(most, 12))
            a = a // b * b
        right = {"+": a + b, "-": a - b, "*": a * b, "/": a // b if b else 0}[sign]
        yield Problem(f"What is {a} {sign} {b}?", f"{a}{sign}{b}", {"right": right})


def begin(problem: Problem, seed: int = 0) -> Episode:
    """Return an attempt at a problem; there is no chance in it."""
    return Episode(problem, reward)


def reward(problem: Problem, answer: str) -> float:
    """Return 1 for the right number, else 0."""
    return float(last_number(said(answer)) == problem.facts["right"])


def solve(episode: Episode) -> str:
    """Return the right number."""
    return str(episode.problem.facts["right"])
