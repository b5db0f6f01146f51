"""Policies of the pager on long tasks: hit rate, tokens spent, task success.

    python benchmarks/pager.py [--seeds 12] [--turns 200] [--window 2048] [--embedder words]

A seeded program makes a conversation: facts are told, and changed, among talk that mentions the same things;
files of some pages are read and asked about; an errand is begun, interrupted and taken up again; some facts
are asked for again and again, most only once and late. A scripted mind answers from what stands in its window
and from nothing else, so what is measured is the pager and not a model. It comes in two kinds: one asks for
what it does not see, by `recall` (a turn more, which costs tokens), the other says that it does not know, as
small models do.

hit: questions whose answer stood in the window at once. success: questions that were answered rightly.
tokens: read in all, and those that stood behind the first change of the window, which an engine that keeps a
prefix has to read anew. Means over seeds with 95 % intervals (bootstrap over seeds)."""

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from twofold.kernel import plan
from twofold.kernel.embedders import EMBEDDERS
from twofold.kernel.flow import Label, Ring
from twofold.kernel.pager import Paging, View
from twofold.kernel.pagers import PAGERS
from twofold.kernel.pages import Page
from twofold.kernel.ram import Ram
from twofold.kernel.window import Message

PLACES = [
    "Aldwick",
    "Borham",
    "Carnby",
    "Dunsett",
    "Elmore",
    "Farleigh",
    "Garlow",
    "Hestwick",
    "Inverby",
    "Kelsham",
    "Lorbeck",
    "Marsden",
]
THINGS = [
    "garage",
    "ferry",
    "library",
    "mill",
    "orchard",
    "bakery",
    "workshop",
    "harbour",
    "school",
    "archive",
]
# What is told of a thing, and what is asked; some questions share no word with the fact but the thing's name.
ATTRIBUTES = (
    ("The door code of {} is {}.", "Which door code has {}?"),
    ("{} opens at {} in the morning.", "From when on is somebody at {}?"),
    ("You reach {} by telephone under {}.", "Which number do I dial for {}?"),
    ("{} was built in the year {}.", "How old is {}: when was it made?"),
    ("A ticket for {} costs {} crowns.", "What is the price at {}?"),
    ("The key to {} hangs on hook {}.", "Where is the key to {}?"),
)
CHANGE = "It has changed: "
TALK = (
    "I walked past {} yesterday and it rained the whole way.", "Somebody told me a long story about {}.",
    "Do you think that {} looks better in spring or in autumn?", "My sister does not like {} at all.",
    "There was a queue in front of {} again.", "They want to paint {} green, which I find a pity.",
    "Tell me why people visit {}.", "I dreamed of {} last night, with boats and a brass band.",
)  # fmt: skip
REPLIES = (
    "That sounds like a fine day out; the weather there has its moods, and people come anyway.",
    "I can see why. Places like that stay with us, and each visit shows another side of them.",
    "Many people say so. Some come for the quiet, others for company, and a few because their parents did.",
    "Understood. I shall keep it in mind, and you can come back to it whenever you like.",
)
PROSE = (
    "The committee met in the small hall and went through the minutes of the last meeting without haste.",
    "Repairs to the roof were put off until the spring, since the scaffolding was needed elsewhere.",
    "A letter of thanks was read, and a bowl of apples went round.", "The heating worked as it should.",
    "Two members asked for new lamps along the path, which will be looked into.",
)  # fmt: skip
ERRAND = "Errand {name}: whoever takes it up must sign with the word {word} and leave the papers at {place}."
UNKNOWN = "I do not know."


def count(messages: Sequence[Message]) -> int:
    """Return about how many tokens messages have."""
    return sum(4 + len(str(message["content"])) // 4 for message in messages)


@dataclass(frozen=True)
class Event:
    """What happens in a turn: what the user says, or a file that is read; and what must be answered, if
    anything. `needs`: the sentence that holds the answer; `stale`: the one that held it before."""

    said: str
    file: str = ""
    needs: str = ""
    stale: str = ""
    words: str = ""  # what a mind that does not know asks for


@dataclass
class _World:
    """What is true so far."""

    random: random.Random
    facts: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    errands: dict[str, str] = field(default_factory=dict)
    favourites: list[tuple[str, int]] = field(default_factory=list)

    def thing(self) -> str:
        return f"the {self.random.choice(THINGS)} in {self.random.choice(PLACES)}"

    def tell(self) -> Event:
        changes = self.facts and self.random.random() < 0.2
        key = self.random.choice(list(self.facts)) if changes else (self.thing(), self.random.randrange(6))
        text = ATTRIBUTES[key[1]][0].format(key[0], self.random.randrange(1000, 10000))
        text = text[0].upper() + text[1:]
        told = self.facts.setdefault(key, [])
        text = CHANGE + text if told else text
        told.append(text)
        if len(self.favourites) < 4:
            self.favourites.append(key)
        return Event(f"{text} {self.random.choice(TALK).format(self.thing())}")

    def ask(self) -> Event:
        often = self.random.random() < 0.5
        key = self.random.choice(self.favourites if often else list(self.facts))
        told = self.facts[key]
        question = ATTRIBUTES[key[1]][1].format(key[0])
        return Event(question, needs=told[-1], stale=told[-2] if len(told) > 1 else "", words=question)

    def read(self) -> Event:
        name = f"{self.random.choice(PLACES).lower()}-{len(self.files)}.txt"
        rows = {
            f"item {self.random.randrange(100, 1000)}": str(self.random.randrange(10000)) for _ in range(6)
        }
        lines = []
        for item, value in rows.items():
            lines += [f"In {name}, {item} stands at {value}."]
            lines += self.random.choices(PROSE, k=self.random.randrange(3, 9))
            lines += [""]
        self.files[name] = rows
        return Event(f"Please read {name}.", file=f"{name}\n\n" + "\n".join(lines))

    def ask_file(self) -> Event:
        name = self.random.choice(list(self.files))
        item, value = self.random.choice(list(self.files[name].items()))
        question = f"What does {name} say of {item}?"
        return Event(question, needs=f"In {name}, {item} stands at {value}.", words=f"{name} {item}")

    def begin(self) -> Event:
        name = f"{self.random.choice(PLACES)}-{len(self.errands)}"
        self.errands[name] = ERRAND.format(
            name=name, word=self.random.randrange(100, 1000), place=self.thing()
        )
        return Event(f"{self.errands[name]} But first something else.")

    def resume(self) -> Event:
        name = self.random.choice(list(self.errands))
        question = f"Let us go on with errand {name} now: how do I sign, and where do the papers go?"
        return Event(question, needs=self.errands[name], words=f"errand {name} sign papers")

    def talk(self) -> Event:
        lines = self.random.choices(TALK, k=self.random.randrange(1, 4))
        return Event(" ".join(line.format(self.thing()) for line in lines))


def program(seed: int, turns: int) -> Iterator[Event]:
    """Yield the turns of a task: at first more is told, then more is asked."""
    world = _World(random.Random(seed))
    for turn in range(turns):
        asking = 0.1 + 0.5 * turn / turns
        if world.facts and world.random.random() < asking:
            kinds = (
                [world.ask] * 4
                + [world.ask_file] * 2 * bool(world.files)
                + [world.resume] * bool(world.errands)
            )
        else:
            kinds = [world.tell] * 3 + [world.talk] * 4 + [world.read, world.begin]
        yield world.random.choice(kinds)()


class Window:
    """A conversation under a pager; `paging` None shows everything."""

    def __init__(self, paging: Paging | None, room: int, key: int) -> None:
        self._paging, self._room, self._key = paging, room, key
        self.pages: list[Page] = []
        self.ram = Ram()
        self._before = ""
        self.tokens = self.anew = 0

    def add(self, kind: str, text: str, role: str = "") -> None:
        """Add a page."""
        label = Label(Ring.USER, None, frozenset({"user"}))
        self.pages.append(
            Page(id=f"p{len(self.pages) + 1}", kind=kind, text=text, label=label, source=kind,
                 tokens=len(text) // 4, message={"role": role or kind})
        )  # fmt: skip

    def read(self) -> str:
        """Return what the mind reads, and count it."""
        if self._paging is None:
            view = View(messages=[page.shown() for page in self.pages])
        else:
            view = self._paging.window(self._key, self.pages, self.ram, self._room, count)
        if view.change:
            self.ram = self.ram.after(view.change)
        text = "\n".join(f"<{m['role']}> {m['content']}" for m in view.messages)
        same = next(
            (n for n, (a, b) in enumerate(zip(text, self._before, strict=False)) if a != b),
            min(len(text), len(self._before)),
        )
        self._before = text
        self.tokens += count(view.messages)
        self.anew += (len(text) - same) // 4
        return text

    def recall(self, words: str) -> None:
        """Bring back what has to do with these words, beside a page that says so, as the system call does."""
        assert self._paging is not None
        self.add("result", "These parts stand here again.", "user")
        found = self._paging.found(self._key, self.pages, self.ram, words)
        self.ram = self.ram.after({"back": {part.id: self.pages[-1].id for part in found}})


@dataclass
class Score:
    questions: int = 0
    hits: int = 0
    right: int = 0
    wrong: int = 0
    tokens: int = 0
    anew: int = 0
    recalls: int = 0


def run(paging: Paging | None, seed: int, turns: int, room: int, *, asks: bool) -> Score:
    """Return how a task went."""
    window, score, talk = Window(paging, room, seed), Score(), random.Random(seed)
    window.add("instructions", "You help a caretaker. Answer from what you were told.", "system")
    for event in program(seed, turns):
        window.add("user", event.said)
        if event.file:
            window.read()
            window.add("assistant", f"Reading {event.said.split()[-1]}")
            window.add("result", event.file, "user")
        seen = window.read()
        answer = talk.choice(REPLIES)
        if event.needs:
            score.questions += 1
            score.hits += event.needs in seen
            if event.needs not in seen and asks and paging is not None:
                score.recalls += 1
                window.add("assistant", f"recall({event.words})")
                window.recall(event.words)
                seen = window.read()
            score.right += event.needs in seen
            score.wrong += event.needs not in seen and event.stale != "" and event.stale in seen
            answer = event.needs if event.needs in seen else UNKNOWN
        window.add("assistant", answer)
    score.tokens, score.anew = window.tokens, window.anew
    return score


def interval(values: Sequence[float]) -> str:
    """Return a mean with its 95 % interval by bootstrap over seeds."""
    rows = np.random.default_rng(0).choice(np.array(values), (2000, len(values))).mean(1)
    low, high = np.percentile(rows, (2.5, 97.5))
    return f"{100 * np.mean(values):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument(
        "--window", type=int, default=2048, help="tokens, of which a quarter is for the answer"
    )
    parser.add_argument("--embedder", default="words", choices=(*EMBEDDERS.names(), "none"))
    parser.add_argument("--recalled", type=float, help="another share for what comes back")
    parser.add_argument("--air", type=float, help="another share that is free after units left")
    parser.add_argument("--pagers", nargs="*", default=[*PAGERS.names(), "unlimited"])
    options = parser.parse_args()
    for name in PAGERS.names() if options.recalled is not None else ():
        PAGERS.get(name).RECALLED = options.recalled  # type: ignore[attr-defined]
    if options.air is not None:
        plan.AIR = options.air
    room = options.window - min(512, options.window // 4)
    embedder = None if options.embedder == "none" else options.embedder
    print(f"{options.seeds} tasks of {options.turns} turns, a window of {options.window:,} tokens")
    print(
        "| pager | mind | hit | success | an old fact taken for true | tokens read | of them anew | recalls |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in options.pagers:
        for asks in (False, True) if name != "unlimited" else (False,):
            scores = [
                run(
                    None if name == "unlimited" else Paging(name, embedder),
                    seed,
                    options.turns,
                    room,
                    asks=asks,
                )
                for seed in range(options.seeds)
            ]
            shares = {
                kind: interval([getattr(s, kind) / s.questions for s in scores])
                for kind in ("hits", "right", "wrong")
            }
            tokens, anew, recalls = (
                np.mean([getattr(s, kind) for s in scores]) for kind in ("tokens", "anew", "recalls")
            )
            print(
                f"| {name} | {'asks' if asks else 'does not ask'} | {shares['hits']} | {shares['right']} | "
                f"{shares['wrong']} | {tokens:,.0f} | {anew:,.0f} | {recalls:.1f} |", flush=True,
            )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
