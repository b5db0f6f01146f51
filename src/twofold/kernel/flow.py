"""Information flow: who had a part in a text, and who may see it.

Every page of a process carries a label, and so does every argument of a system call. Labels form a lattice:
what is made of two texts is as little trusted as the less trusted one, and may be seen by those who may see
both (Denning 1976, A lattice model of secure information flow; rings after Multics). What may flow where is
decided by the policy, not here.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Ring(IntEnum):
    """How far a text is trusted: the smaller, the more."""

    SYSTEM = 0
    DEVELOPER = 1
    USER = 2
    TOOL = 3


@dataclass(frozen=True)
class Label:
    """ring: the least trusted who had a part in it. readers: who may see it; None: everyone. sources: where
    it comes from, such as "user", "file:notes.txt", "web:example.org"; shown in approvals."""

    ring: Ring
    readers: frozenset[str] | None = None
    sources: frozenset[str] = frozenset()

    def join(self, other: "Label") -> "Label":
        """Return the label of what is made of both."""
        readers = self.readers
        if other.readers is not None:
            readers = other.readers if readers is None else readers & other.readers
        return Label(max(self.ring, other.ring), readers, self.sources | other.sources)

    @property
    def kinds(self) -> list[str]:
        """Return what may be said of its sources to who may not see what came from them: "web", not where."""
        return sorted({source.partition(":")[0] for source in self.sources})

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        readers = None if self.readers is None else sorted(self.readers)
        return {"ring": int(self.ring), "readers": readers, "sources": sorted(self.sources)}

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Label":
        """Return the label of a record."""
        readers = None if record["readers"] is None else frozenset(record["readers"])
        return Label(Ring(record["ring"]), readers, frozenset(record["sources"]))


NOTHING = Label(Ring.SYSTEM)  # joined with a label it changes nothing
USER = Label(Ring.USER, None, frozenset({"user"}))  # of what the user says


def join(labels: Iterable[Label]) -> Label:
    """Return the label of what is made of all of them."""
    found = NOTHING
    for label in labels:
        found = found.join(label)
    return found


@dataclass(frozen=True)
class Tainted:
    """A part of what a device returns that others than the device have a say in: the text of a mail, say,
    beside the mail's number. The part becomes a value of its own, with this label, and stays hidden."""

    value: Any
    label: Label


def outside(value: Any, *sources: str, readers: Iterable[str] | None = None) -> Tainted:
    """Return a part that came from outside. sources: such as "mail:ann@example.org"."""
    names = frozenset(map(named_source, sources))
    return Tainted(value, Label(Ring.TOOL, None if readers is None else frozenset(readers), names))


def named_source(source: str) -> str:
    """Return the name of a source: 80 characters at most, and none that could make a sentence."""
    return re.sub(r"[^\w.:/@+-]", "_", source)[:80]


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a JSON value with its path: "to.0". What is empty is a leaf."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield from flat(item, f"{path}.{place}" if path else str(place))
    else:
        yield path, value
