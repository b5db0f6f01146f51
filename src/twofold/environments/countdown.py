"""Countdown: make a number from three or four others, each used at most once, with + - * / and brackets.

Right is any expression that reaches the number, after any thoughts; `= 24` may stand behind it. There are
often several. The problem is easy to check and hard to solve in one go, so more attempts help. Not covered:
the television game's six numbers.
"""

import random
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

from twofold.environments import Episode, Problem, Split, only, said
from twofold.environments._sums import SumError, evaluate

ANSWER_TOKENS = 32
SMALLEST, LARGEST = 10, 99  # to be made
_TEXT = re.compile(r"Make (\d{1,4}) from (\d{1,4}(?:, \d{1,4}){0,4}) and (\d{1,4})\.?", re.ASCII)
Made = tuple[Fraction, str, bool]  # a value, how it was made, and whether that is a sum or difference


def problems(seed: int, split: Split) -> Iterator[Problem]:
    """Return problems that have a solution, in an endless stream."""
    return only(split, _all(random.Random(f"countdown {seed} {split}")))


def _all(chance: random.Random) -> Iterator[Problem]:
    while True:
        numbers = sorted(chance.randint(1, 15) for _ in range(chance.choice((3, 4))))
        goal = _combined(chance, numbers)
        if goal.denominator == 1 and SMALLEST <= goal <= LARGEST and goal not in numbers:
            yield _problem(int(goal), numbers)


def _problem(goal: int, numbers: list[int]) -> Problem:
    listed = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
    return Problem(f"Make {goal} from {listed}.", f"{numbers} {goal}", {"numbers": numbers, "goal": goal})


def read(text: str) -> Problem | None:
    """Return the problem that a text sets, which need not have a solution."""
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    return _problem(int(match[1]), [int(number) for number in [*match[2].split(", "), match[3]]])


def _combined(chance: random.Random, numbers: Sequence[int]) -> Fraction:
    """Return what all the numbers make in some order with some operations."""
    left = [Fraction(number) for number in numbers]
    chance.shuffle(left)
    while len(left) > 1:
        a, b, sign = left.pop(), left.pop(), chance.choice("+-*/")
        if sign == "/" and not b:
            sign = "+"
        left.insert(
            chance.randint(0, len(left)),
            a + b if sign == "+" else a - b if sign == "-" else a * b if sign == "*" else a / b,
        )
    return left[0]


def begin(problem: Problem, seed: int = 0) -> Episode:
    """Return an attempt at a problem; there is no chance in it."""
    return Episode(problem, reward)


def reward(problem: Problem, answer: str) -> float:
    """Return 1 for an expression that makes the number of the numbers given, else 0."""
    try:
        value, used = evaluate(said(answer).partition("=")[0])
    except SumError:
        return 0.0
    left = list(problem.facts["numbers"])
    for number in used:
        if number not in left:
            return 0.0
        left.remove(number)
    return float(value == problem.facts["goal"])


def solve(episode: Episode) -> str:
    """Return an expression that is right, with as few numbers as need be; found by trying all."""
    facts = episode.problem.facts
    found = _search([(Fraction(n), str(n), False) for n in facts["numbers"]], Fraction(facts["goal"]))
    assert found is not None, "every problem has a solution"
    return found


def _search(have: list[Made], goal: Fraction) -> str | None:
    """Return how the goal can be made: from one step, else from the best of all that one step leaves."""
    for step in (True, False):
        for i, a in enumerate(have):
            for j, b in enumerate(have):
                if i == j:
                    continue
                rest = [one for k, one in enumerate(have) if k not in (i, j)]
                for made in _joined(a, b, first=i < j):
                    if step and made[0] == goal:
                        return made[1]
                    if not step and rest and (found := _search([*rest, made], goal)):
                        return found
    return None


def _joined(a: Made, b: Made, *, first: bool) -> Iterator[Made]:
    """Yield what two make; what does not depend on their order only when they come in the `first` one."""
    (x, x_text, x_sum), (y, y_text, y_sum) = a, b
    x_inner, y_inner = f"({x_text})" if x_sum else x_text, f"({y_text})" if y_sum else y_text
    if first:
        yield x + y, f"{x_text} + {y_text}", True
        yield x * y, f"{x_inner} * {y_inner}", False
    yield x - y, f"{x_text} - {y_inner}", True
    if y:  # what is divided by stands in brackets unless it is a number
        yield x / y, f"{x_inner} / {y_text if y_text.isdigit() else f'({y_text})'}", False
