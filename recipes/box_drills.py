"""Drills in looking back: texts in which what was read once comes again.

A model that has read little does not copy: asked for a name it was told a moment ago, it says one it knows.
The part of a transformer that finds "what came after this, the last time" (induction heads: Olsson et al.
2022, arXiv:2209.11895) is learned only where a text repeats what could not be guessed, and prose seldom does.
After 13M tokens of books the model in the box had none of it (docs/log.md has what became of it). So some of
what is read are

- tokens drawn at random, some of which come again at once, where nothing but a copy can help;
- the same over a distance: random tokens, made-up names and passages of prose, each of which comes again
  now and then with much else between. Who was taught the first only copies over a hundred tokens, not over
  a thousand;
- passages of prose that come again, word by word, after others;
- records of things with made-up names, whose values are then asked for, in a call or in a sentence.

And one kind that looks nowhere: small sums, again and again, as children learn them. It is for tuning.

The first time, a passage is prose like any other, so little reading is lost.

Not covered: tasks that need more than finding and copying.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from box_thinking import addition, product, subtraction
from box_words import business, company, made_word, name, town

from twofold.tokens import Tokenizer
from twofold.tokens.specials import END_OF_TEXT

KINDS = ("again", "disorder", "far", "records")
SHARES = (0.15, 0.15, 0.4, 0.3)
LENGTH = 900  # tokens of a drill, about; of those over a distance twice the distance
NEAR = 10  # so many passages back lies the farthest that comes again
PLAIN = 320  # tokens below are bytes and special

Ids = npt.NDArray[np.unsignedinteger[Any]]


def drills(
    prose: Iterator[Ids],
    tokenizer: Tokenizer,
    rng: random.Random,
    only: Sequence[str] = (),
    *,
    reach: int = LENGTH,
) -> Iterator[Ids]:
    """Return drills as documents of ids, until `prose`, documents to take passages from, is used up.

    `only`: of these kinds, in equal parts. `reach`: the largest distance of "far", in tokens.
    """
    separator = tokenizer.special_id(END_OF_TEXT)
    while True:
        kind = rng.choice(only) if only else rng.choices(KINDS, SHARES)[0]
        if kind in WRITTEN:
            ids: list[int] = []
            while len(ids) < LENGTH:
                ids += tokenizer.encode(WRITTEN[kind](rng) + "\n\n")
        else:
            document = next(prose, None)
            if document is None:
                return
            if kind == "again":
                ids = again(document[1 : LENGTH // 2].tolist(), rng)
            elif kind == "far":
                ids = far(document[1:].tolist(), range(PLAIN, separator), tokenizer, rng, reach)
            else:
                ids = disorder(document[1:].tolist(), range(PLAIN, separator), rng)
        yield np.array([separator, *ids])


def again(ids: Sequence[int], rng: random.Random) -> list[int]:
    """Return the tokens in passages, each followed now and then by one that was there before."""
    told: list[Sequence[int]] = []
    said: list[int] = []
    at = 0
    while at < len(ids):
        passage = ids[at : at + rng.randint(6, 60)]
        at += len(passage)
        told.append(passage)
        said += passage
        while rng.random() < 0.5:
            said += rng.choice(told[-NEAR:])
    return said


def disorder(ids: Sequence[int], every: Sequence[int], rng: random.Random) -> list[int]:
    """Return tokens drawn from `ids`, or from `every` token, which come once or twice again at once."""
    pool = [one for one in ids if one in every] or list(ids)
    said: list[int] = []
    while len(said) < LENGTH:
        size = rng.randint(3, 40)
        some = rng.choices(pool if rng.random() < 0.7 else every, k=size)
        for _ in range(rng.randint(2, 3)):
            said += [*some, *rng.choices(pool, k=rng.randint(0, 5))]
    return said


def far(
    ids: Sequence[int], every: Sequence[int], tokenizer: Tokenizer, rng: random.Random, reach: int
) -> list[int]:
    """Return the tokens `ids` in passages, and between them what comes again over up to `reach` tokens.

    That is random tokens of `ids` and of `every`, sentences with made-up names, and the passages. Half of the
    distances are drawn evenly, half by their logarithm, so that short ones are among them.
    """
    pool = [one for one in ids if one in every] or list(every)
    told: list[tuple[int, list[int]]] = []  # where each began
    said: list[int] = []
    at = 0
    while len(said) < 2 * reach:
        kind = rng.random()
        if told and kind < 0.5:
            near = math.exp(rng.uniform(math.log(20), math.log(reach)))
            back = len(said) - (near if rng.random() < 0.5 else rng.uniform(20, reach))
            piece = min(told, key=lambda one: abs(one[0] - back))[1]
        elif kind < 0.7:
            piece = rng.choices(pool if rng.random() < 0.7 else every, k=rng.randint(4, 30))
        elif kind < 0.85:
            value = rng.choice(list(VALUES.values()))(rng)
            piece = tokenizer.encode(f" {name(rng, company, 'train')} {rng.choice(JOINTS)} {value}.")
        else:
            piece = list(ids[at : at + rng.randint(10, 150)])
            at += len(piece)
        told.append((len(said), piece))
        said += piece
    return said


def records(rng: random.Random) -> str:
    """Return some records and what is asked about them, as lines of text."""
    fields = rng.sample(sorted(VALUES), rng.randint(2, 4))
    things = [
        {"name": name(rng, company, "train"), **{field: VALUES[field](rng) for field in fields}}
        for _ in range(rng.randint(1, 4))
    ]
    write = rng.choice((as_lines, as_json, as_sentences, as_table))
    lines = [write(things, rng)]
    for _ in range(rng.randint(2, 5)):
        thing, field = rng.choice(things), rng.choice(fields)
        lines.append(rng.choice((asked, called, said_again))(thing, field, rng))
    return "\n".join(lines)


def code(rng: random.Random) -> str:
    """Return letters and digits without a meaning."""
    return "".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(2)) + str(rng.randint(10, 9999))


def date(rng: random.Random) -> str:
    """Return a day in one of the usual forms."""
    year, month, day = rng.randint(1950, 2030), rng.randint(1, 12), rng.randint(1, 28)
    months = "January February March April May June July August September October November December"
    return rng.choice((f"{year}-{month:02}-{day:02}", f"{day} {months.split()[month - 1]} {year}", f"{year}"))


def amount(rng: random.Random) -> str:
    """Return a number, small or large."""
    return rng.choice(
        (f"{rng.randint(2, 99)}", f"{rng.uniform(0.1, 99):.1f} million", f"{rng.randint(100, 99999):,}")
    )


JOINTS = ("is", "has", "of", "and", "->", "=", "for", "at", "in", "with")
VALUES = {
    "town": town, "owner": made_word, "code": code, "founding date": date, "price": amount, "size": amount,
    "partner": company, "business": business, "last visit": date,
    "number": lambda rng: str(rng.randint(10, 9999)),
    "address": lambda rng: f"{rng.randint(1, 199)} {made_word(rng)} Street",
    "file": lambda rng: f"/{made_word(rng)}/{made_word(rng)}.{rng.choice(('txt', 'csv', 'md'))}".lower(),
}  # fmt: skip


def as_lines(things: list[dict[str, str]], rng: random.Random) -> str:
    """Return one field a line."""
    mark = rng.choice((": ", " = ", " - "))
    return "\n\n".join("\n".join(f"{key}{mark}{value}" for key, value in one.items()) for one in things)


def as_json(things: list[dict[str, str]], rng: random.Random) -> str:
    """Return an object a line."""
    return "\n".join(json.dumps(one) for one in things)


def as_sentences(things: list[dict[str, str]], rng: random.Random) -> str:
    """Return a sentence for each field, in any order."""
    sentences = [
        rng.choice((f"The {key} of {one['name']} is {value}.", f"{one['name']}'s {key}: {value}."))
        for one in things
        for key, value in one.items()
        if key != "name"
    ]
    rng.shuffle(sentences)
    return " ".join(sentences)


def as_table(things: list[dict[str, str]], rng: random.Random) -> str:
    """Return a table in Markdown."""
    keys = list(things[0])
    rows = [keys, ["---"] * len(keys), *(list(one.values()) for one in things)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def asked(thing: dict[str, str], field: str, rng: random.Random) -> str:
    """Return a question about a field and its answer."""
    question = rng.choice(
        (f"What is the {field} of {thing['name']}?", f"Tell me the {field} of {thing['name']}.",
         f"{thing['name']}: which {field}?")
    )  # fmt: skip
    answer = rng.choice((thing[field], f"It is {thing[field]}.", f"The {field} is {thing[field]}."))
    if rng.random() < 0.3:
        return f"Whose {field} is {thing[field]}? {thing['name']}."
    return f"{question} {answer}"


def called(thing: dict[str, str], field: str, rng: random.Random) -> str:
    """Return a wish and the call that carries it out."""
    verb = rng.choice(("find", "save", "look_up", "send", "note", "open"))
    tool = f"{verb}_{rng.choice(('item', field.replace(' ', '_')))}"
    arguments = {"name": thing["name"], field: thing[field]}
    wish = rng.choice(("Note the", "Please save the", "Look up the", "Send the"))
    call = json.dumps({"name": tool, "arguments": arguments})
    return f"Function {tool}(name, {field}). {wish} {field} of {thing['name']}. {call}"


def said_again(thing: dict[str, str], field: str, rng: random.Random) -> str:
    """Return a sentence that says a field of the record once more."""
    return rng.choice((f"{thing['name']} has {thing[field]} as its {field}.", f"So {thing[field]} is right."))


def sums(rng: random.Random) -> str:
    """Return small sums by heart, and larger ones step by step."""
    lines = []
    for _ in range(rng.randint(4, 10)):
        sign = rng.choice("++-*/")
        most = 10 if sign in "*/" else 20
        a, b = rng.randint(0, most), rng.randint(0, most)
        if sign == "-":
            a, b = max(a, b), min(a, b)
        if sign == "/":
            a, b = a * (b or 1), b or 1
        got = {"+": a + b, "-": a - b, "*": a * b, "/": a // max(1, b)}[sign]
        lines.append(f"{a} {sign} {b} = {got}")
    a, b = sorted((rng.randint(11, 9999), rng.randint(11, 9999)), reverse=True)
    steps = rng.choice((addition(a, b), subtraction(a, b), product(a % 990 + 10, rng.randint(2, 9))))
    return rng.choice(("\n", ". ", ", ", "; ")).join(lines) + "\n" + steps


WRITTEN = {"records": records, "sums": sums}
