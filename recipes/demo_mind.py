"""A mind that is a program: it carries out the talk's demo step by step, and says so.

It stands where a model would stand (kernel/minds), sees what a model would see and can do nothing that a
model could not: hidden values are names to it, numbers come from the reader in quarantine as names, too,
and it works with them by name. So it shows what the kernel, the devices and the researcher app make
possible, also for companies and wordings it never met; it does not show that a model finds the steps by
itself. For that there is a model by configuration (recipes/talk_demo.py --model), and the conversations
that recipes/box_research.py writes from runs of this one to tune a model on.

What it does next follows from the conversation alone, so that it can be resumed and forked at any event,
unless it is given a small window: what has left that, it remembers by itself, and `spoken` says of each step
whether all it names was shown to it.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Generator, Sequence
from typing import Any

import demo_reader
from box_rounds import NAMES

from twofold.kernel.brief import Teller
from twofold.kernel.minds import Message, Said, Turn
from twofold.kernel.minds.script import Script
from twofold.tokens.speech import Call, Piece
from twofold.tokens.tokenizer import Tokenizer

Step = tuple[str, dict[str, Any]]
Study = Generator[Step, str, str]
LINKS = "1..30"  # of a page of results, the numbers to choose from
MOST_PAGES = 12  # that browser_read reads in one call
# Words that begin a sentence with a capital and are no part of a name.
_STARTS = frozenset(
    """a add an and at build capital chart collect compile could create do draw estimate fill find for funding
    gather get give good guess hello hi how i if illustrate impute in investigate investors it look make
    missing money my of on paint people please plot prepare put research search show study take tell thank
    thanks that the then there use we what when where which who why work would write you your""".split()  # noqa: SIM905 (words read best as text)
)
_VALUE = re.compile(r"\[?(v\d+): ")  # hidden, or something in it is
# What a picture can show, and the shapes for it; the reader chooses one by what the company does.
MOTIFS = {
    "boats": ("#246", "M20 50 H80 L70 65 H30 Z M50 15 V46 H75 Z"),
    "robots": ("#555", "M32 30 H68 V65 H32 Z M42 42 H46 M54 42 H58 M50 30 V18"),
    "vehicles": ("#722", "M12 60 V48 L30 30 H65 L88 48 V60 Z M30 60 V68 M70 60 V68"),
    "maps": ("#457", "M15 68 V40 H35 V68 M40 68 V20 H60 V68 M65 68 V32 H85 V68"),
    "health": ("#b22", "M42 15 H58 V35 H78 V51 H58 V70 H42 V51 H22 V35 H42 Z"),
    "farming": ("#262", "M50 70 V25 M50 50 L28 32 M50 50 L72 32 M50 35 L38 20"),
    "energy": ("#a60", "M55 12 L28 45 H48 L42 70 L74 36 H52 Z"),
    "software": ("#426", "M30 25 L12 42 L30 60 M70 25 L88 42 L70 60 M58 18 L42 66"),
    "other": ("#333", "M50 12 L74 42 L50 70 L26 42 Z"),
}


class Window:
    """The window of a model with this tokenizer, of so many tokens."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.context, self._tokenizer = context, tokenizer
        self.teller = Teller(tokenizer, context)

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._tokenizer.encode(text))

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return how many tokens a conversation has, with what stands before the answer."""
        return len(self.teller.ids(messages, tools))


class Planner(Script):
    """The mind, for one study. `spoken`: what it was shown and what it said, each time, to learn from."""

    def __init__(
        self,
        astray: Callable[[int], Sequence[Step]] = lambda turn: (),
        *,
        pledges: bool = True,
        window: Window | None = None,
    ) -> None:
        """`astray`: calls that it makes besides at its n-th turn, as if a page had talked it into them.
        `pledges`: it binds itself to its plan before it reads anything. `window`: that of a model, in whose
        place it stands: it is shown what that would be shown."""
        super().__init__((), context=window.context if window else 1 << 20)
        self._astray, self._pledges, self._window = astray, pledges, window
        self._asked: list[str] = []  # calls of the plan, by their ids
        self._results: dict[str, str] = {}
        self.spoken: list[dict[str, Any]] = []

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return self._window.tokens(text) if self._window else super().tokens(text)

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return how many tokens a conversation has."""
        return self._window.count(messages, tools) if self._window else super().count(messages, tools)

    def say(self, turn: Turn) -> Said:
        """Return the next step of the study, or as the reader the answer to a question."""
        if turn.cancelled():
            return Said(finish="cancelled")
        calls: list[Step] = []
        if turn.schema is not None:
            text = demo_reader.answer(turn.messages, turn.schema)
        else:
            step = self._next(turn.messages)
            text = step if isinstance(step, str) else ""
            calls = [] if isinstance(step, str) else [*self._astray(len(self._asked)), step]
        asked = {"messages": list(turn.messages), "tools": list(turn.tools), "schema": turn.schema}
        self.spoken.append({**asked, "text": text, "calls": calls})
        if text:
            turn.heard(Piece("text", text))
        made = [Call(name, json.dumps(arguments)) for name, arguments in calls]
        return Said(text=text, calls=made, made=max(1, len(text) // 4))

    def _next(self, messages: Sequence[Message]) -> Step | str:
        """Return the next step after a conversation."""
        task = next(str(message["content"]) for message in messages if message["role"] == "user")
        for message in messages:
            if message.get(
                "tool_calls"
            ):  # the last call of a turn is the plan's own; others were made astray
                id = message["tool_calls"][-1]["id"]
                self._asked += [id] * (id not in self._asked)
            elif message["role"] == "tool":
                text = str(message["content"])
                if text.startswith("[From earlier:"):  # what the pager has put beside it
                    text = text.rpartition("]\n\n")[2]
                self._results.setdefault(message["tool_call_id"], text)
        plan = study(task, pledges=self._pledges)
        try:
            step: Step | str = next(plan)
            for id in self._asked:
                step = plan.send(self._results[id])
        except StopIteration as end:
            step = end.value
        return step


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
        yield "pledge", {"calls": pledged(search)}
    found = yield "browser_read", {"url": search}
    if not (listed := _name(found)):
        return f"I could not search: {found}"
    asked = f'Which numbered links lead to pages about "{who}"?'
    picked = yield "extract", {"values": [listed], "question": asked, "type": [LINKS]}
    if not (links := _records(picked)[:MOST_PAGES]):
        return f"I found no pages about {who}."
    pages = _name((yield "browser_read", {"url": search, "link": links}))
    asked = f'Which funding rounds of "{who}" does the text tell of? Money in millions of dollars.'
    # Its fields are in the order of the alphabet, as the journal keeps them: so a row begins with its name.
    record = {"name": list(NAMES), "on": "date?", "raised": "number?", "valuation": "number?"}
    found = yield "extract", {"values": [pages], "question": asked, "type": [record], "by": "name"}
    if not (rounds := _name(found)):
        return f"I found no funding rounds of {who}."
    found = yield (
        "table_fill",
        {"table": f"${{{rounds}}}", "column": "valuation", "formula": "raised * mean(valuation / raised)"},
    )
    rounds = _name(found) or rounds
    plot = yield (
        "plot_table",
        {
            "table": f"${{{rounds}}}",
            "x": "on",
            "y": ["valuation"],
            "title": f"Valuation of {who}, $M",
            "trend": True,
            "until": until,
        },
    )
    asked = f'What does "{who}" make or do?'
    kind = [{"kind": list(MOTIFS)}]
    kinds = yield "extract", {"values": [pages], "question": asked, "type": kind, "by": "kind"}
    picture = yield "draw", {"svg": _svg(who, next((one["kind"] for one in _records(kinds)), "other"))}
    report = (
        f"# Funding of {who}\n\nMoney in millions of dollars.\n\n${{{rounds}}}\n\n"
        f"Plot: {_shown(plot)}\n\nPicture: {_shown(picture)}"
    )
    yield "files_write", {"path": "report.md", "text": report}
    return report


def pledged(search: str) -> list[Any]:
    """Return what a study binds itself to before it reads anything: these calls, and no others. Those that
    only work on what is there, in its own folder, may have any arguments."""
    return [
        {"browser_read": {"url": search}},
        {"browser_read": {"url": search, "link": {"each": {"open": "integer"}}}},
        "table_fill",
        "plot_table",
        "draw",
        {"files_write": {"path": "report.md", "text": {"open": "text"}}},
    ]


def _name(result: str) -> str:
    """Return the name of a result, by which all of it can be passed on; "" where it has none."""
    found = _VALUE.match(result)
    return found[1] if found else ""


def _shown(result: str) -> str:
    """Return a result, or the name that stands for it."""
    name = _name(result)
    return f"${{{name}}}" if name else result


def _records(text: str) -> list[Any]:
    """Return the list that the reader gave, none when it gave an error."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def _svg(who: str, motif: str) -> str:
    """Return a picture for a company: a sign for what it makes, above its name."""
    colour, path = MOTIFS[motif]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 90">'
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="4"/>'
        f'<text x="50" y="85" font-size="8" text-anchor="middle">{who.replace("&", "and")}</text></svg>'
    )
