"""The pager: keeps what a model reads within its window, forgets nothing, and brings back what is asked for.

Whatever a conversation's length, the window fits; what is decided for that (plan.py) is one `memory` event,
which the kernel writes before the model reads.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twofold.kernel import embedders
from twofold.kernel.pagers import DEFAULT, PAGERS
from twofold.kernel.pages import Page
from twofold.kernel.plan import NAMED, Count, Plan, size
from twofold.kernel.ram import Part, Ram, parts, ram_of
from twofold.kernel.recall import Index
from twofold.kernel.window import Message

if TYPE_CHECKING:
    from twofold.kernel.process import State

_FOUND = 5  # parts that a call of `recall` brings back, at most


@dataclass(frozen=True, kw_only=True)
class View:
    """What a model reads next. pages: the ids of those that stand in the window with some of their text.
    change: the body of a `memory` event that comes first; None: nothing changes."""

    messages: Sequence[Message]
    pages: tuple[str, ...] = ()
    change: Mapping[str, Any] | None = None


class Pager(Protocol):
    """Chooses by the process's state; the same for the same state, room and counts."""

    def view(self, state: "State", room: int, count: Count) -> View:
        """Return a window of at most `room` tokens; `count` says how many messages have together."""
        ...

    def recall(self, state: "State", question: str) -> Sequence[Part]:
        """Return what is out of the window and has to do with a question, best first."""
        ...


def standing(state: "State") -> list[Page]:
    """Return the pages of a process that have a place of their own: not those whose stub stands in
    another."""
    return [page for page in state.pages if not (page.inside and page.hidden)]


class Paging:
    """Pages by a policy of pagers/. One serves many processes; what it holds of them can be made again."""

    def __init__(
        self, policy: str = DEFAULT, embedder: str | None = embedders.DEFAULT, *, most: int = 64
    ) -> None:
        """embedder: its name, looked up when it is needed; None: words alone say what has to do with what.
        most: of how many processes the texts are kept indexed."""
        self._name = policy
        self._policy: Any = PAGERS.get(policy)
        self._embedder, self._most = embedder, most
        self._indices: dict[int, Index] = {}
        self._lock = threading.Lock()

    def view(self, state: "State", room: int, count: Count) -> View:
        """Return the window of a process, and what has to change for it."""
        return self.window(state.pid, standing(state), ram_of(state), room, count)

    def recall(self, state: "State", question: str) -> Sequence[Part]:
        """Return what a process's call of `recall` brings back."""
        return self.found(state.pid, standing(state), ram_of(state), question)

    def window(self, key: int, pages: Sequence[Page], ram: Ram, room: int, count: Count) -> View:
        """Return the window of any pages, as `view` does of a process's. key: tells one's index from others'.

        Raises TwofoldError when not even the beginning of the newest page fits.
        """
        plan = Plan(self._name, self._policy, pages, ram, room, count)
        if ram.used or ram.out or plan.total > room // 2:  # before that nothing need be known of its parts
            plan.look(self._index(key, pages))
        plan.fit()
        return View(messages=plan.messages, pages=plan.standing(), change=plan.change or None)

    def found(self, key: int, pages: Sequence[Page], ram: Ram, question: str) -> list[Part]:
        """Return the parts outside the window that a question names, or has most to do with, best first: as
        many as a third of the window has room for, and one at least."""
        out = {part.id: part for page in pages for part in parts(page) if part.id in ram.out}
        named = set(NAMED.findall(question))
        found = [part for part in out.values() if part.id in named or part.page.id in named]
        if out and not found:
            found = [out[h.id] for h in self._index(key, pages).search(question, _FOUND, among=out.keys())]
        left = ram.room // 3 - size(found[0].text) if found else 0
        kept = found[:1]
        for part in found[1:]:
            left -= size(part.text)
            kept += [part] * (left >= 0)
        return kept

    def _index(self, key: int, pages: Sequence[Page]) -> Index:
        """Return the index of a process with all its parts; the index unused for longest gives way."""
        with self._lock:
            index = self._indices.pop(key, None)
            if index is None:
                index = Index(embedders.find(self._embedder) if self._embedder else None)
            self._indices[key] = index
            while len(self._indices) > self._most:  # another thread may still read it: it closes itself
                self._indices.pop(next(iter(self._indices)))
        index.add({part.id: part.text for page in pages for part in parts(page) if part.text.strip()})
        return index
