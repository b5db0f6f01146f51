"""Memory across processes: notes that one process keeps and others find.

A note is kept with the label of what it was made of, and whoever recalls it gets it with that label: a note
written by a process that had read a web page is as little trusted next month as that page was, and who may
see it is remembered too. Notes are found by words and meaning (kernel/recall.py). Only `forget` deletes, and
it asks the user first; then the text is really gone (SQLite's secure_delete).

Settings: `file`, where notes are kept; default: os/notes.db in the user's data folder.
"""

import datetime
import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.base import home
from twofold.base.errors import BadFileError
from twofold.kernel import embedders
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import Label, join
from twofold.kernel.recall import Index

DESCRIPTION = "Keeps notes across processes, and finds them by what they are about."

_TABLE = """CREATE TABLE IF NOT EXISTS notes
    (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, pid INTEGER NOT NULL, text TEXT NOT NULL,
    label TEXT NOT NULL)"""
_LONGEST, _MOST = 4_000, 20
_TEXT = {"type": "string"}
_FUNCTIONS = (
    Function(
        name="note",
        description="Keep a note, for later and for other processes.",
        parameters={"type": "object", "properties": {"text": _TEXT}, "required": ["text"]},
        effect=Effect.WRITE,
        contents=("text",),
        trusted=True,
    ),
    Function(
        name="recall",
        description="Find notes kept before, by what they are about.",
        parameters={
            "type": "object",
            "properties": {
                "question": _TEXT,
                "count": {"type": "integer", "description": "at most; default 5"},
            },
            "required": ["question"],
        },
        effect=Effect.READ,
    ),
    Function(
        name="forget",
        description="Delete a note by its number, if the user agrees.",
        parameters={"type": "object", "properties": {"note": {"type": "integer"}}, "required": ["note"]},
        effect=Effect.WRITE,
        targets=("note",),
        trusted=True,
    ),
)


class Memory:
    """The device, on a file that several programs may use."""

    def __init__(self, path: Path, embedder: str | None = embedders.DEFAULT) -> None:
        """Open the notes. Raises BadFileError when the file is something else."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._embedder, self._lock = embedder, threading.Lock()
        self._index: Index | None = None
        try:
            self._base = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._base.execute("PRAGMA secure_delete = ON")
            self._base.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            raise BadFileError(f"{path} does not hold notes: {error}.") from None

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return _FUNCTIONS

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Carry out a call. Raises DeviceError."""
        with self._lock:
            if function == "note":
                return self._note(str(arguments["text"]), context)
            if function == "recall":
                return self._recall(str(arguments["question"]), int(arguments.get("count", 5)))
            return self._forget(int(arguments["note"]), context)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _note(self, text: str, context: Context) -> Returned:
        text = text.strip()
        if not 0 < len(text) <= _LONGEST:
            raise DeviceError(f"A note has 1 to {_LONGEST:,} characters, not {len(text):,}.")
        label = json.dumps(join(context.labels.values()).record())
        row = self._base.execute(
            "INSERT INTO notes (at, pid, text, label) VALUES (?, ?, ?, ?)",
            (time.time(), context.pid, text, label),
        ).lastrowid
        return Returned(value=row, text=f"Kept as note {row}.")

    def _recall(self, question: str, count: int) -> Returned:
        there = {str(row): rest for row, *rest in self._base.execute("SELECT id, at, text, label FROM notes")}
        if self._index is None:
            self._index = Index(embedders.find(self._embedder) if self._embedder else None)
        self._index.add({name: text for name, (_, text, _) in there.items()})
        hits = self._index.search(question, max(1, min(count, _MOST)), among=there.keys())
        notes = [(int(hit.id), *there[hit.id]) for hit in hits]
        value = [{"note": row, "at": _day(at), "text": text} for row, at, text, _ in notes]
        lines = [f"note {one['note']}, {one['at']}: {one['text']}" for one in value]
        label = join(Label.of(json.loads(label)) for *_, label in notes)
        return Returned(value=value, text="\n".join(lines) or "There is no note about that.", label=label)

    def _forget(self, row: int, context: Context) -> Returned:
        found = self._base.execute("SELECT at, text FROM notes WHERE id = ?", (row,)).fetchone()
        if not found:
            raise DeviceError(f"There is no note {row}.")
        question = f"Forget note {row} of {_day(found[0])} for good? It says: {found[1]}"
        if context.ask_user(question, ("forget", "keep")) != "forget":
            return Returned(value=False, text=f"The user keeps note {row}.")
        self._base.execute("DELETE FROM notes WHERE id = ?", (row,))
        return Returned(value=True, text=f"Note {row} is forgotten.")


def _day(at: float) -> str:
    return datetime.datetime.fromtimestamp(at).astimezone().date().isoformat()


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device."""
    return Memory(Path(settings.get("file") or home.data_folder() / "os" / "notes.db").expanduser())
