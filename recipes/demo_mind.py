"""A mind that is a program: it carries out the talk's demo step by step, and says so.

It stands where a model would stand (kernel/minds), sees what a model would see and can do nothing that a
model could not: hidden values are names to it, numbers come from the reader in quarantine as names, too,
and it works with them by name. So it shows what the kernel, the devices and the researcher app make
possible, also for companies and wordings it never met; it does not show that a model finds the steps by
itself. For that there is a model by configuration (recipes/talk_demo.py --model), and the conversations
that recipes/box_research.py writes from runs of this one to tune a model on.

What it does next follows from the conversation alone, so that it can be resumed and forked at any event.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import demo_reader
from box_rounds import NAMES

from twofold.kernel.minds import Message, Said, Turn
from twofold.kernel.minds.script import Script
from twofold.tokens.speech import Call, Piece

Step = tuple[str, dict[str, Any]]
Study = Generator[Step, str, str]
MOST_LINKS = 30
# Words that begin a sentence with a capital and are no part of a name.
_STARTS = frozenset(
    """a add an and at build chart collect compile could create do draw estimate fill find for gather get give
    guess how i if illustrate impute in investigate it look make of on paint please plot prepare put research
    search show study take tell that the then there use what when where which who why work would write you
    your""".split()  # noqa: SIM905 (words read best as text)
)
_VALUE = re.compile(r"\[(v\d+): ")
# What a picture can show, and the shapes for it; the reader chooses one by what the company does.
MOTIFS = {
    "boats": "M10 60 L90 60 L75 80 L25 80 Z M50 15 L50 58 M50 18 L80 52 L50 52 Z",
    "robots drones": "M30 35 H70 V75 H30 Z M40 45 H46 V51 H40 Z M54 45 H60 V51 H54 Z M50 35 V22 M42 65 H58",
    "cars engines bicycles railways": (
        "M10 60 L20 42 H68 L84 60 H92 V72 H8 V60 Z M28 72 a8 8 0 1 0 .1 0 Z M72 72 a8 8 0 1 0 .1 0 Z"
    ),
    "maps cities": "M10 80 V45 H28 V80 Z M34 80 V25 H56 V80 Z M62 80 V38 H90 V80 Z",
    "medicines hospitals nurses": "M42 20 H58 V42 H80 V58 H58 V80 H42 V58 H20 V42 H42 Z",
    "farms greenhouses": (
        "M50 82 V40 M50 60 C30 60 22 48 22 36 C40 36 50 46 50 58 M50 50 C66 50 76 40 78 26 C60 26 50 36 50 48"
    ),
    "batteries solar panels": "M55 15 L28 55 H48 L42 85 L74 42 H52 Z",
    "programs games data": "M22 30 L6 50 L22 70 M78 30 L94 50 L78 70 M58 22 L42 78",
    "something else": "M50 15 L60 40 L86 40 L65 56 L73 82 L50 66 L27 82 L35 56 L14 40 L40 40 Z",
}  # fmt: skip


class Planner(Script):
    """The mind. `spoken`: what it was shown and what it said, each time, to learn from."""

    def __init__(
        self, astray: Callable[[int], Sequence[Step]] = lambda turn: (), *, pledges: bool = True
    ) -> None:
        """`astray`: calls that it makes besides at its n-th turn, as if a page had talked it into them.
        `pledges`: it binds itself to its plan before it reads anything."""
        super().__init__((), context=1 << 20)
        self._astray, self._pledges = astray, pledges
        self.spoken: list[dict[str, Any]] = []

    def say(self, turn: Turn) -> Said:
        """Return the next step of the study, or as the reader the answer to a question."""
        if turn.cancelled():
            return Said(finish="cancelled")
        calls: list[Step] = []
        if turn.schema is not None:
            text = demo_reader.answer(turn.messages, turn.schema)
        else:
            step, number = _next(turn.messages, self._pledges)
            text = step if isinstance(step, str) else ""
            calls = [] if isinstance(step, str) else [*self._astray(number), step]
        asked = {"messages": list(turn.messages), "tools": list(turn.tools), "schema": turn.schema}
        self.spoken.append({**asked, "text": text, "calls": calls})
        if text:
            turn.heard(Piece("text", text))
        made = [Call(name, json.dumps(arguments)) for name, arguments in calls]
        prompt = self.count(turn.messages)
        return Said(text=text, calls=made, made=max(1, len(text) // 4), prompt=prompt, cached=prompt)


def _next(messages: Sequence[Message], pledges: bool) -> tuple[Step | str, int]:
    """Return the next step after a conversation, and which it is."""
    task = next(str(message["content"]) for message in messages if message["role"] == "user")
    # The last call of a turn is the plan's own; others were made astray.
    asked = [message["tool_calls"][-1]["id"] for message in messages if message.get("tool_calls")]
    results = {
        message["tool_call_id"]: str(message["content"]) for message in messages if message["role"] == "tool"
    }
    plan = study(task, pledges=pledges)
    try:
        step: Step | str = next(plan)
        for id in asked:
            step = plan.send(results[id])
    except StopIteration as end:
        step = end.value
    return step, len(asked)


def company(task: str) -> str:
    """Return the name that a task is about: the longest run of capitals that begins no sentence by chance."""
    found: list[str] = []
    for run in re.findall(r"[A-Z][\w&-]*(?:\s[A-Z][\w&-]*)*", task.split("http")[0]):
        words = re.split(r"\sI\b", run)[0].split()
        while words and words[0].lower() in _STARTS:
            words = words[1:]
        if words:
            found.append(" ".join(words))
    return max(found, key=lambda name: (found.count(name), len(name)), default="")


def study(task: str, *, pledges: bool = True) -> Study:
    """Take the steps of the demo: yield a call, be sent what it returned, and return the answer."""
    who = company(task)
    years = re.findall(r"\b(?:19|20)\d\d\b", task)
    until = years[-1] if years else "2025"
    address = re.search(r"https?://[^\s,;]+[^\s,;.]", task)
    if not who or not address:
        return "I need the name of a company, and the address of a site to look in."
    search = f"{address[0].rstrip('/')}/search?q={urllib.parse.quote_plus(f'{who} funding')}"
    if pledges:
        yield "pledge", {"calls": pledged(search, who, until)}
    found = yield "browser_read", {"url": search}
    if not (hits := _VALUE.findall(found)):
        return f"I could not search: {found}"
    picked = yield (
        "extract",
        {
            "values": hits[:1],
            "question": f'Which numbered links lead to pages about "{who}"?',
            "type": [{"link": list(range(1, MOST_LINKS + 1))}],
        },
    )
    pages = []
    for one in _records(picked):
        page = yield "browser_read", {"url": search, "link": one["link"]}
        pages += _VALUE.findall(page)[:1]
    rounds = yield from _collected(who, pages)
    if not any("raised" in one and "date" in one for one in rounds.values()):
        return f"I found no funding rounds of {who}."
    guessed = yield from _guessed(rounds)
    told = yield from _plotted(who, until, rounds)
    motif = yield (
        "extract",
        {
            "values": pages,
            "question": f'Which of these fits what "{who}" makes best?',
            "type": list(MOTIFS),
        },
    )
    picture = yield "draw", {"svg": _svg(who, motif.strip('"'))}
    report = _report(who, rounds, guessed, told, picture)
    yield "files_write", {"path": "report.md", "text": report}
    return report


def pledged(search: str, who: str, until: str) -> list[dict[str, Any]]:
    """Return what a study binds itself to before it reads anything: these calls, and no others."""
    number, date, text = ({"open": kind} for kind in ("number", "date", "text"))
    title = f"Valuation of {who}, $M"
    plot = {"x": {"each": date}, "y": {"each": number}, "title": title, "trend": True, "until": until}
    return [
        {"function": "browser_read", "arguments": {"url": search}},
        {"function": "browser_read", "arguments": {"url": search, "link": {"open": "integer"}}, "times": 20},
        {"function": "calculator", "arguments": {"expression": text}, "times": 12},
        {"function": "calculator", "arguments": {"expression": text, "decimals": 0}, "times": 12},
        {"function": "plot", "arguments": plot},
        {"function": "draw", "arguments": {"svg": text}},
        {"function": "files_write", "arguments": {"path": "report.md", "text": text}},
    ]


def _collected(who: str, pages: Sequence[str]) -> Generator[Step, str, dict[str, dict[str, str]]]:
    """Ask the reader for the rounds on each page; the first page that tells something is believed."""
    rounds: dict[str, dict[str, str]] = {}
    for page in pages:
        text = yield "extract", {
            "values": [page],
            "question": (
                f'Which funding rounds of "{who}" does the text tell of? Money in millions of dollars; '
                "dated, told and valued say whether the text gives date, amount and valuation."
            ),
            "type": [
                {
                    "round": list(NAMES), "dated": "boolean", "date": "date", "told": "boolean",
                    "raised": "number", "valued": "boolean", "valuation": "number",
                }
            ],
        }  # fmt: skip
        for one in _records(text):
            into = rounds.setdefault(one["round"], {})
            for flag, key in (("dated", "date"), ("told", "raised"), ("valued", "valuation")):
                if one[flag] and (value := _VALUE.findall(str(one[key]))):
                    into.setdefault(key, value[0])
    return {name: rounds[name] for name in NAMES if name in rounds}


def _guessed(rounds: dict[str, dict[str, str]]) -> Generator[Step, str, list[str]]:
    """Work out the missing valuations by the mean ratio; return the names of their rounds."""
    whole = [one for one in rounds.values() if "raised" in one and "valuation" in one]
    missing = [name for name, one in rounds.items() if "raised" in one and "valuation" not in one]
    if not whole or not missing:
        return []
    ratios = " + ".join(f"${{{one['valuation']}}} / ${{{one['raised']}}}" for one in whole)
    mean = _VALUE.findall((yield "calculator", {"expression": f"({ratios}) / {len(whole)}"}))
    for name in missing if mean else ():
        one = rounds[name]
        expression = f"${{{one['raised']}}} * ${{{mean[0]}}}"
        worth = _VALUE.findall((yield "calculator", {"expression": expression, "decimals": 0}))
        if worth:
            one["valuation"] = worth[0]
    return missing


def _plotted(who: str, until: str, rounds: Mapping[str, Mapping[str, str]]) -> Generator[Step, str, str]:
    """Plot the valuations over time with a trend; return what stands for the result in an answer."""
    points = [one for one in rounds.values() if "date" in one and "valuation" in one]
    result = yield (
        "plot",
        {
            "x": [{"$value": one["date"]} for one in points],
            "y": [{"$value": one["valuation"]} for one in points],
            "title": f"Valuation of {who}, $M",
            "trend": True,
            "until": until,
        },
    )
    return _shown(result)


def _report(
    who: str, rounds: Mapping[str, Mapping[str, str]], guessed: Sequence[str], plot: str, picture: str
) -> str:
    """Return the answer, in which names stand for numbers; the user sees the numbers."""

    def cell(one: Mapping[str, str], key: str) -> str:
        return f"${{{one[key]}}}" if key in one else "?"

    rows = [
        f"| {name} | {cell(one, 'date')} | {cell(one, 'raised')} | {cell(one, 'valuation')} "
        f"| {'by ratio' if name in guessed else 'published'} |"
        for name, one in rounds.items()
    ]
    table = ["| Round | Date | Raised, $M | Valuation, $M | How known |", "|---|---|--:|--:|---|", *rows]
    note = (
        f"Not published, worked out by the mean ratio of valuation to amount: {', '.join(guessed)}."
        if guessed
        else "All valuations were published."
    )
    lines = [f"# Funding of {who}", "", *table, "", note, "", f"Plot: {plot}", f"Picture: {_shown(picture)}"]
    return "\n".join(lines)


def _shown(result: str) -> str:
    """Return a result, or the name that stands for it."""
    found = _VALUE.match(result)
    return f"${{{found[1]}}}" if found else result


def _records(text: str) -> list[dict[str, Any]]:
    """Return the records that the reader gave, none when it gave an error."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _svg(who: str, motif: str) -> str:
    """Return a picture for a company: a sign for what it makes, in colours of its name."""
    hue = sum(map(ord, who)) * 37 % 360
    path = MOTIFS.get(motif, MOTIFS["something else"])
    name = who.replace("&", "and")
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 160">'
        f'<rect width="200" height="160" fill="hsl({hue}, 45%, 92%)"/>'
        f'<circle cx="100" cy="70" r="52" fill="hsl({hue}, 50%, 42%)"/>'
        f'<g transform="translate(60 30) scale(.8)" fill="none" stroke="white" stroke-width="5" '
        f'stroke-linejoin="round" stroke-linecap="round"><path d="{path}"/></g>'
        f'<text x="100" y="146" font-size="13" font-family="sans-serif" text-anchor="middle" '
        f'fill="hsl({hue}, 50%, 25%)">{name}</text></svg>'
    )
