"""Checkpoints: a run's whole state on the disk, never half of it.

A checkpoint is a folder `step-00000120`:

    state.safetensors   weights and optimiser (the format of parameters/safetensors.py)
    state.json          the rest
    SHA256SUMS          the hashes of both; `sha256sum -c SHA256SUMS` checks them by hand

It is written under another name, flushed to the disk, and renamed: a kill or a power cut leaves the previous
checkpoint. What the disk itself damages shows in the hashes, and the checkpoint before it is used. Which ones
are kept is decided by `prune`.

Not covered: checkpoints written by several processes (shards.py), the step that was just done (ring.py).
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from twofold.base.errors import BadFileError
from twofold.base.files import sha256
from twofold.parameters import safetensors

PREFIX = "step-"
TENSORS, FACTS, SUMS = "state.safetensors", "state.json", "SHA256SUMS"
_NAMES = {
    torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64", torch.uint8: "U8",
}  # fmt: skip
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}
_CHUNK = 1 << 22

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class State:
    """Everything a run needs to go on: `tensors` by name, and numbers and text that JSON can hold."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def copy(self, into: Mapping[str, Tensor] | None = None) -> "State":
        """Return a copy in the host's memory that later steps do not change; reuses the tensors of `into`."""
        tensors = {}
        for name, tensor in self.tensors.items():
            room = None if into is None else into.get(name)
            if hasattr(tensor, "to_local"):  # shards
                tensors[name] = tensor.detach().to("cpu", copy=True)
                continue
            if room is None or room.shape != tensor.shape or room.dtype != tensor.dtype:
                room = torch.empty(tensor.shape, dtype=tensor.dtype)
            tensors[name] = room.copy_(tensor.detach())
        return State(self.step, tensors, self.facts)


def place(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step is."""
    return folder / f"{PREFIX}{step:08d}"


def save_state(folder: Path, state: State) -> Path:
    """Write a checkpoint below `folder` and return its path. Raises OSError, and then leaves nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(place(folder, state.step)) as temporary:
        sums = {TENSORS: _write(temporary / TENSORS, encoded(state.tensors))}
        facts = json.dumps({"step": state.step, **state.facts}, indent=1).encode()
        sums[FACTS] = _write(temporary / FACTS, [facts])
        _write(temporary / SUMS, ["".join(f"{sums[name]}  {name}\n" for name in sums).encode()])
    return place(folder, state.step)


@contextlib.contextmanager
def replacing(final: Path) -> Any:
    """Yield an empty folder that becomes `final` when the block ends well, and vanishes when it does not."""
    temporary = final.parent / f".{final.name}.tmp"
    for stale in final.parent.glob(".*.tmp"):  # left by a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        flush_folder(temporary)
        if final.exists():  # the same step, saved again
            remove(final.parent, int(final.name.removeprefix(PREFIX)))
        os.replace(temporary, final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    flush_folder(final.parent)


def steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints below `folder`, ascending."""
    found = folder.glob(f"{PREFIX}*") if folder.is_dir() else []
    return sorted(int(path.name.removeprefix(PREFIX)) for path in found if (path / FACTS).is_file())


def load(path: Path, tensors: Callable[[Path], dict[str, Tensor]] | None = None) -> State:
    """Return the checkpoint at `path`, whole. Raises BadFileError when it is not what was written.

    `tensors` reads them in another way.
    """
    try:
        verify(path)
        facts = json.loads((path / FACTS).read_bytes())
        return State(int(facts.pop("step")), (tensors or _tensors)(path), facts)
    except (OSError, ValueError, KeyError, TypeError, BadFileError) as error:
        raise BadFileError(f"The checkpoint {path} is damaged ({reason(error)}).") from error


def _tensors(path: Path) -> dict[str, Tensor]:
    if (path / TENSORS).exists():
        return decoded(path / TENSORS)
    from twofold.train import shards  # written by several processes; torch's part for that loads slowly

    return shards.load_whole(path)


def verify(path: Path) -> None:
    """Raise BadFileError unless each file of a checkpoint has the hash that was written beside it.

    Checkpoints of before hashes were written pass: that they can be read is all that is known of them.
    """
    if not hashed(path) and (path / TENSORS).is_file():
        return
    lines = (path / SUMS).read_text(encoding="ascii", errors="replace").splitlines()
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    if FACTS not in sums:
        raise BadFileError(f"{SUMS} is not whole")
    for name, digest in sums.items():
        if sha256(path / name) != digest:
            raise BadFileError(f"{name} does not have its hash")


def hashed(path: Path) -> bool:
    """Return whether hashes were written beside the files of a checkpoint."""
    return (path / SUMS).exists()


def load_latest(folder: Path, tell: Tell | None = None, read: Callable[[Path], State] = load) -> State | None:
    """Return the newest checkpoint below `folder` that is whole, or None when there is none at all.

    `tell` hears of damaged ones, which are passed over, and when the one returned could not be checked.
    Raises BadFileError when all are damaged.
    """
    found = steps(folder)
    for index in range(len(found) - 1, -1, -1):
        path = place(folder, found[index])
        try:
            state = read(path)
        except BadFileError as error:
            if index == 0:
                raise
            if tell is not None:
                tell(f"{error} Going on from the one before it, of step {found[index - 1]:,}.")
            continue
        if tell is not None and not hashed(path):
            tell(f"The checkpoint {path} has no {SUMS}, as in old runs; it is used unchecked.")
        return state
    return None


def facts_of(folder: Path, step: int) -> dict[str, Any]:
    """Return the facts of a checkpoint, empty when they cannot be read."""
    try:
        facts: dict[str, Any] = json.loads((place(folder, step) / FACTS).read_bytes())
        return facts
    except (OSError, ValueError):
        return {}


def anchors(folder: Path) -> list[int]:
    """Return the steps of the checkpoints that a run may roll back to, ascending."""
    return [step for step in steps(folder) if facts_of(folder, step).get("anchor")]


def best(folder: Path) -> int | None:
    """Return the step of the checkpoint with the best held-out score, or None."""
    known = {step: facts_of(folder, step) for step in steps(folder)}
    scores = {step: facts.get("rank", facts.get("bits_per_byte")) for step, facts in known.items()}  # as once
    scored = {step: score for step, score in scores.items() if isinstance(score, float)}
    return min(scored, key=lambda step: scored[step]) if scored else None


def prune(folder: Path, *, keep: int, keep_best: bool, running: bool) -> None:
    """Remove all checkpoints but the last `keep`, the best, and while `running` the last anchor."""
    found = steps(folder)
    kept = {*found[-keep:], best(folder) if keep_best else None, *(anchors(folder)[-1:] if running else [])}
    for step in set(found) - kept:
        remove(folder, step)


def remove(folder: Path, step: int) -> None:
    """Remove a checkpoint; it is none from the first moment on."""
    path = place(folder, step)
    gone = path.parent / f".{path.name}.gone.tmp"
    with contextlib.suppress(OSError):
        os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def encoded(tensors: Mapping[str, Tensor], facts: str | None = None, room: int = 0) -> list[Any]:
    """Return the bytes of a safetensors file in parts; the first part is its head.

    The tensors lie in the host's memory and are not copied. `facts`: one text for its metadata. The head is
    filled up with spaces to `room` bytes more than the tensors' entries take.
    """
    header: dict[str, Any] = {}
    at, parts = 0, []
    for name, tensor in tensors.items():
        parts.append(raw(tensor))
        end = at + parts[-1].nbytes
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": [*tensor.shape], "data_offsets": [at, end]}
        at = end
    size = len(json.dumps(header)) + room
    size += -size % 64
    if facts is not None:
        header["__metadata__"] = {"facts": facts}
    text = json.dumps(header).encode()
    if len(text) > size:
        raise ValueError("the facts are too long for the head")
    return [struct.pack("<Q", size) + text.ljust(size), *parts]


def raw(tensor: Tensor) -> Any:
    """Return the bytes of a tensor in the host's memory, uint8 [n], not copied if it lies in one piece."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()


def decoded(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file, copied. Raises BadFileError."""
    found = {}
    try:
        entries = safetensors.read(path)
    except BadFileError as error:
        raise BadFileError(f"{path.name} is cut off, or its head is damaged") from error
    for name, tensor in entries.items():
        if tensor.dtype not in _DTYPES or math.prod(tensor.shape) * _DTYPES[tensor.dtype].itemsize != len(
            tensor.data
        ):
            raise BadFileError(f"the tensor {name!r} is not whole")
        content = torch.frombuffer(bytearray(tensor.data), dtype=torch.uint8) if len(tensor.data) else None
        found[name] = (
            torch.empty(tensor.shape, dtype=_DTYPES[tensor.dtype])
            if content is None
            else content.view(_DTYPES[tensor.dtype]).reshape(tensor.shape)
        )
    return found


def reason(error: BaseException) -> str:
    """Return why something failed, as half a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".")


def _write(path: Path, parts: Iterable[Any]) -> str:
    """Write parts to a file, flush it to the disk, and return the SHA-256 of its bytes."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for part in parts:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), _CHUNK):  # hashed while it is in the cache
                digest.update(view[start : start + _CHUNK])
                file.write(view[start : start + _CHUNK])
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def flush_folder(path: Path) -> None:
    """Flush the entries of a folder to the disk, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
