"""Conversations about a passage that the user gives: the answer stands in it, or it does not say.

A passage is some facts about one made-up thing, in any order, taken from box_passages.txt; a question asks
for one of them, or for one that was left out. `elsewhere` asks passages of another set what they do not say.
"""

import functools
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from box_lessons import DAYS, MONTHS, capital
from box_turns import Message, Talk, roughly, says, user
from box_words import Side, company, expand, made_word, name, town, wordings

NOT_SAID = "The text does not say."
MISSING = 0.4  # share of questions whose answer is not in the passage


class Fact(NamedTuple):
    """A line of box_passages.txt."""

    value: str
    statement: str
    questions: tuple[str, ...]
    answer: str


@functools.cache
def kinds() -> dict[str, tuple[str, list[Fact]]]:
    """Return each kind of passage: how its thing is named, and its facts."""
    found: dict[str, tuple[str, list[Fact]]] = {}
    facts: list[Fact] = []
    for line in Path(__file__).with_name("box_passages.txt").read_text().splitlines():
        if line.startswith("== "):
            kind, named = (part.strip() for part in line[3:].split("|"))
            found[kind] = (named, facts := [])
        elif line and not line.startswith("#"):
            value, statement, questions, answer = line.split(" | ")
            facts.append(Fact(value, statement, tuple(one.strip() for one in questions.split(";")), answer))
    return found


def made(rng: random.Random, value: str, side: Side) -> str:
    """Return a value of the kind that a line asks for."""
    if match := re.fullmatch(r"(\d+)-(\d+)", value):
        return str(rng.randint(int(match[1]), int(match[2])))
    if value in ("TOWN", "COMPANY", "WORD"):
        return name(rng, {"TOWN": town, "COMPANY": company, "WORD": made_word}[value], side)
    if value in ("DAY", "MONTH"):
        return rng.choice(DAYS if value == "DAY" else MONTHS)
    if value == "YEAR":
        return str(rng.randint(1050, 2023))
    if value == "CLOCK":
        return f"{rng.randint(5, 23)}:{rng.choice(('00', '15', '30', '45', '10', '50'))}"
    return rng.choice(value.split("; "))


def passage(rng: random.Random, side: Side) -> tuple[str, list[tuple[str, str, str]], list[str]]:
    """Return a passage, what it says as (question, answer, value), and questions that it leaves open."""
    named, facts = rng.choice([*kinds().values()])
    thing = made(rng, named, side)
    bare = re.sub(r"^an? ", "the ", thing)
    names = {"n": thing, "N": capital(thing), "d": bare, "D": capital(bare)}
    chosen = rng.sample(facts, rng.randint(3, min(7, len(facts) - 1)))
    lines, known = [], []
    for fact in chosen:
        value = made(rng, fact.value, side)
        lines.append(sentence(expand(rng, fact.statement, **names, v=value)))
        question = expand(rng, rng.choice(fact.questions), **names)
        known.append((question, sentence(expand(rng, fact.answer, **names, v=value)), value))
    if thing.startswith(("a ", "an ")) and named.startswith("a fox"):
        lines.insert(0, f"In the zoo there is {thing}.")
    elif not re.search(re.escape(bare), " ".join(lines), re.IGNORECASE):
        lines.insert(0, f"This is about {bare}.")
    left = [expand(rng, rng.choice(fact.questions), **names) for fact in facts if fact not in chosen]
    return " ".join(lines), known, left


def sentence(text: str) -> str:
    """Return the text with a capital at its head and one full stop."""
    return capital(text.strip())


def asked(rng: random.Random, side: Side, text: str, question: str) -> Message:
    """Return the passage and a question about it as one message, in one of several forms."""
    return user(
        wordings("passage").draw(rng, side).replace("\\n", "\n").replace("{p}", text).replace("{q}", question)
    )


def from_passage(rng: random.Random, side: Side = "train") -> Talk:
    """Return a passage with one to three questions and their answers."""
    text, known, left = passage(rng, side)
    rng.shuffle(known)
    messages: list[Message] = []
    for question, answer, value in known[: rng.choice((1, 1, 2, 3))]:
        missing = rng.random() < MISSING
        if missing:
            question, reply = rng.choice(left), says(NOT_SAID, "not say")
        else:
            reply = says(answer, value, never=("not say",))
        messages += [user(roughly(rng, question)) if messages else asked(rng, side, text, question), reply]
    return Talk("passage", messages)


def elsewhere(
    passages: Sequence[tuple[str, Sequence[tuple[str, str]]]], rng: random.Random, count: int
) -> Iterator[list[tuple[str, str]]]:
    """Return turns in which a passage is asked a question that belongs to another one, `count` of them."""
    for _ in range(count):
        (text, _), (_, others) = rng.sample(list(passages), 2)
        question = rng.choice(others)[0]
        yield [(asked(rng, "train", text, question)["content"], NOT_SAID)]
