"""The talk's demo as conversations: a company's funding rounds, step by step, with tools.

Search for the rounds, put them into a table, guess missing valuations from the ratios of the others with the
calculator, plot the valuations with a trend line, draw a picture for the company. Companies, figures, the way
pages tell them, and wordings vary; a conversation begins at the first step and goes on for some others.
The demo is from Andrej Karpathy's talk "Intro to Large Language Models" (2023), about Scale AI.
"""

import dataclasses
import json
import random

from box_lessons import MONTHS
from box_sums import rounded
from box_tools import Tool, calculated, offer, result
from box_turns import Message, Talk, roughly, says, user
from box_words import Side, business, company, name, wordings

NAMES = ("Seed", "Series A", "Series B", "Series C", "Series D", "Series E", "Series F")
SHORT = [month[:3] for month in MONTHS]


@dataclasses.dataclass(frozen=True)
class Round:
    """One round of funding; money in millions of dollars as written, no valuation when none is known."""

    name: str
    year: int
    month: int
    raised: str
    valuation: str | None

    @property
    def date(self) -> str:
        """The date as the table has it."""
        return f"{self.year}-{self.month:02}"


def rounds(rng: random.Random) -> list[Round]:
    """Return the rounds of a company: growing sums, some valuations unknown, three or more known."""
    count = rng.randint(4, 6)
    names = NAMES[rng.choice((0, 1)) :][:count]
    year, month = rng.randint(1998, 2019), rng.randint(1, 12)
    raised, ratio = rng.choice((0.5, 1, 1.5, 2, 3, 4.5, 5)), rng.choice((3.5, 4, 5, 6, 7, 8))
    unknown = rng.sample(range(count), rng.choice((0, 1, 1, 2)) if count > 4 else rng.choice((0, 1)))
    found = []
    for number, one in enumerate(names):
        money = rounded(str(raised), 1) if raised < 20 else str(round(raised))
        worth = str(max(1, round(float(money) * ratio * rng.uniform(0.85, 1.15))))
        found.append(Round(one, year, month, money, None if number in unknown else worth))
        raised *= rng.choice((2, 2.5, 3, 4, 5))
        month += rng.randint(7, 20)
        year, month = year + (month - 1) // 12, (month - 1) % 12 + 1
    return found


def page(rng: random.Random, who: str, does: str, some: list[Round]) -> str:
    """Return what a search finds, in one of many forms; what the company does stands in it."""
    form = rng.randrange(5)
    about = f"{who} {does}."
    if form == 0:
        rows = [
            {"round": one.name, "date": one.date, "raised": float(one.raised),
             "valuation": one.valuation and int(one.valuation)} for one in some
        ]  # fmt: skip
        return json.dumps({"company": who, "about": does, "rounds_in_millions": rows})
    lines = []
    month = rng.choice((MONTHS, SHORT))
    for one in some:
        date = f"{month[one.month - 1]} {one.year}" if form != 1 else one.date
        if form == 1:
            lines.append(f"{one.name}; {date}; {one.raised}; {one.valuation or '?'}")
        elif form == 2:
            worth = f"${one.valuation}M" if one.valuation else "unknown"
            lines.append(f"{one.name} | {date} | raised ${one.raised}M | valuation {worth}")
        elif form == 3:
            worth = f" at a valuation of ${one.valuation} million" if one.valuation else ""
            lines.append(f"In {date} it raised ${one.raised} million in its {one.name}{worth}.")
        else:
            worth = f", valued at ${one.valuation}M" if one.valuation else ""
            lines.append(f"{one.name}: ${one.raised}M, {date}{worth}")
    head = ["round; date; raised, $M; valuation, $M"] if form == 1 else []
    text = [about, *head, *lines] if rng.random() < 0.7 else [*head, *lines, about]
    return (" " if form == 3 else "\n").join(text)


def table(some: list[Round]) -> str:
    """Return the rounds as a table in Markdown."""
    rows = [f"| {one.name} | {one.date} | {one.raised} | {one.valuation or '?'} |" for one in some]
    return "\n".join(["| Round | Date | Raised, $M | Valuation, $M |", "|---|---|--:|--:|", *rows])


def shown(some: list[Round]) -> Message:
    """Return the answer that shows the table, and says what is missing."""
    missing = [one.name for one in some if one.valuation is None]
    tail = f"\nNot given: the valuation of {' and '.join(missing)}." if missing else ""
    rows = [f"{one.name} {one.date} {one.raised} {one.valuation or ''}" for one in some]
    return says(table(some) + tail, *rows)


def collected(
    rng: random.Random, side: Side, who: str, does: str, some: list[Round], tools: dict[str, Tool]
) -> list[Message]:
    """Return the first step: the search and the table."""
    call = tools["search"].call(query=f"{who} funding rounds")
    asked = roughly(rng, wordings("rounds collect").draw(rng, side, company=who))
    return [user(asked), call, result(page(rng, who, does, some)), shown(some)]


def guessed(rng: random.Random, side: Side, some: list[Round], tools: dict[str, Tool]) -> list[Message]:
    """Return the step that guesses missing valuations; `some` gets them."""
    missing = [one for one in some if one.valuation is None]
    known = [one for one in some if one.valuation is not None][-3:]
    calculator = tools["calculator"]
    asked = wordings("rounds guess").draw(rng, side, missing=" and ".join(one.name for one in missing))
    inner = f"({' + '.join(f'{one.valuation} / {one.raised}' for one in known)}) / {len(known)}"
    got = calculated(inner)
    ratio = cut(got, 1)
    messages = [user(roughly(rng, asked)), calculator.call(expression=inner), result(got)]
    found = []
    for one in missing:
        inner = f"{one.raised} * {ratio}"
        got = calculated(inner)
        found.append((one.name, cut(got)))
        messages += [calculator.call(expression=inner), result(got)]
        some[some.index(one)] = dataclasses.replace(one, valuation=cut(got))
    text = " ".join(f"{which}: about ${worth}M." for which, worth in found)
    return [*messages, says(f"The mean ratio is {ratio}. {text}", ratio, *(worth for _, worth in found))]


def cut(number: str, places: int = 0) -> str:
    """Return a number as it begins, with at most so many decimals: a guess that is copied, not rounded."""
    whole, _, decimals = number.partition(".")
    return f"{whole}.{decimals[:places]}".rstrip("0").rstrip(".") if decimals[:places].strip("0") else whole


def plotted(
    rng: random.Random, side: Side, who: str, some: list[Round], tools: dict[str, Tool]
) -> list[Message]:
    """Return the step that plots what is known, maybe with a question about the trend."""
    trend = rng.random() < 0.75
    asked = wordings("rounds plot" if trend else "rounds plot plain").draw(rng, side, company=who)
    amounts = "amounts" in asked or "how much was raised" in asked
    some = [one for one in some if amounts or one.valuation is not None]
    ys = [one.raised if amounts else str(one.valuation) for one in some]
    numbers = [float(y) if "." in y else int(y) for y in ys]
    title = f"{'Amounts raised by' if amounts else 'Valuation of'} {who}, $M"
    call = tools["plot"].call(x=[one.date for one in some], y=numbers, title=title, trend=trend)
    year = rng.randint(some[-1].year + 1, some[-1].year + 4)
    worth = round(numbers[-1] * rng.uniform(1.05, 2))
    file = f"plot-{rng.randint(1, 99)}.png"
    got = f"{file}" + (f"; trend at the end of {year}: {worth}" if trend else "")
    said = f"Here is the plot: {file}." + (
        f" By the trend it is about ${worth}M at the end of {year}." if trend else ""
    )
    messages = [
        user(roughly(rng, asked)),
        call,
        result(got),
        says(said, file.split(".", maxsplit=1)[0], *([str(worth)] if trend else [])),
    ]
    if trend and rng.random() < 0.4:
        asked = wordings("rounds trend").draw(rng, side, year=year)
        messages += [
            user(asked),
            says(f"By the trend it is about ${worth}M at the end of {year}.", str(worth)),
        ]
    return messages


def drawn(rng: random.Random, side: Side, who: str, does: str, tools: dict[str, Tool]) -> list[Message]:
    """Return the step that draws a picture for the company, after what it does."""
    call = tools["image"].call(prompt=f"{who}, which {does}")
    file = f"image-{rng.randint(1, 99)}.png"
    asked = roughly(rng, wordings("rounds picture").draw(rng, side, company=who))
    return [
        user(asked),
        call,
        result(file),
        says(f"Here is the picture: {file}", file.split(".", maxsplit=1)[0]),
    ]


def asked_about(
    rng: random.Random, side: Side, who: str, some: list[Round], tools: dict[str, Tool]
) -> list[Message]:
    """Return a question about the table: the sum, a ratio, or the largest round."""
    kind = rng.randrange(3)
    known = [one for one in some if one.valuation is not None]
    if kind == 0:
        best = max(some, key=lambda one: float(one.raised))
        return [
            user(wordings("rounds greatest").draw(rng, side)),
            says(f"{best.name} in {best.date}: ${best.raised}M.", best.name, best.raised),
        ]
    if kind == 1:
        inner, asked = (
            " + ".join(one.raised for one in some),
            wordings("rounds total").draw(rng, side, company=who),
        )
        got = calculated(inner)
        answer = says(f"Together ${got}M.", got)
    else:
        one = rng.choice(known)
        inner, asked = (
            f"{one.valuation} / {one.raised}",
            wordings("rounds ratio").draw(rng, side, round=one.name),
        )
        got = calculated(inner)
        answer = says(f"The ratio is {rounded(got)}.", rounded(got))
    return [user(roughly(rng, asked)), tools["calculator"].call(expression=inner), result(got), answer]


def demo(rng: random.Random, side: Side = "train", who: str | None = None, *, whole: bool = False) -> Talk:
    """Return the demo for one company, or its first steps; `whole`: all of them in the talk's order."""
    who = who or name(rng, company, side)
    does, some = business(rng), rounds(rng)
    while whole and all(one.valuation for one in some):
        some = rounds(rng)
    needed = ["search", "calculator", "plot", "image"]
    tools = offer(rng, needed, rng.choice((0, 0, 1)), ("python", "look_up"))
    messages = collected(rng, side, who, does, some, tools)
    steps = [
        *([lambda: guessed(rng, side, some, tools)] if any(one.valuation is None for one in some) else []),
        *([] if whole else [lambda: asked_about(rng, side, who, some, tools)]),
        lambda: plotted(rng, side, who, some, tools),
        lambda: drawn(rng, side, who, does, tools),
    ]
    chosen = steps if whole else [step for step in steps if rng.random() < 0.6]
    for step in chosen:
        messages += step()
    return Talk("demo", messages, tools)


def given(rng: random.Random, side: Side) -> Talk:
    """Return figures that the user gives himself, and the table; no search is needed."""
    who, some = name(rng, company, side), rounds(rng)
    told = (
        ", ".join(
            f"{one.name} {SHORT[one.month - 1]} {one.year} ${one.raised}M"
            + (f" valued ${one.valuation}M" if one.valuation else "")
            for one in some
        )
        + "."
    )
    tools = offer(rng, ["search", "plot"], rng.choice((0, 1)), ("python",)) if rng.random() < 0.6 else {}
    return Talk(
        "demo", [user(wordings("rounds here").draw(rng, side, company=who, text=told)), shown(some)], tools
    )


def without(rng: random.Random, side: Side) -> Talk:
    """Return the wish for funding rounds without a tool to search with."""
    who = name(rng, company, side)
    tools = offer(rng, ["calculator"], 1, ("search", "python", "look_up")) if rng.random() < 0.5 else {}
    text = f"I do not know the funding rounds of {who}, and I have no tool to search the web here."
    return Talk(
        "no tool",
        [user(roughly(rng, wordings("rounds collect").draw(rng, side, company=who))), says(text, "not know")],
        tools,
    )


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation about funding rounds."""
    maker = rng.choices((demo, given, without), (0.82, 0.1, 0.08))[0]
    return maker(rng, side)
