"""The last step on the disk, every step: two files, overwritten in turn, so that kill -9 loses nothing.

What a process has handed to the operating system outlives it. So after each step its state is written into
one of two files that keep their size, without waiting for the disk: this costs a copy in memory. The other
file holds the step before; if the process dies in the middle of a write, that one counts. A power cut may
damage both, as their pages reach the disk in any order; then the sums in their heads do not fit, and the last
checkpoint is used, which did wait for the disk.

Each file is a safetensors file whose metadata hold the rest of the state. Its first eight bytes are written
last.

Not covered: protection against damage made on purpose (a sum is no cryptographic hash).
"""

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.base.errors import BadFileError
from twofold.train.checkpoint import State, decoded, encoded, raw

NAMES = ("ring-0.safetensors", "ring-1.safetensors")
FACTS_ROOM = 8192  # bytes for what is not a tensor
_MOST_PARTS = 512  # in one call of the system


class Ring:
    """The two files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sequence = 0
        self._next = 0
        self._files: dict[int, int] = {}

    def read(self) -> State | None:
        """Return the newest state that is whole, or None; the next write goes into the other file."""
        found: list[tuple[int, int, State]] = []
        for slot, name in enumerate(NAMES):
            with contextlib.suppress(BadFileError, OSError, ValueError, KeyError):
                sequence, state = _read(self.folder / name)
                found.append((sequence, slot, state))
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
        for name in NAMES:
            (self.folder / name).unlink(missing_ok=True)

    def _open(self, slot: int, size: int) -> int:
        """Return the open file of a slot, with room on the disk for all of it."""
        if slot not in self._files:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._files[slot] = os.open(self.folder / NAMES[slot], os.O_RDWR | os.O_CREAT, 0o666)
        file = self._files[slot]
        if os.fstat(file).st_size != size:
            os.ftruncate(file, 0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size)
        return file


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


def _read(path: Path) -> tuple[int, State]:
    """Return the sequence number and the state in a file. Raises when it is not whole."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        if not 0 < size < 1 << 28:
            raise BadFileError(f"{path} was being written")
        written = json.loads(json.loads(file.read(size))["__metadata__"]["facts"])
    tensors, facts = decoded(path), dict(written["facts"])
    if _check(facts, tensors) != written["check"]:
        raise BadFileError(f"{path} does not have its sums")
    return int(facts.pop("sequence")), State(int(facts.pop("step")), tensors, facts)


def _check(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of the facts and of each tensor's name, shape and sum of words; one flipped bit shows."""
    sums = []
    for name, tensor in tensors.items():
        words = torch.from_numpy(raw(tensor))
        if len(words) and len(words) % 8 == 0:
            words = words.view(torch.int64)
        sums.append([name, str(tensor.dtype), [*tensor.shape], int(words.sum(dtype=torch.int64))])
    return hashlib.sha256(json.dumps([facts, sums], sort_keys=True).encode()).hexdigest()
