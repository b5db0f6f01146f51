"""A file that only grows: one JSON object per line, each flushed to the disk before it counts.

A process that is killed, or a power cut, leaves at most one torn last line. It was never confirmed, so
readers pass it over, and the next line begins on a line of its own.

Format: JSON Lines, UTF-8. Within a process writers take turns; several processes may each add lines, too,
since a line is one write to a file that is opened for appending.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twofold.base import files

_turn = threading.Lock()


def add(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record as the last line; it is on the disk when this returns. The folder is made if need be."""
    line = json.dumps(record, ensure_ascii=False) + "\n"
    with _turn:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = "\n" if _torn(path) else ""
        files.append(path, (start + line).encode("utf-8", "replace"))


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each record with the number of its line. No file is no records; torn lines are passed over."""
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield number, record


def _torn(path: Path) -> bool:
    """Return whether the file does not end with a line's end."""
    if not path.exists() or not path.stat().st_size:
        return False
    with open(path, "rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"
