"""Multiplication of two numbers of two digits, which the solver works out in thoughts before it answers.

The thoughts hold a product for each digit of the second number; the answer is their sum. Right is the last
number of the answer, and the thoughts do not count; but a small model that does without them is hardly ever
right, so this shows what thinking brings, and what it costs to be cut short. Not covered: longer numbers.
"""

import random
from collections.abc import Iterator

from twofold.environments import Episode, Problem, Split, last_number, only, said

ANSWER_TOKENS = 48


def problems(seed: int, split: Split) -> Iterator[Problem]:
    """Return problems in an endless stream."""
    return only(split, _all(random.Random(f"multiplication {seed} {split}")))


def _all(chance: random.Random) -> Iterator[Problem]:
    while True:
        a, b = chance.randint(11, 99), chance.randint(11, 99)
        key = f"{min(a, b)} * {max(a, b)}"
        yield Problem(f"Multiply {a} by {b}.", key, {"a": a, "b": b})


def begin(problem: Problem, seed: int = 0) -> Episode:
    """Return an attempt at a problem; there is no chance in it."""
    return Episode(problem, reward)


def reward(problem: Problem, answer: str) -> float:
    """Return 1 for the right number, else 0."""
    return float(last_number(said(answer)) == problem.facts["a"] * problem.facts["b"])


def solve(episode: Episode) -> str:
    """Return thoughts, and the right number."""
    a, b = episode.problem.facts["a"], episode.problem.facts["b"]
    tens, ones = b // 10 * 10, b % 10
    return f"<think>\n{a}*{tens}={a * tens}\n{a}*{ones}={a * ones}\n</think>\n\n{a * b}"
