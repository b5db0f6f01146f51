"""What only twofold's own web app asks for, a file each: `routes(state)` gives its routes."""

import functools
from collections.abc import Mapping
from pathlib import Path

from twofold.base import files
from twofold.base.registry import Registry
from twofold.serve.refusals import Refusal

OWN = Registry("twofold.serve.own", "part of the web app", requires=("routes",))


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
