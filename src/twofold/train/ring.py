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

Where a model lies in shards, each process writes its own rows into two files of its own, and a step counts
when all of them have it whole. The states are numbered, which shows those that belong together; any number of
processes can go on from them.

Not covered: models that do not fit into one host's memory when they are read; protection against damage made
on purpose (a sum is no cryptographic hash).
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.base.errors import BadFileError
from twofold.train.checkpoint import State, Tell, decoded, encoded, raw, reason

NAMES = ("ring-0.safetensors", "ring-1.safetensors")
RESERVE, RESERVE_BYTES = "reserve", 1 << 20
_NAME = re.compile(r"ring-[01](?:\.(\d+)-of-(\d+))?\.safetensors")
_ROWS = "rows."  # before the name of a tensor of which a file has only its process's rows
FACTS_ROOM = 8192  # bytes for what is not a tensor
_MOST_PARTS = 512  # in one call of the system


class Ring:
    """The files in `folder`; this process is one of `size` that have a part each."""

    def __init__(self, folder: Path, rank: int = 0, size: int = 1) -> None:
        self.folder, self.rank, self.size = folder, rank, size
        self.next = 1  # number of the state that is written next
        self._written = 0
        self._files: dict[int, int] = {}

    def read(self, tell: Tell | None = None) -> State | None:
        """Return the newest state that is whole, or None; the next write leaves it alone.

        `tell` hears of a file that is damaged; one that was being written when the process ended is none.
        """
        found: dict[tuple[int, int], dict[int, Path]] = {}  # by number and size of the team, then by rank
        for path, rank, size in self._there():
            try:
                number, _ = _read(path)  # only checked: all of them at once may be too large
                found.setdefault((number, size), {})[rank] = path
            except (BadFileError, OSError) as error:
                self._damaged(error, tell)
        newest = max((number for number, _ in found), default=0)
        for (number, size), paths in sorted(found.items(), reverse=True):
            if len(paths) < size:  # a process was lost before it had written its part
                continue
            try:
                state = _joined([_read(paths[rank])[1] for rank in range(size)])
            except (BadFileError, OSError) as error:
                self._damaged(error, tell)
                continue
            # Above all numbers there are, and not in this one's place.
            self.next = number + 1 + 2 * ((newest - number + 1) // 2)
            return state
        self.next = newest + 1
        return None

    def write(self, state: State, number: int | None = None) -> None:
        """Put `state` (in the host's memory, but for shards) in the place of the older one. Raises OSError.

        `number`: that of the state, by default the next; all processes use the same.
        """
        number = number or self.next
        tensors = _parts(state.tensors)
        facts = {"sequence": number, "step": state.step, **state.facts}
        text = json.dumps({"facts": facts, "check": _check(facts, tensors)})
        head, *parts = encoded(tensors, text, FACTS_ROOM)
        file = self._open((number - 1) % 2, len(head) + sum(part.nbytes for part in parts))
        os.pwrite(file, bytes(8), 0)  # from here to the end this file is not whole
        at = len(head)
        for start in range(0, len(parts), _MOST_PARTS):
            at = _write_all(file, parts[start : start + _MOST_PARTS], at)
        _write_all(file, [head[8:]], 8)
        os.pwrite(file, head[:8], 0)
        self.next = number + 1
        self._written += 1
        if self._written > len(NAMES) and self.rank == 0:  # all have written one: a step lies between
            self._remove_those_of_others()

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.popitem()[1])

    def remove(self) -> None:
        """Remove the files: the run is done, or its last checkpoint holds the same."""
        self.close()
        for path, _, _ in self._there(whole=False):
            path.unlink(missing_ok=True)
        (self.folder / RESERVE).unlink(missing_ok=True)

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
            name = NAMES[slot]
            if self.size > 1:
                name = name.replace(".", f".{self.rank}-of-{self.size}.")
            self._files[slot] = os.open(self.folder / name, os.O_RDWR | os.O_CREAT, 0o666)
            if self.rank == 0 and not (self.folder / RESERVE).exists():
                _keep_room(self.folder / RESERVE)
        file = self._files[slot]
        if os.fstat(file).st_size != size:
            os.ftruncate(file, 0)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file, 0, size)
        return file

    def _there(self, *, whole: bool = True) -> list[tuple[Path, int, int]]:
        """Return all files of rings, each with its rank and size of team; `whole`: written to the end."""
        found = []
        for path in sorted(self.folder.glob("ring-*")):
            match = _NAME.fullmatch(path.name)
            if match is not None and (_written(path) or not whole):
                found.append((path, int(match[1] or 0), int(match[2] or 1)))
        return found

    def _remove_those_of_others(self) -> None:
        """Remove what a team of another size has left."""
        for path, _, size in self._there(whole=False):
            if size != self.size:
                path.unlink(missing_ok=True)

    def _damaged(self, error: Exception, tell: Tell | None) -> None:
        if tell is not None:
            tell(f"The copy of a step in {self.folder} is damaged ({reason(error)}): it is not used.")


def _parts(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what this process has of each tensor."""
    parts = {}
    for name, tensor in tensors.items():
        if hasattr(tensor, "to_local"):
            parts[_ROWS + name] = tensor.to_local().detach()
        else:
            parts[name] = tensor
    return parts


def _joined(states: list[State]) -> State:
    """Return the state of which each process wrote its part; what all have is taken from the first."""
    first = states[0]
    if len({state.step for state in states}) > 1:
        raise BadFileError("the processes' parts are of several steps")
    tensors = {}
    for name, tensor in first.tensors.items():
        if name.startswith(_ROWS):
            tensors[name.removeprefix(_ROWS)] = torch.cat([state.tensors[name] for state in states])
        else:
            tensors[name] = tensor
    return State(first.step, tensors, first.facts)


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
    """Return the number of the state in a file, and the state. Raises BadFileError when it is not whole."""
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
