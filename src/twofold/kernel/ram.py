"""RAM: which parts of a process's pages stand in its window, and how warm they are. A fold over its events.

A page is a message. One that is long has several parts, cut at paragraphs, and each may be in the window or
out of it; out means that a stub stands for it, and never that it is gone. What a part is used for makes it
warm, and it cools by half with each `HALF_LIFE` turns.

All of it changes by `memory` events only, so a process that is resumed, forked or replayed has the same RAM.
What such an event may say:

    tick         turns of the process so far
    read         how many of its pages the pager has seen
    room         tokens that its window has, without the answer
    used         part -> how much it had to do with what is new, 0 to 1
    out          parts that leave the window
    back         part -> the page beside which it stands again; "" is its own place
    pin, unpin   pages that must stay, and that need not
    edit         page -> its new text, and how many tokens that has
    why          a sentence for the user
"""

import dataclasses
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twofold.kernel.flow import USER
from twofold.kernel.journal import Event
from twofold.kernel.pages import Page
from twofold.kernel.process import State, means

HALF_LIFE = 8  # turns after which a part is half as warm
PART = 800  # characters of a part, about 200 tokens
_BREAKS = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?])\s"), re.compile(r"\s"))


@functools.lru_cache(maxsize=1 << 12)
def cut(text: str) -> tuple[str, ...]:
    """Return a text in parts, which joined are the text again: cut after paragraphs, else lines, sentences,
    words, and in the middle of what has no end."""
    found, start = [], 0
    while len(text) - start > PART * 3 // 2:
        end = start + PART
        for pattern in _BREAKS:
            ends = [match.end() for match in pattern.finditer(text, start + PART // 2, end)]
            if ends:
                end = ends[-1]
                break
        found.append(text[start:end])
        start = end
    return (*found, text[start:])


@dataclass(frozen=True)
class Part:
    """A part of a page: what the pager moves. number: which of its page, from 0."""

    id: str
    page: Page
    text: str
    number: int = 0


def parts(page: Page) -> tuple[Part, ...]:
    """Return the parts of a page. A hidden page has one, its stub: its text is not read."""
    texts = (page.told,) if page.hidden else cut(page.told)
    if len(texts) == 1:
        return (Part(page.id, page, texts[0]),)
    return tuple(Part(f"{page.id}.{n + 1}", page, text, n) for n, text in enumerate(texts))


def page_of(part: str) -> str:
    """Return the id of the page that a part belongs to."""
    return part.partition(".")[0]


@dataclass(frozen=True)
class Use:
    """How a part was used: in which turn last, and how warm that had made it."""

    last: int = 0
    heat: float = 0.0

    def now(self, tick: int) -> float:
        """Return how warm it is in this turn."""
        return float(self.heat * 0.5 ** ((tick - self.last) / HALF_LIFE))

    def again(self, tick: int, weight: float) -> "Use":
        """Return it after one use more."""
        return Use(tick, self.now(tick) + weight)


@dataclass(frozen=True, kw_only=True)
class Ram:
    """tick: turns so far. read: how many pages the pager has seen. room: tokens of the window. out: parts
    that are not in the window. back: part -> the page beside which it stands, since it came back. used: how
    warm parts are."""

    tick: int = 0
    read: int = 0
    room: int = 0
    out: frozenset[str] = frozenset()
    back: Mapping[str, str] = field(default_factory=dict)
    used: Mapping[str, Use] = field(default_factory=dict)

    def after(self, body: Mapping[str, Any]) -> "Ram":
        """Return the RAM after a `memory` event of this body."""
        tick, out, back, used = body.get("tick", self.tick), set(self.out), dict(self.back), dict(self.used)
        for name, weight in body.get("used", {}).items():
            used[name] = used.get(name, Use()).again(tick, weight)
        for name in body.get("out", ()):
            out.add(name)
            back.pop(name, None)
        for name, beside in body.get("back", {}).items():
            out.discard(name)
            back.pop(name, None)
            if beside:
                back[name] = beside
        if edited := body.get("edit"):  # such a page may have other parts now
            out = {name for name in out if page_of(name) not in edited}
            back = {name: beside for name, beside in back.items() if page_of(name) not in edited}
        read, room = body.get("read", self.read), body.get("room", self.room)
        return Ram(tick=tick, read=read, room=room, out=frozenset(out), back=back, used=used)

    def use(self, part: str) -> Use:
        """Return how a part was used."""
        return self.used.get(part, Use())


def ram_of(state: State) -> Ram:
    """Return the RAM of a process."""
    ram = state.own.get("ram")
    return ram if isinstance(ram, Ram) else Ram()


@means("memory")
def _memory(state: State, event: Event) -> State:
    pages = tuple(changed(state.pages, event.body))
    return dataclasses.replace(state, pages=pages, own={**state.own, "ram": ram_of(state).after(event.body)})


def changed(pages: Iterable[Page], body: Mapping[str, Any]) -> Iterable[Page]:
    """Yield the pages after a `memory` event: pins, and texts that the user has put in the place of others.

    What the user has changed is trusted no more than before, and has one source more.
    """
    pin, unpin, edit = body.get("pin", ()), body.get("unpin", ()), body.get("edit", {})
    for page in pages:
        if page.id in pin or page.id in unpin:
            page = dataclasses.replace(page, pinned=page.id in pin)
        if page.id in edit:
            new, label = edit[page.id], page.label.join(USER)
            page = dataclasses.replace(page, text=new["text"], tokens=new["tokens"], label=label)
        yield page
