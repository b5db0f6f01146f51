"""What only twofold's own web app asks for, a file each: `routes(state)` gives its routes."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from twofold.base import files
from twofold.base.registry import Registry
from twofold.serve import operations
from twofold.serve.guard import Users
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation
from twofold.serve.refusals import Refusal
from twofold.serve.state import State

OWN = Registry("twofold.serve.own", "part of the web app", requires=("routes",))


def users_only(app: ASGIApp) -> ASGIApp:
    """Return an application that lets nobody but the user ask."""
    return Users(app, FAMILY.refuse)


def users_routes(state: State, offered: Sequence[Operation]) -> list[BaseRoute]:
    """Return the routes of operations that nobody but the user may ask for."""
    return [
        Route(route.path, users_only(route.app), methods=list(route.methods or ()), name=route.name)
        for route in operations.routes(state, offered, FAMILY)
    ]


def whole_number(query: Mapping[str, str], name: str, otherwise: int) -> int:
    """Return a number of 0 or more from an address. Raises Refusal for what is none."""
    text = query.get(name, str(otherwise))
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise Refusal("invalid", f"?{name}= takes a whole number, not {text[:40]!r}.", where=name)
    return int(text)


def identity(name: str, path: Path) -> dict[str, str]:
    """Return which model a name means now: {name, sha256}; a folder has no hash. Reads the file once."""
    if not path.is_file():
        return {"name": name, "sha256": ""}
    stat = path.stat()
    return {"name": name, "sha256": _hash(path, stat.st_mtime_ns, stat.st_size)}


@functools.lru_cache(maxsize=64)
def _hash(path: Path, changed: int, size: int) -> str:
    return files.sha256(path)
