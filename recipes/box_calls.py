"""Conversations in which one tool is called, none is needed, or the one that is needed is not on offer.

`talk(rng, side)` returns one. Requests come from small grammars, numbers and names at random; what the tool
answers is made up, and the assistant says no more than that. When no tool on offer can do what is asked, the
assistant says so instead of guessing.
"""

import random
from collections.abc import Callable
from typing import Any

import box_talk
from box_lessons import DAYS, MONTHS, capital
from box_tools import calculated, offer, result
from box_turns import Message, Talk, roughly, says, user
from box_words import Side, business, company, expand, name, town, wordings, words

Done = tuple[dict[str, Any], str, Message]  # arguments of a call, the tool's answer, the assistant's


def timer(rng: random.Random, side: Side) -> Done:
    """Return the arguments of a timer, what it says, and what is said then; the others likewise."""
    minutes, label = rng.randint(1, 180), rng.choice(words("chores"))
    said = f"The timer is set: {label} in {minutes} minutes."
    return {"minutes": minutes, "label": label}, "ok", says(said, str(minutes))


def conversion(rng: random.Random, side: Side) -> Done:
    source, target, rate = rng.choice(words("units")).split(":")
    amount = rng.randint(2, 900)
    got = calculated(f"{amount} * {rate}")
    answer = says(f"{amount} {source} are {got} {target}.", got)
    return {"amount": amount, "source": source, "target": target}, got, answer


def listing(rng: random.Random, side: Side) -> Done:
    item = " and ".join(rng.sample(words("items"), rng.choice((1, 1, 2))))
    kind = rng.choice(words("lists"))
    return {"list": kind, "item": item}, "ok", says(f"I put {item} on the {kind} list.", item)


def skies(rng: random.Random, side: Side) -> Done:
    place, sky, degrees = name(rng, town, side), rng.choice(words("skies")), rng.randint(-12, 36)
    forms = (f"{sky}, {degrees} degrees", f"{degrees} C, {sky}", f'{{"sky": "{sky}", "degrees": {degrees}}}')
    answer = says(f"In {place}: {sky}, {degrees} degrees.", str(degrees), sky)
    return {"place": place}, rng.choice(forms), answer


def hours(rng: random.Random, side: Side) -> Done:
    date = f"{rng.choice(DAYS)}, {rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2024, 2035)}"
    time = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    return {}, f"{date}, {time}", says(f"It is {date}, {time}.", time)


def reading(rng: random.Random, side: Side) -> Done:
    number = rng.choice(("", "", f"-{rng.randint(1, 99)}"))
    path = f"{rng.choice(words('files'))}{number}.{rng.choice(('txt', 'md'))}"
    got = (
        f"{capital(rng.choice(words('news')))}. {capital(rng.choice(words('topics')))}: {rng.randint(2, 99)}."
    )
    return {"path": path}, got, says(f"{path} says: {got}", got)


def writing(rng: random.Random, side: Side) -> Done:
    to, text = rng.choice(words("people")), rng.choice(words("news"))
    return {"to": to, "text": text}, "sent", says(f"I wrote to {to}: {text}.", to)


def leafing(rng: random.Random, side: Side) -> Done:
    file, topic = f"{rng.choice(words('files'))}.txt", rng.choice(words("topics"))
    fact = f"{capital(topic)}: {rng.choice(words('news'))}, {rng.randint(2, 900)}."
    query = " and ".join(rng.sample(words("topics"), rng.choice((1, 1, 2))))
    return {"query": query}, f"{file}: {fact}", says(f"In {file} it says: {fact}", fact)


def painting(rng: random.Random, side: Side) -> Done:
    where = rng.choice(("", rng.choice(words("places of pictures"))))
    file = f"image-{rng.randint(1, 99)}"
    answer = says(f"Here is the picture: {file}.png", file)
    return {"prompt": f"{rng.choice(words('pictures'))} {where}".strip()}, f"{file}.png", answer


def searching(rng: random.Random, side: Side) -> Done:
    """Return the search for a fact about something made up, what is found, and what is said of it."""
    facts = wordings("facts").train
    line = rng.choice(facts)
    what, fact = line.split(" => ")
    names = {"town": name(rng, town, side), "company": name(rng, company, side)}
    if rng.random() < 0.15:  # the page is about something else
        fact, missing = rng.choice([one for one in facts if one != line]).split(" => ")[1], True
    else:
        missing = False
    numbers = {"small": rng.randint(2, 320), "year": rng.randint(1750, 2023), "large": rng.randint(2, 990)}
    truth = expand(rng, fact, **names, **numbers, other=town(rng), business=business(rng))
    got = rng.choice(("", f"Page {rng.randint(1, 9)}: ", f"{rng.randint(1, 9)}. ")) + truth
    answer = says("The pages I found do not say that.", "not say") if missing else says(truth, truth)
    return {"query": what.format(**names)}, got, answer


KINDS: dict[str, Callable[[random.Random, Side], Done]] = {
    "set_timer": timer, "convert": conversion, "add_item": listing, "weather": skies, "clock": hours,
    "read_file": reading, "send_message": writing, "look_up": leafing, "image": painting, "search": searching,
}  # fmt: skip
# What could be tried instead of the tool that is asked for, and so is not on offer when it is to be missing.
INSTEAD = {
    "search": ("look_up", "weather"), "look_up": ("search", "read_file"), "weather": ("search",),
    "clock": ("set_timer",), "convert": ("calculator",), "image": ("plot",), "set_timer": ("clock",),
    "add_item": ("send_message",), "read_file": ("look_up",), "send_message": ("add_item",),
}  # fmt: skip


def calling(rng: random.Random, side: Side, kind: str | None = None) -> Talk:
    """Return a request, the call of the right tool among others, its result, and the answer."""
    kind = kind or rng.choice([*KINDS])
    tools = offer(rng, [kind], rng.choice((0, 1, 1, 2, 3)), INSTEAD.get(kind, ()))
    values, got, answer = KINDS[kind](rng, side)
    asked = user(roughly(rng, wordings(kind).draw(rng, side, **values)))
    return Talk("tools", [asked, tools[kind].call(**values), result(got), answer], tools)


LACKING = {
    "set_timer": "I have no timer here, so I cannot remind you.",
    "convert": "I have no tool to convert units here.",
    "add_item": "I have no lists here that I could write on.",
    "weather": "I cannot look outside, and I have no tool for the weather here.",
    "clock": "I have no clock here, so I do not know.",
    "read_file": "I cannot open files here.",
    "send_message": "I cannot send messages here.",
    "look_up": "I cannot see your files here.",
    "search": "I do not know that, and I have no tool to search the web here.",
    "image": "I cannot draw pictures here; I can only write words.",
}


def lacking(rng: random.Random, side: Side) -> Talk:
    """Return a request that no tool on offer can do, and the assistant saying so."""
    kind = rng.choice([*LACKING])
    others = rng.choice((0, 0, 1, 2))
    tools = offer(rng, [], others, (kind, *INSTEAD[kind], "python")) if others else {}
    values, _, _ = KINDS[kind](rng, side)
    asked = user(roughly(rng, wordings(kind).draw(rng, side, **values)))
    text = LACKING[kind]
    return Talk("no tool", [asked, says(text, "cannot" if "cannot" in text else "no")], tools)


def unneeded(rng: random.Random, side: Side) -> Talk:
    """Return small talk with tools on offer that it does not need."""
    tools = offer(rng, [], rng.choice((1, 2, 3)), ("calculator", "python"))
    groups = ("hello", "thanks", "bye", "self", "feelings", "filler", "facts", "jokes")
    asked, answer = box_talk.talk(rng, *groups)
    return Talk("no tool", [user(asked), says(answer)], tools)


def several(rng: random.Random, side: Side) -> Talk:
    """Return two or three requests for different tools, one after the other, all of them on offer."""
    kinds = rng.sample([*KINDS], rng.choice((2, 2, 3)))
    tools = offer(rng, kinds, rng.choice((0, 1)))
    messages: list[Message] = []
    for kind in kinds:
        values, got, answer = KINDS[kind](rng, side)
        asked = user(roughly(rng, wordings(kind).draw(rng, side, **values)))
        messages += [asked, tools[kind].call(**values), result(got), answer]
    return Talk("tools", messages, tools)


def failing(rng: random.Random, side: Side) -> Talk:
    """Return a call that a tool answers with an error, and the assistant passing that on."""
    talk = calling(rng, side)
    error = rng.choice(words("errors"))
    messages = [*talk.messages[:2], result(f"error: {error}"), says(f"That did not work: {error}.", error)]
    return Talk("tools", messages, talk.tools)


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation with tools on offer, or without the one that is needed."""
    makers = (calling, several, failing, lacking, unneeded)
    return rng.choices(makers, (0.47, 0.11, 0.04, 0.28, 0.1))[0](rng, side)
