"""Policies of the pager, one file each: what leaves the window first, and what is left in its place.

A file defines

    DESCRIPTION              one sentence
    keep(frame) -> float     how much a unit is worth its place; the least leaves first
    stub(text) -> str        what is said of a text that is not there, on one line
    LISTED, RECALLED         shares of the window, at most: for the list of what is out, and for what comes
                             back by itself because the user's words ask for it

Figures of all of them: benchmarks/pager.py. Not covered here: what must stay, and the room there is
(pager.py)."""

from dataclasses import dataclass
from typing import Protocol

from twofold.base.registry import Registry

PAGERS = Registry(
    "twofold.kernel.pagers", "pager", requires=("DESCRIPTION", "keep", "stub", "LISTED", "RECALLED")
)
DEFAULT = "lru"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What a policy knows of a unit in the window.

    tokens: what its place costs. order: its place in the conversation, from 0. age: turns since it came, or
    came back. idle: turns since it was used last, or else its age. heat: how warm it is.
    """

    tokens: int
    order: int
    age: int
    idle: int
    heat: float


class Policy(Protocol):
    """What a file of this folder is."""

    LISTED: float
    RECALLED: float

    @staticmethod
    def keep(frame: Frame) -> float: ...

    @staticmethod
    def stub(text: str) -> str: ...


def beginning(text: str, characters: int = 60) -> str:
    """Return the first words of a text on one line."""
    line = " ".join(text.split())
    if len(line) <= characters:
        return line
    return line[:characters].rsplit(" ", 1)[0] + " …"
