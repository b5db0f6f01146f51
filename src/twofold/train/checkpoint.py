"""Checkpoints: a run's whole state on the disk, never half of it.

A checkpoint is a folder `step-00000120` with `state.safetensors` (weights and optimiser) and `state.json`
(the rest). It is written under another name, flushed to the disk, and renamed: a kill or a power cut leaves
the previous checkpoint. The last two are kept.

Not covered: checkpoints spread over several machines.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from twofold.base.errors import BadFileError

KEPT = 2
PREFIX = "step-"


@dataclasses.dataclass(frozen=True)
class State:
    """Everything a run needs to go on: `tensors` by name, and numbers and text that JSON can hold."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_state(folder: Path, state: State) -> Path:
    """Write a checkpoint below `folder`, drop all but the last two, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{PREFIX}{state.step:08d}"
    temporary = folder / f".{final.name}.tmp"
    for stale in folder.glob(".*.tmp"):  # left by a process that was killed
        shutil.rmtree(stale, ignore_errors=True)
    temporary.mkdir()
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    _write(temporary / "state.safetensors", save(tensors))
    _write(temporary / "state.json", json.dumps({"step": state.step, **state.facts}, indent=1).encode())
    _flush_folder(temporary)
    if final.exists():  # the same step, saved again: what it holds is the same
        shutil.rmtree(final)
    os.replace(temporary, final)
    _flush_folder(folder)
    for old in steps(folder)[:-KEPT]:
        shutil.rmtree(folder / f"{PREFIX}{old:08d}", ignore_errors=True)
    return final


def steps(folder: Path) -> list[int]:
    """Return the steps of the checkpoints below `folder`, ascending."""
    found = folder.glob(f"{PREFIX}*") if folder.is_dir() else []
    return sorted(int(path.name.removeprefix(PREFIX)) for path in found if (path / "state.json").is_file())


def load_latest(folder: Path) -> State | None:
    """Return the newest checkpoint below `folder`, or None. Raises BadFileError when it is damaged."""
    found = steps(folder)
    if not found:
        return None
    path = folder / f"{PREFIX}{found[-1]:08d}"
    try:
        facts = json.loads((path / "state.json").read_bytes())
        tensors = load_file(path / "state.safetensors")
        return State(int(facts.pop("step")), tensors, facts)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        earlier = (
            "" if len(found) == 1 else " The one before it is still there: delete this folder to use it."
        )
        raise BadFileError(f"The checkpoint {path} is damaged ({error}).{earlier}") from error


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
