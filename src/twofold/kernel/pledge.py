"""Pledges: a process binds itself to the calls it will make, before it reads anything untrusted.

As OpenBSD's pledge(2), and as the plan of CaMeL (Debenedetti et al. 2025, Defeating prompt injections by
design), but as plain data: a list of calls, each argument fixed or left open for a type. What is fixed was
written when nobody but the user had been heard, and stays as trusted as that. What is open says how much of
what is read may flow there. Afterwards nothing outside the pledge is possible, and there is no other pledge.

    {"calls": [{"function": "bank_read", "arguments": {"n": {"open": "integer"}}},
               {"function": "bank_send", "times": 1, "arguments": {
                   "recipient": "GB29NWBK60161331926819",      fixed
                   "amount": {"open": "number"},               a number, whatever it is
                   "subject": {"like": "Refund for {date}"}}}],
     "answer": "You were sent {number}; the bank says {quote}."}

Types: number, integer, boolean, date, name (a word without blanks: an account, an address), text, and in
an answer quote (the name of a value, whose text the user is shown as somebody's). Numbers, booleans and
dates are *bounded*: a datum, not a letter to anybody. So is a name that nobody untrusted had a part in, and
no other: one word can be a stranger's, or a secret in other letters. {"one_of": […]} is as fixed as its
list, {"each": …} a list of any length.
"times" is 1 where nothing is said; the answer is free where there is none.

Short forms, for windows that are small: {"bank_read": {"n": {"open": "integer"}}, "times": 3} names the
function by its key; "calculator 12" is 12 calls with any arguments, each piece open for any text.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from twofold.base.errors import UsageError
from twofold.kernel.flow import Label, flat

_TYPES = {
    "integer": r"[-+]?\d{1,15}",
    "number": r"[-+]?\d{1,15}(?:\.\d{1,6})?",
    "boolean": r"(?:true|false|yes|no)",
    "date": r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?|\d\d:\d\d",
    "name": r"[\w.@+\-]{1,80}",
    "text": r"[\s\S]*",
    "quote": r"\$\{v\d+\}",
}
_SLOT = re.compile(r"\{(" + "|".join(_TYPES) + r")\}")
_SPECIAL = {"open", "like", "each", "one_of"}


@dataclass(frozen=True)
class Fit:
    """How a leaf fits: fixed by the pledge, open but bounded, open for a name, or for any text.

    pattern, text: what it was open for, and what stands there.
    """

    how: Literal["fixed", "bounded", "name", "text"]
    pattern: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Item:
    """A call that is pledged: its function by the name models call it by, and patterns of its
    arguments; None: any."""

    function: str
    arguments: Mapping[str, Any] | None = field(default_factory=dict)
    times: int = 1

    def fits(self, arguments: Mapping[str, Any]) -> Mapping[str, Fit] | None:
        """Return how each leaf of a call's arguments fits, by its path; None when the call is another one."""
        if self.arguments is None:
            return {path: Fit("text", "{text}", spell(value)) for path, value in flat(dict(arguments))}
        found = _fits(dict(self.arguments), dict(arguments), "")
        return None if found is None else dict(found)


@dataclass(frozen=True, kw_only=True)
class Pledge:
    """label: the process's own when it pledged."""

    items: tuple[Item, ...]
    label: Label
    answer: str | None = None

    def find(
        self, function: str, arguments: Mapping[str, Any], used: Mapping[int, int]
    ) -> tuple[int, Mapping[str, Fit]] | None:
        """Return the first item (its place) that a call fits and that is not used up, and how it fits."""
        for place, item in enumerate(self.items):
            if item.function == function and used.get(place, 0) < item.times:
                fits = item.fits(arguments)
                if fits is not None:
                    return place, fits
        return None

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        calls = [{"function": i.function, "arguments": i.arguments, "times": i.times} for i in self.items]
        return {"calls": calls, "answer": self.answer, "label": self.label.record()}

    @staticmethod
    def of(record: Mapping[str, Any], label: Label | None = None) -> "Pledge":
        """Return the pledge of a record. Raises UsageError when it is none."""
        items = []
        for call in record.get("calls", ()):
            name, arguments, times = _spelled(call)
            if (
                not (arguments is None or isinstance(arguments, Mapping))
                or type(times) is not int
                or times < 1
            ):
                raise UsageError(f"The pledge of {name} has no arguments, or no number of times.")
            for _, wrong in _faults(arguments):
                raise UsageError(f"The pledge of {name}: {wrong}")
            items.append(Item(function=name, arguments=arguments, times=times))
        found = Label.of(record["label"]) if label is None else label
        return Pledge(items=tuple(items), label=found, answer=record.get("answer"))


def _spelled(call: Any) -> tuple[str, Any, Any]:
    """Return function, arguments (None: any) and times of a pledged call, in whichever form it is written."""
    if isinstance(call, str) and (found := re.fullmatch(r"([\w.-]+)(?: (\d{1,6}))?", call)):
        return found[1], None, int(found[2] or 1)
    if isinstance(call, Mapping):
        if isinstance(name := call.get("function"), str):
            return name, call.get("arguments", {}), call.get("times", 1)
        names = [name for name in call if name != "times"]
        if len(names) == 1 and names[0] not in ("arguments", "function"):
            return names[0], call[names[0]], call.get("times", 1)
    raise UsageError("A pledge is a list of calls, each with the name of its function.")


def like(
    pattern: str, text: str, accept: Callable[[str, str], bool] = lambda kind, piece: True
) -> tuple[str, ...] | None:
    """Return what stands in the slots of a pattern ("Dinner at {text}"), None where a text is not like it.

    accept: whether a piece may stand in a slot of a type; where a text can be read in several ways, one is
    looked for in which all may. After 10,000 tries it is given up.
    """
    pieces, tries, dead = _SLOT.split(pattern), 0, set[tuple[int, int]]()

    def read(place: int, at: int) -> tuple[str, ...] | None:
        nonlocal tries
        if not text.startswith(pieces[place], at) or (place, at) in dead:
            return None
        start = at + len(pieces[place])
        if place + 1 == len(pieces):
            return () if start == len(text) else None
        kind, after = pieces[place + 1 : place + 3]
        end = text.find(after, start) if place + 3 < len(pieces) else len(text) - len(after)
        while start <= end and tries < 10_000:
            tries, piece = tries + 1, text[start:end]
            if re.fullmatch(_TYPES[kind], piece) and accept(kind, piece):
                rest = read(place + 2, end)
                if rest is not None:
                    return (piece, *rest)
            end = text.find(after, end + 1) if place + 3 < len(pieces) and end < len(text) else -1
        dead.add((place, at))
        return None

    return read(0, 0)


def _how(types: Sequence[str]) -> Literal["bounded", "name", "text"]:
    """Return what a slot, or a pattern with several, lets through."""
    if "text" in types:
        return "text"
    return "name" if "name" in types else "bounded"


def spell(value: Any) -> str:
    """Return a leaf as a text: as it stands in a template, and as it is compared."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _fits(pattern: Any, value: Any, path: str) -> list[tuple[str, Fit]] | None:
    if isinstance(pattern, Mapping) and len(pattern) == 1 and _SPECIAL & set(pattern):
        ((kind, inner),) = pattern.items()
        return _special(kind, inner, value, path)
    if isinstance(pattern, Mapping):
        if not isinstance(value, Mapping) or set(pattern) != set(value):
            return None
        return _all((pattern[key], value[key], f"{path}.{key}" if path else key) for key in pattern)
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(pattern) != len(value):
            return None
        return _all((p, v, f"{path}.{n}") for n, (p, v) in enumerate(zip(pattern, value, strict=True)))
    same = type(pattern) is type(value) or (
        isinstance(pattern, int | float) and isinstance(value, int | float)
    )
    same = same and isinstance(pattern, bool) == isinstance(value, bool)
    return [(path, Fit("fixed"))] if same and pattern == value else None


def _special(kind: str, inner: Any, value: Any, path: str) -> list[tuple[str, Fit]] | None:
    if kind == "each":
        if not isinstance(value, list):
            return None
        return _all((inner, item, f"{path}.{n}") for n, item in enumerate(value))
    if kind == "one_of":  # whichever it is, the process itself wrote it, in its pledge
        return [(leaf, Fit("fixed")) for leaf, _ in flat(value, path)] if value in inner else None
    if isinstance(value, Mapping | list):
        return None
    if kind == "open":
        if not re.fullmatch(_TYPES[inner], spell(value)) or (inner == "text" and not isinstance(value, str)):
            return None
        return [(path, Fit(_how([inner]), f"{{{inner}}}", spell(value)))]
    if not isinstance(value, str) or like(inner, value) is None:
        return None
    return [(path, Fit(_how(_SLOT.findall(inner)), inner, value))]


def _all(parts: Iterator[tuple[Any, Any, str]]) -> list[tuple[str, Fit]] | None:
    found: list[tuple[str, Fit]] = []
    for pattern, value, path in parts:
        fits = _fits(pattern, value, path)
        if fits is None:
            return None
        found += fits
    return found


def _faults(pattern: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield what is no pattern."""
    if isinstance(pattern, Mapping):
        for kind in _SPECIAL & set(pattern):
            if len(pattern) > 1:
                yield path, f"{path} is {kind} and something else."
            elif kind == "open" and pattern[kind] not in _TYPES:
                yield path, f"{path} is open for {pattern[kind]!r}: known are {', '.join(_TYPES)}."
            elif kind == "like" and not isinstance(pattern[kind], str):
                yield path, f"{path} is like no text."
            elif kind == "one_of" and not isinstance(pattern[kind], Sequence):
                yield path, f"{path} is one of no list."
        for key, item in pattern.items():
            yield from _faults(item, f"{path}.{key}" if path else str(key)) if key != "one_of" else ()
    elif isinstance(pattern, list):
        for place, item in enumerate(pattern):
            yield from _faults(item, f"{path}.{place}")
