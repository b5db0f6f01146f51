"""Conversations in which one tool is called, none is needed, or the one that is needed is not on offer.

`talk(rng, side)` returns one. Requests come from small grammars, numbers and names at random; what the tool
answers is made up, and the assistant says no more than that. When no tool on offer can do what is asked, the
assistant says so instead of guessing.
"""

# ruff: noqa: SIM905 (a list of words reads best as one line of text)

import random
from collections.abc import Callable
from typing import Any

import box_talk
from box_lessons import DAYS, MONTHS
from box_tools import calculated, offer, result
from box_turns import Message, Talk, roughly, says, user
from box_words import Side, Wordings, business, company, name, town

Made = tuple[str, dict[str, Any], str, Message]  # request, arguments, the tool's answer, the assistant's

ASK = "[|Please |Could you |Can you |Would you |I want you to |I need you to ]"
ASKED = {
    "set_timer": Wordings(
        (ASK + "[set|start] a[ {minutes}-minute timer| timer of {minutes} minutes| timer for {minutes} minutes]"
         "[ for {label}|, it is for {label}| and call it {label}].",
         "[Remind me of|Tell me about|Call me for] {label} in {minutes} minutes[|, please].",
         "[In|After] {minutes} minutes I must [see to|think of|look at] {label}[|, so set a timer].",
         "{label} [need|take|will take] {minutes} minutes[, set a timer|. Start the timer|, please ring then]."),
        ("Let it ring {minutes} minutes from now for {label}.", "Timer, {minutes} minutes, {label}!",
         "I have {label} to do in {minutes} minutes; wake me then."),
    ),
    "convert": Wordings(
        (ASK + "[convert|change|turn] {amount} {source} [to|into] {target}.",
         "[How many|How much is that in] {target}[ are| make| is]: {amount} {source}?",
         "What [is|are] {amount} {source} in {target}?", "{amount} {source} in {target}[?|, please.]"),
        ("Express {amount} {source} in {target}.", "I have {amount} {source}. What is that in {target}?"),
    ),
    "add_item": Wordings(
        (ASK + "[put|add|write] {item} [on|to] [the|my|our] {list} list.",
         "[The|My|Our] {list} list [needs|lacks|should have] {item}[|, please].",
         "We [need|are out of] {item}[, put it on|. Add it to] the {list} list."),
        ("{item} should go on the {list} list.", "Do not let me forget {item}: {list} list!"),
    ),
    "weather": Wordings(
        ("[What|How] is the weather [|like ][in|at] {place}[| today| now]?", ASK + "check the weather in {place}.",
         "[Is it raining|Is it cold|Is it warm|Do I need a coat|Does the sun shine] in {place}[| today]?"),
        ("Will I get wet in {place} today?", "Tell me what the sky does over {place}."),
    ),
    "clock": Wordings(
        ("What time is it[| now| please]?", "[What is|Tell me] [the date|today's date|the time][| please].",
         "[Which|What] day is [it|today]?", "How late is it?"),
        ("Do you have the time?", "What is the date today, please?"),
    ),
    "read_file": Wordings(
        (ASK + "[open|read|show me|show] [the file |]{path}.", "What [is|stands|does it say] in {path}?"),
        ("I want to see {path}.", "Give me the contents of {path}."),
    ),
    "send_message": Wordings(
        (ASK + "[write|tell|send] {to}[ that| a message:|:] {text}.",
         "[Let|Please let] {to} know[ that|:] {text}.", "Message {to}: {text}."),
        ("{to} should hear that {text}.", "Pass on to {to} that {text}."),
    ),
    "look_up": Wordings(
        (ASK + "[search|look in|go through] my [files|notes|papers] for {query}.",
         "What do my [files|notes|papers] say about {query}?", "[Find|Are there] [my notes|notes|files] on {query}[|, please]."),
        ("Did I write anything about {query}?", "Look among my papers for {query}."),
    ),
    "search": Wordings(
        (ASK + "[search|look|browse] [the web |the internet |online |]for {query}.",
         "[Find out|Look up] {query}[|, please].", ASK + "[google|find] {query}[| on the web| for me]."),
        ("I would like to know {query}, check the web.", "See what the internet says of {query}."),
    ),
    "image": Wordings(
        (ASK + "[draw|paint|make|create] [a picture|an image|a drawing] of {prompt}.",
         "[Draw|Paint] {prompt}[|, please| for me].", "[I would like|I want|Make me] a picture of {prompt}."),
        ("Show me what {prompt} looks like, drawn.", "A painting of {prompt}, please!"),
    ),
}  # fmt: skip
CHORES = "the eggs;the cake;the laundry;a walk;the soup;a break;the oven;the tea;the pasta;the bread;my nap;the rice;the dough;the call;the bus;the plants".split(
    ";"
)
UNITS = "km:miles:0.621;kg:pounds:2.205;litres:gallons:0.264;metres:feet:3.281;hours:minutes:60;days:hours:24;weeks:days:7;inches:cm:2.54;miles:km:1.609;feet:metres:0.305;grams:ounces:0.035".split(
    ";"
)
ITEMS = "milk bread rice soap apples paper string tea salt oats honey nails paint lamps batteries onions flour eggs butter candles rope seeds gloves stamps".split()
LISTS = "shopping garden travel kitchen school repair party office camping birthday moving reading".split()
SKIES = "sunny;cloudy;light rain;heavy rain;snow;fog;windy;clear;a thunderstorm;drizzle;overcast".split(";")
FILES = (
    "notes letter plan list report diary recipe budget invoice readme speech menu schedule tickets".split()
)
PEOPLE = "my sister;my brother;my boss;the landlord;my mother;the team;our neighbour;my teacher;the office;my doctor;the plumber;my friend".split(
    ";"
)
NEWS = "I will be late;the train is late;dinner is ready;I am on my way;the key is under the mat;the meeting is moved;I have the tickets;the parcel came;it works again;we start at nine;I am ill today;the car is fixed".split(
    ";"
)
TOPICS = "solar panels;the old bridge;honey bees;steam engines;maps;the rent;tides;the roof;tax;apple trees;the heating;bicycles;tea;the boat;the insurance;school fees".split(
    ";"
)
THINGS = "a cat;a red house;a ship at sea;a fox in the snow;an old lamp;two owls;a tree on a hill;a robot;a bowl of fruit;a lighthouse;a blue bird;a garden;a train;a castle;a bear with a kite;a market".split(
    ";"
)
PLACES_OF = "in the fog;at night;by the sea;in spring;on the moon;in the rain;from above;in the style of a woodcut;in watercolour".split(
    ";"
)


def one_call(rng: random.Random, kind: str, side: Side) -> Made:
    """Return a request for a kind of tool, the arguments it takes, the result, and what is said then."""
    values: dict[str, Any] = {}
    if kind == "set_timer":
        values = {"minutes": rng.randint(1, 180), "label": rng.choice(CHORES)}
        answer = says(
            f"The timer is set: {values['label']} in {values['minutes']} minutes.", str(values["minutes"])
        )
        got = "ok"
    elif kind == "convert":
        source, target, rate = rng.choice(UNITS).split(":")
        values = {"amount": rng.randint(2, 900), "source": source, "target": target}
        got = calculated(f"{values['amount']} * {rate}")
        answer = says(f"{values['amount']} {source} are {got} {target}.", got)
    elif kind == "add_item":
        item = rng.choice(ITEMS) if rng.random() < 0.6 else " and ".join(rng.sample(ITEMS, 2))
        values = {"list": rng.choice(LISTS), "item": item}
        got, answer = "ok", says(f"I put {item} on the {values['list']} list.", item)
    elif kind == "weather":
        values = {"place": name(rng, town, side)}
        sky, degrees = rng.choice(SKIES), rng.randint(-12, 36)
        got = rng.choice(
            (f"{sky}, {degrees} degrees", f"{degrees} C, {sky}", f'{{"sky": "{sky}", "degrees": {degrees}}}')
        )
        answer = says(f"In {values['place']}: {sky}, {degrees} degrees.", str(degrees), sky)
    elif kind == "clock":
        got = f"{rng.choice(DAYS)}, {rng.randint(1, 28)} {rng.choice(MONTHS)} {rng.randint(2024, 2035)}, {rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
        answer = says(f"It is {got}.", got.rsplit(", ", 1)[1])
    elif kind == "read_file":
        values = {
            "path": f"{rng.choice(FILES)}{rng.choice(('', '', f'-{rng.randint(1, 99)}'))}.{rng.choice(('txt', 'md'))}"
        }
        got = f"{rng.choice(NEWS).capitalize()}. {rng.choice(TOPICS).capitalize()}: {rng.randint(2, 99)}."
        answer = says(f"{values['path']} says: {got}", got)
    elif kind == "send_message":
        values = {"to": rng.choice(PEOPLE), "text": rng.choice(NEWS)}
        got, answer = "sent", says(f"I wrote to {values['to']}: {values['text']}.", values["to"])
    elif kind == "look_up":
        values = {"query": " and ".join(rng.sample(TOPICS, rng.choice((1, 1, 2))))}
        file = f"{rng.choice(FILES)}.txt"
        fact = f"{rng.choice(TOPICS).capitalize()} {rng.choice(('costs', 'took', 'needs'))} {rng.randint(2, 900)}."
        got, answer = f"{file}: {fact}", says(f"In {file} it says: {fact}", fact)
    elif kind == "image":
        prompt = rng.choice(THINGS) + (f" {rng.choice(PLACES_OF)}" if rng.random() < 0.6 else "")
        values = {"prompt": prompt}
        got = f"image-{rng.randint(1, 99)}.png"
        answer = says(f"Here is the picture: {got}", got)
    else:
        return searched(rng, side)
    return ASKED[kind].draw(rng, side, **values), values, got, answer


FACTS: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    ("how many people live in {town}", lambda rng: f"{{town}} has {rng.randint(2, 990)},000 people."),
    ("the height of the {town} tower", lambda rng: f"The tower of {{town}} is {rng.randint(20, 320)} metres high."),
    ("when the {town} bridge was built", lambda rng: f"The bridge of {{town}} was built in {rng.randint(1750, 2020)}."),
    ("what {company} does", lambda rng: f"{{company}} {business(rng)}."),
    ("when {company} was founded", lambda rng: f"{{company}} was founded in {rng.randint(1950, 2023)}."),
    ("how many people work at {company}", lambda rng: f"{{company}} has {rng.randint(5, 900)} employees."),
    ("the price of a ticket to {town}", lambda rng: f"A ticket to {{town}} costs {rng.randint(4, 250)} dollars."),
    ("the river of {town}", lambda rng: f"{{town}} lies on the river {town(rng)}."),
    ("where {company} has its office", lambda rng: f"The office of {{company}} is in {town(rng)}."),
)  # fmt: skip


def searched(rng: random.Random, side: Side) -> Made:
    """Return a request for a fact about something made up, the search, what it finds, and the answer."""
    what, fact = rng.choice(FACTS)
    names = {"town": name(rng, town, side), "company": name(rng, company, side)}
    query = what.format(**names)
    truth = fact(rng).format(**names)
    page = f"Page {rng.randint(1, 9)}: "
    if rng.random() < 0.15:
        other = rng.choice([entry for entry in FACTS if entry[0] != what])[1](rng).format(**names)
        sorry = says("The pages I found do not say that.", "not say")
        return ASKED["search"].draw(rng, side, query=query), {"query": query}, page + other, sorry
    return ASKED["search"].draw(rng, side, query=query), {"query": query}, page + truth, says(truth, truth)


def calling(rng: random.Random, side: Side, kind: str | None = None) -> Talk:
    """Return a request, the call of the right tool among others, its result, and the answer."""
    kind = kind or rng.choice([*ASKED])
    tools = offer(rng, [kind], rng.choice((0, 1, 1, 2, 3)), SAME.get(kind, ()))
    request, values, got, answer = one_call(rng, kind, side)
    return Talk(
        "tools", [user(roughly(rng, request)), tools[kind].call(**values), result(got), answer], tools
    )


SAME = {"search": ("look_up", "weather"), "look_up": ("search", "read_file"), "weather": ("search",)}
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
INSTEAD = {**SAME, "clock": ("set_timer",), "convert": ("calculator", "python"), "image": ("plot", "python"),
           "set_timer": ("clock",), "add_item": ("send_message",), "read_file": ("look_up",),
           "send_message": ("add_item",)}  # fmt: skip


def lacking(rng: random.Random, side: Side) -> Talk:
    """Return a request that no tool on offer can do, and the assistant saying so."""
    kind = rng.choice([*LACKING])
    others = rng.choice((0, 0, 1, 2))
    tools = offer(rng, [], others, (kind, *INSTEAD.get(kind, ()), "python")) if others else {}
    request, *_ = one_call(rng, kind, side)
    text = LACKING[kind]
    return Talk("no tool", [user(roughly(rng, request)), says(text, *cannot(text))], tools)


def cannot(text: str) -> list[str]:
    """Return the words by which a refusal is known."""
    return ["cannot"] if "cannot" in text else ["no"]


def unneeded(rng: random.Random, side: Side) -> Talk:
    """Return small talk with tools on offer that it does not need."""
    tools = offer(rng, [], rng.choice((1, 2, 3)), ("calculator", "python"))
    asked, answer = box_talk.talk(
        rng, "hello", "thanks", "bye", "self", "feelings", "filler", "facts", "jokes"
    )
    return Talk("no tool", [user(asked), says(answer)], tools)


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation with tools on offer, or without the one that is needed."""
    maker = rng.choices((calling, lacking, unneeded), (0.7, 0.2, 0.1))[0]
    return maker(rng, side)
