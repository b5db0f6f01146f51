"""A process's memory as its user sees and changes it: the rows of the map, and the reasons behind each.

Changes are bodies of `memory` events (ram.py), to be journaled by whoever was asked for them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from twofold.base.errors import UsageError
from twofold.base.names import unknown
from twofold.kernel.journal import Event
from twofold.kernel.pages import Page
from twofold.kernel.plan import size
from twofold.kernel.process import State
from twofold.kernel.ram import Part, Ram, page_of, parts, ram_of
from twofold.kernel.window import rounds

Change = dict[str, Any]
Place = Literal["in", "out", "back", "hidden"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A part of a page, as the map shows it.

    place: "in" the window where it was said; "out"; "back" beside a later page; "hidden": a stub of what the
    process may pass on and not read. heat: how warm it is now. turn: the user's turn, from 0; -1:
    instructions."""

    id: str
    page: str
    kind: str
    ring: int
    readers: tuple[str, ...] | None
    sources: tuple[str, ...]
    turn: int
    tokens: int
    place: Place
    pinned: bool
    heat: float
    text: str

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def rows(state: State) -> list[Row]:
    """Return the parts of all pages of a process, in order."""
    ram = ram_of(state)
    turns = {page.id: one.turn for turn in rounds(state.pages) for one in turn for page in one.pages}
    now = ram.tick
    found = []
    for page in state.pages:
        pieces = parts(page)
        readers = None if page.label.readers is None else tuple(sorted(page.label.readers))
        for part in pieces:
            share = page.tokens * len(part.text) // max(1, len(page.text)) if len(pieces) > 1 else page.tokens
            found.append(
                Row(
                    id=part.id, page=page.id, kind=page.kind, ring=int(page.label.ring), readers=readers,
                    sources=tuple(sorted(page.label.sources)), turn=turns[page.id], pinned=page.pinned,
                    tokens=len(part.text) // 4 if page.hidden else share, place=_place(page, part, ram),
                    heat=round(ram.use(part.id).now(now), 3), text=part.text,
                )
            )  # fmt: skip
    return found


def _place(page: Page, part: Part, ram: Ram) -> Place:
    if part.id in ram.out:
        return "out"
    return "back" if part.id in ram.back else "hidden" if page.hidden else "in"


# ---- what the user changes


def pin(state: State, name: str) -> Change:
    """Return the change by which a page stays in the window, where it comes back to if it is out."""
    page = _page(state, name)
    out = [part.id for part in parts(page) if part.id in ram_of(state).out]
    return {"pin": [page.id], "why": "the user pinned it", **_home(out)}


def unpin(state: State, name: str) -> Change:
    """Return the change by which a page may leave again."""
    return {"unpin": [_page(state, name).id], "why": "the user unpinned it"}


def evict(state: State, name: str) -> Change:
    """Return the change by which a page or a part of it leaves the window; it comes back when asked for."""
    page = _page(state, name)
    if page.id == state.pages[-1].id:
        raise UsageError(f"{page.id} is the newest page, which is to be answered: it stays.")
    return {"out": [p.id for p in _parts(page, name)], "unpin": [page.id], "why": "the user took it out"}


def load(state: State, name: str) -> Change:
    """Return the change by which a page or a part of it comes back into the window."""
    out = [p.id for p in _parts(_page(state, name), name) if p.id in ram_of(state).out]
    if not out:
        raise UsageError(f"{name} is in the window already.")
    return {**_home(out), "why": "the user brought it back"}


def edit(state: State, name: str, text: str) -> Change:
    """Return the change by which a page says something else from now on; what it said stays in the
    journal."""
    page = _page(state, name)
    if page.hidden:
        raise UsageError(f"{page.id} is hidden: the process does not read it, and passes it on as it is.")
    return {"edit": {page.id: {"text": text, "tokens": size(text)}}, "why": "the user changed it"}


def _home(names: Iterable[str]) -> Change:
    return {"back": dict.fromkeys(names, "")}


def text(state: State, name: str) -> str:
    """Return the whole text of a page, or of a part of it. A hidden one's is the user's to read."""
    page = _page(state, name)
    return page.text if name == page.id else "".join(part.text for part in _parts(page, name))


def _page(state: State, name: str) -> Page:
    page = state.page(page_of(name))
    if page is None:
        raise UsageError(unknown("page", name, [page.id for page in state.pages]))
    return page


def _parts(page: Page, name: str) -> Sequence[Part]:
    found = [part for part in parts(page) if name in (part.id, page.id)]
    if not found:
        raise UsageError(unknown("part", name, [part.id for part in parts(page)]))
    return found


# ---- why is this here?


def why(state: State, events: Iterable[Event], name: str) -> list[tuple[int, str]]:
    """Return what happened to a page, or to a part of it: the numbers of the events, and a sentence each."""
    page = _page(state, name)
    mine = {part.id for part in _parts(page, name)} | {page.id}
    found = []
    for event in events:
        if event.kind == "memory":
            found += [(event.seq, sentence) for sentence in _changes(event.body, mine)]
        elif page.id in _brings(event):
            who = {
                "user": "the user said it",
                "assistant": "the process said it",
                "instructions": "its instructions",
            }
            label = page.label
            from_ = (
                f" (from {', '.join(sorted(label.sources))})"
                if page.kind not in who and label.sources
                else ""
            )
            found.append(
                (
                    event.seq,
                    f"{who.get(page.kind, f'{page.source} returned it')}{from_}; ring {int(label.ring)}",
                )
            )
        elif event.kind == "revealed" and event.body["page"] == page.id:
            found.append(
                (event.seq, "it was revealed: since then the process reads it, and is tainted by it")
            )
    return found


def _brings(event: Event) -> list[str]:
    """Return the ids of the pages that an event brought."""
    pages = event.body.get("pages", [event.body.get("page")])
    return [page["id"] for page in pages if isinstance(page, Mapping)]


def told(body: Mapping[str, Any]) -> str:
    """Return what a `memory` event did, on one line; "" when it only warmed parts."""
    back, out = body.get("back", {}), body.get("out", ())
    said = [f"{', '.join(back)} came back"] if back else []
    if out:
        said.append(
            f"{len(out)} parts left the window" if len(out) > 4 else f"{', '.join(out)} left the window"
        )
    for kind, done in (("pin", "pinned"), ("unpin", "unpinned"), ("edit", "changed")):
        said += [f"{', '.join(body[kind])} {done}"] if body.get(kind) else []
    return "; ".join(said)


def _changes(body: Mapping[str, Any], mine: set[str]) -> list[str]:
    """Return what a `memory` event did to parts."""
    reasons = body.get("why", "")
    sentences = []

    def because(kind: str, name: str = "") -> str:
        reason = reasons.get(kind, "") if isinstance(reasons, Mapping) else reasons
        reason = reason.get(name, "") if isinstance(reason, Mapping) else reason
        return f": {reason}" if reason else ""

    used = [body["used"][name] for name in body.get("used", {}) if name in mine]
    if used:
        sentences.append(f"what came in round {body['tick']} has to do with it ({max(used):.2f})")
    for name in body.get("out", ()):
        if name in mine:
            sentences.append(f"{name} left the window{because('out')}")
    for name, beside in body.get("back", {}).items():
        if name in mine:
            place = f"beside {beside}" if beside else "to its place"
            sentences.append(f"{name} came back {place}{because('back', name)}")
    for kind, done in (("pin", "was pinned"), ("unpin", "was unpinned"), ("edit", "was changed")):
        sentences += [f"it {done}{because(kind)}" for name in body.get(kind, ()) if name in mine]
    return sentences
