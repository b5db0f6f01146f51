"""Word problems: a short story with numbers too large for the head, and a calculator at hand.

The solver turns the story into one sum, calls the calculator, and says the result. Right is the last number
of the last answer; whether the calculator was used does not matter. Stories are made from patterns with other
things and numbers, so they train reading a pattern rather than reading. Not covered: units, fractions.
"""

import random
import re
from collections.abc import Iterator
from typing import Any

from twofold.environments import Episode, Problem, Split, last_number, only, said
from twofold.environments._calls import Calling, schema, spell
from twofold.environments._sums import SumError, evaluate
from twofold.environments._sums import spell as shown

ANSWER_TOKENS = 96
CALCULATOR = schema("calculator", "Works out a sum.", expression="string")
WHO = ("a baker", "a farmer", "a gardener", "a teacher", "a librarian", "a carpenter", "a fisher", "a miller")
THINGS = ("apples", "nails", "books", "eggs", "roses", "loaves", "stones", "candles", "plates", "seeds")
BOXES = ("boxes", "baskets", "crates", "bags", "shelves", "carts")
# A story and the sum that solves it. {a} is large, {b} and {c} are middling, {d} is small.
PATTERNS = (
    ("{Who} has {a} {things} and gets {b} more. How many {things} are there?", "{a} + {b}"),
    ("{Who} has {a} {things} and gives away {b}. How many {things} are left?", "{a} - {b}"),
    ("{Who} fills {b} {boxes} with {c} {things} each. How many {things} is that?", "{b} * {c}"),
    ("{Who} fills {b} {boxes} with {c} {things} each and has {a} over. How many {things} is that?",
     "{b} * {c} + {a}"),
    ("{Who} has {b} {boxes} of {c} {things} and sells {d} of the {boxes}. How many {things} are left?",
     "({b} - {d}) * {c}"),
    ("{Who} gets {a} {things} in the morning and {b} in the evening, and breaks {d}. How many are whole?",
     "{a} + {b} - {d}"),
    ("{Who} sells {b} {things} for {c} coins each and pays {a} coins of rent. How many coins are left?",
     "{b} * {c} - {a}"),
    ("{Who} packs {product} {things} into {boxes} of {d}. How many {boxes} are full?", "{product} / {d}"),
)  # fmt: skip


def problems(seed: int, split: Split) -> Iterator[Problem]:
    """Return problems in an endless stream."""
    return only(split, _all(random.Random(f"word_problems {seed} {split}")))


def _all(chance: random.Random) -> Iterator[Problem]:
    while True:
        story, pattern = chance.choice(PATTERNS)
        who, d = chance.choice(WHO), chance.randint(2, 9)
        numbers: dict[str, Any] = {
            "a": chance.randint(100, 999), "b": chance.randint(11, 99), "c": chance.randint(11, 99),
            "d": d, "product": d * chance.randint(25, 400),
        }  # fmt: skip
        sum_ = pattern.format(**numbers)
        things, boxes = chance.choice(THINGS), chance.choice(BOXES)
        text = story.format(Who=who[0].upper() + who[1:], things=things, boxes=boxes, **numbers)
        facts = {"sum": sum_, "right": int(evaluate(sum_)[0])}
        # Another baker with other eggs and the same numbers is the same problem.
        yield Problem(text, f"{pattern} {sum_}", facts, [CALCULATOR])


def begin(problem: Problem, seed: int = 0) -> Episode:
    """Return an attempt at a problem, with a calculator; there is no chance in it."""
    return Calling(problem, {"calculator": calculator}, reward)


def calculator(arguments: dict[str, Any]) -> str:
    """Return what the calculator says."""
    try:
        return shown(evaluate(str(arguments.get("expression", "")))[0])
    except SumError as error:
        return f"error: {error}"


def reward(problem: Problem, answer: str) -> float:
    """Return 1 for the right number, else 0."""
    return float(last_number(said(answer)) == problem.facts["right"])


def solve(episode: Episode) -> str:
    """Return the call of the calculator, and then what it said."""
    last = episode.messages[-1]
    if last["role"] == "tool" and re.fullmatch(r"-?[\d.]+", last["content"]):
        return str(last["content"])
    return spell("calculator", {"expression": episode.problem.facts["sum"]})
