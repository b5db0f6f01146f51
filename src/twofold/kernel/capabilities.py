"""Capabilities: which functions of which devices a process may call at all, on what, how often, how long.

A capability is no permission to let anything flow; it only opens the door at which the policy stands. A child
gets none that its parent has not (calls/spawn.py; Dennis and Van Horn 1966).
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import SplitResult, urlsplit


@dataclass(frozen=True, kw_only=True)
class Capability:
    """functions: () is all of the device's. scope: patterns that targets must match; () is any. budget: how
    many calls; None: any number. expires: seconds since 1970; None: never.

    A pattern is for paths ("notes/*"), recipients ("*@example.org") or addresses of the web: a host
    ("*.example.org") or a host with a path ("https://example.org/prices/*").
    """

    device: str
    functions: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    budget: int | None = None
    expires: float | None = None

    def names(self, device: str, function: str) -> bool:
        """Return whether it is for this function."""
        return self.device == device and (not self.functions or function in self.functions)

    def covers(self, targets: Sequence[str]) -> bool:
        """Return whether every target is within its scope."""
        return not self.scope or all(any(_within(t, pattern) for pattern in self.scope) for t in targets)

    def lives(self, at: float, made: int) -> bool:
        """Return whether it still holds: at a time, after so many calls that were made on it."""
        return (self.expires is None or at < self.expires) and (self.budget is None or made < self.budget)

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "device": self.device, "functions": list(self.functions), "scope": list(self.scope),
            "budget": self.budget, "expires": self.expires,
        }  # fmt: skip

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Capability":
        """Return the capability of a record."""
        return Capability(
            device=record["device"],
            functions=tuple(record.get("functions", ())),
            scope=tuple(record.get("scope", ())),
            budget=record.get("budget"),
            expires=record.get("expires"),
        )


def host(target: str) -> str:
    """Return the host of an address of the web, in small letters; "" when the target is none."""
    parts = _url(target)
    return "" if parts is None else (parts.hostname or "").rstrip(".")


def _url(target: str) -> SplitResult | None:
    if "://" not in target:
        return None
    try:
        parts = urlsplit(target)
        return parts if parts.hostname else None
    except ValueError:
        return None


def _within(target: str, pattern: str) -> bool:
    """Host and path are matched apart, after "..", user names, ports and case are out of the way."""
    if "\x00" in target or "\\" in target:
        return False
    parts = _url(target)
    if parts is None:
        if "://" in target or "://" in pattern:
            return False
        path = posixpath.normpath(target) if "/" in target or target.startswith(".") else target
        return not (path == ".." or path.startswith("../")) and fnmatchcase(path, pattern)
    scheme, found, rest = pattern.rpartition("://")
    if found and scheme not in ("*", parts.scheme):
        return False
    wanted, slash, path = rest.partition("/")
    if not fnmatchcase(host(target), wanted):
        return False
    return not slash or fnmatchcase(posixpath.normpath(parts.path or "/"), f"/{path}")
