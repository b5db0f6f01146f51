"""Short conversations about everyday things, in which what the user said comes back later.

Each is one of the little plays in box_chats.txt, played up to some turn, with a question about what was said
before; between them may come small talk or a lesson, so that the answer has to be found further back.
"""

import functools
import random
import re
from pathlib import Path
from typing import NamedTuple

import box_passages
import box_talk
import box_unknown
from box_lessons import capital, lesson
from box_turns import Message, Talk, roughly, says, user
from box_words import HELD_OUT, Side, articles, expand, wordings


class Play(NamedTuple):
    """One of box_chats.txt: what may stand in its slots, its turns, and what may be asked later."""

    slots: dict[str, list[str]]
    turns: list[tuple[str, str]]
    later: list[tuple[str, str]]


@functools.cache
def plays() -> dict[str, Play]:
    """Return the plays by name."""
    found: dict[str, Play] = {}
    said = ""
    for line in Path(__file__).with_name("box_chats.txt").read_text().splitlines():
        if line.startswith("== "):
            play = found[line[3:]] = Play({}, [], [])
        elif line.startswith("@"):
            slot, values = line[1:].split(" = ")
            play.slots[slot] = [value.strip() for value in values.split(";")]
        elif line.startswith("u: "):
            said = line[3:]
        elif line.startswith("a: "):
            play.turns.append((said, line[3:]))
        elif line.startswith("r: "):
            question, answer = line[3:].split(" => ")
            play.later.append((question.strip(), answer))
    return found


def fill(rng: random.Random, play: Play, side: Side) -> dict[str, str]:
    """Return one value for each slot; every eighth value is held out for the test, also capitalised."""
    values = {}
    for slot, some in play.slots.items():
        held = some[HELD_OUT - 1 :: HELD_OUT] or some
        values[slot] = rng.choice(
            held if side == "test" else [one for one in some if one not in held] or some
        )
    return values | {capital(slot): capital(value) for slot, value in values.items()}


def chat(rng: random.Random, side: Side = "train") -> Talk:
    """Return a play up to some turn, and what was said before asked for."""
    play, values, back = begun(rng, side)
    messages: list[Message] = []
    told = ""
    for asked, answer in play.turns[: rng.randint(1, len(play.turns))]:
        text = articles(expand(rng, asked, **values))
        told += f" {text}"
        messages += [user(roughly(rng, text)), says(articles(expand(rng, answer, **back)))]
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        messages += _exchange(rng, side)
    if rng.random() < 0.7:
        messages += later(rng, side, play, values, back, told)
    return Talk("chat", messages)


def begun(rng: random.Random, side: Side) -> tuple[Play, dict[str, str], dict[str, str]]:
    """Return a play, what stands in its slots, and how that is said back to the user."""
    play = rng.choice([*plays().values()])
    values = fill(rng, play, side)
    return play, values, {slot: _yours(value) for slot, value in values.items()}


def later(
    rng: random.Random, side: Side, play: Play, values: dict[str, str], back: dict[str, str], told: str
) -> list[Message]:
    """Return a question about something that was told, and its answer; nothing where nothing was."""
    known = [(question, answer) for question, answer in play.later if _told(question, answer, values, told)]
    if not known:
        return []
    question, answer = rng.choice(known)
    question = articles(expand(rng, question, **values))
    lower = question[:1].lower() + question[1:]
    asked = wordings("recall").draw(rng, side, q=question, l=lower)
    return [user(roughly(rng, asked)), says(articles(expand(rng, answer, **back)), _kept(answer, back))]


def _small(rng: random.Random) -> tuple[str, str]:
    return box_talk.talk(rng, "facts", "filler", "jokes", "self")


def _told(question: str, answer: str, values: dict[str, str], told: str) -> bool:
    """Return whether the user has said everything that a question and its answer speak of."""
    slots = {slot.lower() for slot in re.findall(r"\{(\w+)\}", question + answer)}
    return all(values[slot].lower() in told.lower() for slot in slots)


def _kept(answer: str, values: dict[str, str]) -> str:
    """Return the value that an answer has to hold: that of its last slot."""
    return values[re.findall(r"\{(\w+)\}", answer)[-1].lower()]


def _yours(value: str) -> str:
    """Return a value that the user spoke, as it is said back: my dog, your dog."""
    for mine, yours in (("my", "your"), ("My", "Your"), ("I am", "you are"), ("I", "you"), ("me", "you")):
        value = re.sub(rf"\b{mine}\b", yours, value)
    return value


def ramble(rng: random.Random, side: Side = "train") -> Talk:
    """Return a longer conversation that changes its subject, and comes back to what was said at its start."""
    messages: list[Message] = []
    if rng.random() < 0.6:
        asked, answer = box_talk.talk(rng, "hello")
        messages += [user(asked), says(answer)]
    play, values, back = begun(rng, side)
    told = ""
    for asked, answer in play.turns[: rng.randint(1, 3)]:
        text = articles(expand(rng, asked, **values))
        told += f" {text}"
        messages += [user(roughly(rng, text)), says(articles(expand(rng, answer, **back)))]
    for _ in range(rng.randint(2, 4)):
        messages += rng.choice((_exchange, _exchange, _other))(rng, side)
    messages += later(rng, side, play, values, back, told)
    if rng.random() < 0.5:
        asked, answer = box_talk.talk(rng, "thanks", "bye")
        messages += [user(asked), says(answer)]
    return Talk("chat", messages)


def _exchange(rng: random.Random, side: Side) -> list[Message]:
    question, reply = rng.choice((lesson, _small))(rng)
    return [user(roughly(rng, question)), says(reply)]


def _other(rng: random.Random, side: Side) -> list[Message]:
    makers = (box_unknown.nothing, box_unknown.today, box_unknown.private, box_passages.from_passage)
    return rng.choice((*makers, chat))(rng, side).messages


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation about everyday things, short or long."""
    return (chat if rng.random() < 0.6 else ramble)(rng, side)
