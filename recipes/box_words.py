"""A small grammar for wordings, and names of things that never were.

    expand(rng, "[What is|How much is|Work out] {sum}[|, please]?")

A pattern in which [a|b|c] stands for one of its choices, nested as one likes, is a few lines long and means
thousands of sentences. `count` says how many. A part of the names is held out by a hash of the name, so that
a model can be asked about some that it was never trained on.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import dataclasses
import functools
import hashlib
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

Side = Literal["train", "test"]


@dataclasses.dataclass(frozen=True)
class Wordings:
    """Patterns for one wish: those to learn from, and others to be asked with."""

    train: tuple[str, ...]
    test: tuple[str, ...]

    def draw(self, rng: random.Random, side: Side, **fields: object) -> str:
        """Return one of the texts of a side."""
        return one(rng, self.train if side == "train" else self.test, **fields)


@functools.cache
def _sections() -> dict[str, list[str]]:
    """Return the lines of each section of box_wordings.txt, its parts put in."""
    found: dict[str, list[str]] = {}
    parts: dict[str, str] = {}
    lines: list[str] = []
    for line in Path(__file__).with_name("box_wordings.txt").read_text().splitlines():
        if line.startswith("@"):
            part, pattern = line[1:].split(" = ", 1)
            parts[part] = pattern
        elif line.startswith("== "):
            lines = found.setdefault(line[3:], [])
        elif line and not line.startswith("#"):
            for part, pattern in parts.items():
                line = line.replace("{" + part + "}", pattern)
            lines.append(line)
    return found


@functools.cache
def wordings(name: str) -> Wordings:
    """Return the wordings of a wish, from box_wordings.txt."""
    lines = _sections()[name]
    at = lines.index("--")
    return Wordings(tuple(lines[:at]), tuple(lines[at + 1 :]))


@functools.cache
def words(name: str) -> tuple[str, ...]:
    """Return a list of words, from box_wordings.txt."""
    return tuple(word.strip() for word in " ".join(_sections()[f"list {name}"]).split(";"))


HELD_OUT = 8  # one in so many names
_SPACES = re.compile(r" +([.,!?](?=\s|$))| {2,}")  # what choices that are empty leave behind
_INNERMOST = re.compile(r"\[([^\[\]]*)\]")


def expand(rng: random.Random, pattern: str, **fields: object) -> str:
    """Return one of the texts that a pattern means, then with the fields {name} filled in."""
    while found := _INNERMOST.search(pattern):
        pattern = pattern[: found.start()] + rng.choice(found[1].split("|")) + pattern[found.end() :]
    text = _SPACES.sub(lambda match: match[1] or " ", pattern).strip()
    for field, value in fields.items():
        text = text.replace("{" + field + "}", str(value))
    return text


def articles(text: str) -> str:
    """Return the text with `an` for `a` before a vowel."""
    return re.sub(r"\b([Aa]) (?=[aeiou](?!ne\b|ni|se))", r"\1n ", text)


def one(rng: random.Random, patterns: Sequence[str], **fields: object) -> str:
    """Return one of the texts that some patterns mean; a pattern of many texts comes more often."""
    weights = [count(pattern) ** 0.3 for pattern in patterns]
    return expand(rng, rng.choices(patterns, weights)[0], **fields)


def count(pattern: str) -> int:
    """Return how many texts a pattern means."""
    number = 0
    choices: list[list[int]] = [[1]]
    for character in pattern:
        if character == "[":
            choices.append([1])
        elif character == "|":
            choices[-1].append(1)
        elif character == "]":
            number = sum(choices.pop())
            choices[-1][-1] *= number
    return sum(choices[0])


def held_out(name: str) -> bool:
    """Return whether a name belongs to those that nothing is trained on."""
    return hashlib.sha256(name.lower().encode()).digest()[0] % HELD_OUT == 0


def name(rng: random.Random, make: Callable[[random.Random], str], side: Side) -> str:
    """Return a name that `make` gives, of this side."""
    while held_out(found := make(rng)) != (side == "test"):
        pass
    return found


STARTS = "b br c cl d dr f fl g gl h j k l m n p pl qu r s st t tr v w z".split()
MIDDLES = "a e i o u ai ea io oo".split()
ENDS = "x n r l s th nd rk va ra no ly mo ta zo lio via dex rix tum".split()


def made_word(rng: random.Random) -> str:
    """Return a word that means nothing, capitalised."""
    syllables = "".join(rng.choice(STARTS) + rng.choice(MIDDLES) for _ in range(rng.choice((1, 1, 2))))
    return (syllables + rng.choice(ENDS)).capitalize()


def company(rng: random.Random) -> str:
    """Return the name of a company that is made up."""
    kind = rng.randrange(5)
    if kind == 0:
        return made_word(rng)
    if kind == 1:
        return f"{made_word(rng)} {rng.choice(words('names, last'))}"
    if kind == 2:
        return f"{rng.choice(words('names, first'))}{rng.choice(words('names, first')).lower()}"
    if kind == 3:
        first, second = rng.sample(words("names, first"), 2)
        return f"{first} {second} {rng.choice(words('names, last'))}"
    return f"{rng.choice(words('names, first'))} {rng.choice(words('names, last'))}"


def town(rng: random.Random) -> str:
    """Return the name of a town that is made up."""
    ends = ("ton", "ford", "ville", "burg", "haven", "field", "mouth", "bridge", "stad", "wick", "dale")
    first = rng.choice(words("names, first")) if rng.random() < 0.5 else made_word(rng)
    return (
        f"{first}{rng.choice(ends)}"
        if rng.random() < 0.7
        else f"{rng.choice(('Port', 'New', 'Lake'))} {first}"
    )


def business(rng: random.Random) -> str:
    """Return what a company does: "makes robots for farms"."""
    verb = rng.choice(("makes", "sells", "builds", "designs"))
    return f"{verb} {rng.choice(words('makes'))} for {rng.choice(words('for'))}"
