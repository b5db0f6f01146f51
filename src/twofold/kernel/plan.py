"""What the pager decides before a turn: what is warm, what comes back, and what leaves.

Before each turn it looks at what is new. What that has to do with earlier parts warms them: a processor sets
a bit when a page is read; of a model we see only what is said, so a reference stands for a reading. Parts
that are out, and that the user's or the model's own words ask for, come back: a page fault that the process
need not raise. If the window is too full then, units leave it, the least worth keeping first, until it has
some air; so most turns change nothing at its beginning, and what the engine has read of it stays valid. What
a tool returned warms, but never brings anything back: it is not trusted to steer.

When all that may leave has left and the window is still too full, pinned pages leave, then those parts of the
newest page that have least to do with its first paragraph and its last line, where questions stand; of parts
that have nothing to do with them, the middle first.
"""

import functools
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from twofold.base.errors import TwofoldError
from twofold.kernel.flow import Ring
from twofold.kernel.pagers import Frame, Policy
from twofold.kernel.pages import STUB, Page
from twofold.kernel.ram import Part, Ram, parts
from twofold.kernel.recall import Index
from twofold.kernel.window import Message, Unit, render, rounds

Count = Callable[[Sequence[Message]], int]

AIR = 0.25  # of the window, but for its instructions, is free after units had to leave
RELEVANT = 0.2  # the least score of a part that a page has to do with,
BESIDE_BEST = 0.4  # and the least share of the best part's score
MOST = 8  # parts that a page has to do with
_LOOKED_AT = 64  # pages, if many are new
QUESTION = 600  # characters at both ends of a long page: what it is about, and what it asks
_WORD, _TOLD = re.compile(r"\w+"), re.compile(r"[.!:;]\s")
NAMED = re.compile(r"\b[pv]\d+(?:\.\d+)?\b")


def size(text: str) -> int:
    """Return about how many tokens a text has, for shares; what must fit is counted."""
    return len(text.encode()) // 4 + 1


class Plan:
    """The changes of one turn, which are found step by step: `look`, then `fit`."""

    def __init__(
        self, name: str, policy: Policy, pages: Sequence[Page], ram: Ram, room: int, count: Count
    ) -> None:
        self._name, self._policy, self._pages = name, policy, pages
        self._ram, self._room, self._count = ram, room, count
        self._rounds = [one for turn in rounds(pages) for one in turn if one.pages]
        self._new = pages[max(ram.read, len(pages) - _LOOKED_AT) :]
        self._called: set[str] = set()  # parts that are asked for now
        self._scores: dict[str, float] = {}  # of a long new page, how much its parts have to do with its ends
        self.change: dict[str, Any] = {}

    @functools.cached_property
    def messages(self) -> list[Message]:
        """The window as it is planned so far."""
        return render(
            self._pages, self._now, lambda part: self._policy.stub(part.text), size=size,
            room=int(self._policy.LISTED * self._room),
        )  # fmt: skip

    @functools.cached_property
    def total(self) -> int:
        """Its tokens."""
        return self._count(self.messages)

    @functools.cached_property
    def _now(self) -> Ram:
        return self._ram.after(self.change)

    def _changes(self, **change: Any) -> None:
        self.change |= change
        for known in ("messages", "total", "_now"):
            self.__dict__.pop(known, None)

    def standing(self) -> tuple[str, ...]:
        """Return the ids of the pages of which something stands in the window."""
        return tuple(p.id for p in self._pages if any(part.id not in self._now.out for part in parts(p)))

    # ---- what is warm, and what comes back

    def look(self, index: Index) -> None:
        """Warm what the new pages have to do with, and bring back what they ask for."""
        if not self._new:
            return
        asking = self._turn()
        used: dict[str, float] = {}
        wanted: dict[str, tuple[float, str]] = {}
        for page in self._new:
            if page.hidden or page.kind == "instructions":
                continue
            self._scores |= _within(page, index)
            scores = self._related(page, index)
            for name, score in list(scores.items())[:MOST]:
                # What has to do with many is shared among them, as a look at many is a short look at each.
                share = score * score / sum(list(scores.values())[:MOST])
                used[name] = max(used.get(name, 0.0), round(share, 3))
            if page.id in asking and (page.kind == "user" or (page.message or {}).get("tool_calls")):
                out = [name for name in scores if name in self._ram.out]
                for name in dict.fromkeys([*out[:MOST], *list(scores)[:MOST]]):
                    wanted[name] = max(wanted.get(name, (0.0, "")), (scores[name], page.id))
        back, why = self._wanted(wanted)
        self._changes(tick=len(self._rounds), read=len(self._pages), room=self._room, used=used)
        if back:
            self._changes(back=back, why={"back": why})

    def _turn(self) -> set[str]:
        """Return the pages from what the user said last on."""
        found: set[str] = set()
        for page in reversed(self._pages):
            found.add(page.id)
            if page.kind == "user":
                break
        return found

    def _related(self, page: Page, index: Index) -> dict[str, float]:
        """Return the parts before a page that it has to do with, and how much, best first."""
        before: dict[str, str] = {}
        for other in self._pages:
            if other.id == page.id:
                break
            if other.kind != "instructions":
                before |= {part.id: part.text for part in parts(other)}
        if not before:
            return {}
        text = page.text
        if page.message and page.message.get("tool_calls"):
            text += json.dumps(page.message["tool_calls"], ensure_ascii=False)
        asked = set(NAMED.findall(text))
        named = {name: 1.0 for name in before if name in asked or asked & set(STUB.findall(before[name]))}
        if len(text) > 2 * QUESTION:
            text = f"{text[:QUESTION]} {text[-QUESTION:]}"
        hits = index.search(text, 8 * MOST, among=before.keys())
        scores = {hit.id: min(1.0, hit.score) * _adds(text, before[hit.id]) for hit in hits}
        least = max(RELEVANT, BESIDE_BEST * max(scores.values(), default=0.0))
        best = sorted(scores, key=lambda name: -scores[name])  # of equals, the newest
        return named | {name: scores[name] for name in best if scores[name] >= least and name not in named}

    def _wanted(self, wanted: Mapping[str, tuple[float, str]]) -> tuple[dict[str, str], dict[str, str]]:
        """Return what comes back, and why: the best, as far as their share of the window goes. What is there
        already takes its part of the share, and stays for this turn."""
        left = int(self._policy.RECALLED * self._room)
        there = {part.id: part for page in self._pages for part in parts(page) if part.id in wanted}
        beside = self._pages[-1].id
        back, why = {}, {}
        for name, (score, asker) in sorted(wanted.items(), key=lambda item: (-item[1][0], item[0])):
            cost = size(there[name].text) + 8
            if cost <= left:
                left -= cost
                self._called.add(name)
                if name not in self._ram.out:
                    continue
                back[name] = "" if there[name].page.label.ring is Ring.TOOL else beside
                why[name] = f"{asker} asks for it ({score:.2f})"
        return back, why

    # ---- what leaves

    def fit(self) -> None:
        """Let units leave until the window fits. Raises TwofoldError when it cannot."""
        over = self.total - self._room
        if over <= 0:
            return
        may, should_not = self._leaving()
        self._let_go(may, int(self._room - AIR * (self._room - self._fixed())))
        self._let_go(should_not, self._room)
        if self.total > self._room:
            raise TwofoldError(
                f"A window of {self._room:,} tokens has no room for the newest message: with instructions "
                f"the least of it has {self.total:,}. Use a model with a larger window."
            )
        why = f"{self._name}: the window was {over:,} tokens too full for {self._room:,}"
        self._changes(why={**self.change.get("why", {}), "out": why})

    def _fixed(self) -> int:
        """Return the tokens of the instructions, and of the tools that are told with them."""
        first = [message for message in self.messages[:1] if message["role"] == "system"]
        return min(self._room, self._count(first)) if first else 0

    def _let_go(self, units: list[Unit], goal: int) -> None:
        """Let the first of these units leave, until the window has `goal` tokens or none is left."""
        units.reverse()
        while units and self.total > goal:
            need, leaving = self.total - goal, set(self.change.get("out", ()))
            must, skipped = self.total - self._room, list[Unit]()
            while units and need > 0:
                unit = units.pop()
                cost = _cost(unit)
                if must <= 0 and cost > need:
                    skipped.append(unit)  # there is room by now, and air is not worth a large unit
                    continue
                need, must = need - cost, must - cost
                leaving |= {part.id for part in unit}
                gone = {part.page.id for part in unit}  # and what stands beside them
                leaving |= {name for name, beside in self._now.back.items() if beside in gone}
            back = {
                name: beside for name, beside in self.change.get("back", {}).items() if name not in leaving
            }
            self._changes(tick=len(self._rounds), room=self._room, out=sorted(leaving), back=back)
            if self.total > self._room:  # it was only about as many tokens
                units += reversed(skipped)

    def _leaving(self) -> tuple[list[Unit], list[Unit]]:
        """Return the units that may leave, the least worth keeping first, and those that leave at worst."""
        now, newest = len(self._rounds), self._newest()
        found: list[tuple[tuple[float, ...], Unit]] = []
        for born, one in enumerate(self._rounds):
            for unit in one.units(self._now):
                here = tuple(part for part in unit if part.id not in self._now.out)
                if not here:
                    continue
                rank = max(_rank(part, newest, self._now, self._called) for part in here)
                middle = len(parts(here[0].page)) / 2  # of the newest, what is between its ends leaves first
                worth = (
                    self._scores.get(here[0].id, 0.0) + 1e-6 * abs(here[0].number - middle)
                    if rank > 1
                    else self._policy.keep(self._frame(here, born, now))
                )
                found.append(((rank, worth, born, here[0].number), here))
        found.sort(key=lambda item: item[0])
        may = [unit for (rank, *_), unit in found if rank == 0]
        return may, [unit for (rank, *_), unit in found if 0 < rank < 4]

    def _newest(self) -> set[str]:
        """Return the pages that are to be answered: the last round, and what the user said last."""
        newest = {page.id for page in self._rounds[-1].pages}
        for page in reversed(self._pages):
            if page.kind == "user":
                return newest | {page.id}
        return newest

    def _frame(self, here: Sequence[Part], born: int, now: int) -> Frame:
        """Return what the policy knows of parts that leave together."""
        uses = [self._now.use(part.id) for part in here]
        last = max(use.last for use in uses)
        came = last if here[0].id in self._now.back else born
        return Frame(
            order=born, tokens=_cost(here), age=now - came,
            idle=now - max(came, last), heat=max(use.now(now) for use in uses),
        )  # fmt: skip


def _within(page: Page, index: Index) -> dict[str, float]:
    """Return how much the parts of a long page have to do with its ends, which themselves stay longest."""
    names = [part.id for part in parts(page)]
    if len(names) < 4:
        return {}
    first, last = page.text.partition("\n\n")[0], page.text.rpartition("\n")[2]
    text = f"{first[:QUESTION]} {last[-QUESTION:]}"
    return {hit.id: hit.score for hit in index.search(text, len(names), among=names)} | {names[-1]: 2.0}


def _adds(text: str, part: str) -> float:
    """Return 1 for a part that says more than a text, less for one that says what the text does, or that asks
    itself: that a question was asked before does not answer it."""
    words = _words(part)
    only_asks = part.rstrip().endswith("?") and not _TOLD.search(part)
    return (0.5 if only_asks else 1.0) * min(1.0, 2 * len(words - _words(text)) / max(1, len(words)))


@functools.lru_cache(maxsize=1 << 13)
def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.lower()))


def _rank(part: Part, newest: Collection[str], ram: Ram, called: Collection[str]) -> int:
    """Return 0 for what may leave; else the greater, the more it should stay."""
    if part.page.kind == "instructions":
        return 4 if part.number == 0 else 3
    if part.page.id in newest:
        return 2 if part.number else 4 if part.page.kind == "user" else 3
    asked_for = part.id in called or ram.back.get(part.id) in newest
    return 1 if part.page.pinned or asked_for else 0


def _cost(unit: Sequence[Part]) -> int:
    """Return about how many tokens leave with a unit: its text, and the frames of its messages."""
    calls = [
        part.page.message["tool_calls"]
        for part in unit
        if part.page.message and "tool_calls" in part.page.message
    ]
    return sum(size(part.text) + 6 for part in unit) + (size(json.dumps(calls)) if calls else 0)
