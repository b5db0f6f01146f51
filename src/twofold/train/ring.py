"""The last step on the disk, every step: two files, overwritten in turn, so that kill -9 loses nothing.

What a process has handed to the operating system outlives it. So after each step its state is written into
one of two files that keep their size, without waiting for the disk: this costs a copy in memory. The other
file holds the step before; if the process dies in the middle of a write, that one counts. A power cut may
damage both, as their pages reach the disk in any order; then the sums in their heads do not fit, and the last
checkpoint is used, which did wait for the disk.

A disk that is full takes neither checkpoints nor lines of the log, but these two files lie on it already. So
that the log can keep up with them, a third file keeps room for some thousand of its lines, and is given up
when they need it.

Each file is a safetensors file whose metadata hold the rest of the state. Its first eight bytes are written
last.

Not covered: protection against damage made on purpose (a sum is no cryptographic hash).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.base.errors import BadFileError
from twofold.train.checkpoint import State, Tell, decoded, encoded, raw, reason

NAMES = ("ring-0.safetensors", "ring-1.safetensors")
RESERVE, RESERVE_BYTES = "reserve", 1 << 20
FACTS_ROOM = 8192  # bytes for what is not a tensor
_MOST_PARTS = 512  # in one call of the system


class Ring:
    """The two files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sequence = 0
        self._next = 0
        self._files: dict[int, int] = {}

    def read(self, tell: Tell | None = None) -> State | None:
        """Return the newest state that is whole, or None; the next write goes into the other file.

        `tell` hears of a file that is damaged; one that was being written when the process ended is none.
        """
        found: list[tuple[int, int, State]] = []
        for slot, name in enumerate(NAMES):
            path = self.folder / name
            if not _written(path):
                continue
            try:
                sequence, state = _read(path)
                found.append((sequence, slot, state))
            except (BadFileError, OSError) as error:
                if tell is not None:
                    tell(f"The copy of a step in {path.parent} is damaged ({reason(error)}): it is not used.")
        if not found:
            return None
        self._sequence, slot, state = max(found, key=lambda entry: entry[0])
        self._next = 1 - slot
        return state

    def write(self, state: State) -> None:
        """Put `state` (in the host's memory) in the place of the older one. Raises OSError."""
        facts = {"sequence": self._sequence + 1, "step": state.step, **state.facts}
        text = json.dumps({"facts": facts, "check": _check(facts, state.tensors)})
        head, *parts = encoded(state.tensors, text, FACTS_ROOM)
        file = self._open(self._next, len(head) + sum(part.nbytes for part in parts))
        os.pwrite(file, bytes(8), 0)  # from here to the end this file is not whole
        at = len(head)
        for start in range(0, len(parts), _MOST_PARTS):
            at = _write_all(file, parts[start : start + _MOST_PARTS], at)
        _write_all(file, [head[8:]], 8)
        os.pwrite(file, head[:8], 0)
        self._sequence += 1
        self._next = 1 - self._next

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def remove(self) -> None:
        """Remove the files: the run is done, or its last checkpoint holds the same."""
        self.close()
        for name in (*NAMES, RESERVE):
            (self.folder / name).unlink(missing_ok=True)

    def give_room(self) -> bool:
        """Give up the room that was kept for the log; return whether there was some."""
        try:
            (self.folder / RESERVE).unlink()
        except OSError:
            return False
        return True

    def _open(self, slot: int, size: int) -> int:
        """Return the open file of a slot, with room on the disk for all of it."""
        if slot not in self._files:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._files[slot] = os.open(self.folder / NAMES[slot], os.O_RDWR | os.O_CREAT, 0o666)
            if not (self.folder / RESERVE).exists():
                _keep_room(self.folder / RESERVE)
        file = self._files[slot]
        if os.fstat(file).st_size != size:
            os.ftruncate(file, 0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size)
        return file


def _keep_room(path: Path) -> None:
    """Make a file that takes room on the disk, if there is so much."""
    try:
        with open(path, "wb") as file:
            file.write(bytes(RESERVE_BYTES))
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()


def _write_all(file: int, parts: list[Any], at: int) -> int:
    """Write parts one after the other from `at` on and return where they end."""
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    while views:
        written = os.pwritev(file, views, at)
        at += written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
    return at


def _written(path: Path) -> bool:
    """Return whether a file is there and its last write came to an end."""
    try:
        with open(path, "rb") as file:
            return any(file.read(8))
    except OSError:
        return False


def _read(path: Path) -> tuple[int, State]:
    """Return the sequence number and the state in a file. Raises when it is not whole."""
    with open(path, "rb") as file:
        size = min(int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size)
        head = file.read(size)
    tensors = decoded(path)
    try:
        written = json.loads(json.loads(head)["__metadata__"]["facts"])
        facts = dict(written["facts"])
        if _check(facts, tensors) == written["check"]:
            return int(facts.pop("sequence")), State(int(facts.pop("step")), tensors, facts)
    except (ValueError, KeyError, TypeError) as error:
        raise BadFileError(f"{path.name} has a damaged head") from error
    raise BadFileError(f"{path.name} does not have its sums")


def _check(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of the facts and of each tensor's name, shape and sum of words; one flipped bit shows."""
    sums = []
    for name, tensor in tensors.items():
        words = torch.from_numpy(raw(tensor))
        if len(words) and len(words) % 8 == 0:
            words = words.view(torch.int64)
        sums.append([name, str(tensor.dtype), [*tensor.shape], int(words.sum(dtype=torch.int64))])
    return hashlib.sha256(json.dumps([facts, sums], sort_keys=True).encode()).hexdigest()
