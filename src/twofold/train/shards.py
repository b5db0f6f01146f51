"""Checkpoints that several processes write together, each its own shards, and any number of them reads.

The format is that of torch.distributed.checkpoint inside of a checkpoint's folder: a file of shards per
process and `.metadata`, which says where each slice of each tensor lies. Beside them are the same state.json
and SHA256SUMS that one process writes, and the folder gets its name when all of it is on the disk.

Not covered: several copies of the model, each in shards.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from twofold.base.files import sha256
from twofold.train import checkpoint
from twofold.train.checkpoint import FACTS, SUMS, State
from twofold.train.parallel import Several

Read = Callable[[Path], State]


def save_state(folder: Path, state: State, team: Several) -> None:
    """Write a checkpoint together. Raises OSError in every process when one of them could not."""
    try:
        if team.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            with checkpoint.replacing(checkpoint.place(folder, state.step)) as temporary:
                _write(temporary, state, team)
        else:
            _write(folder / f".{checkpoint.place(folder, state.step).name}.tmp", state, team)
        dist.barrier(team.saving)
    except (RuntimeError, CheckpointException) as error:
        raise OSError(0, " ".join(str(error).split())[:200]) from error


def _write(temporary: Path, state: State, team: Several) -> None:
    dist.barrier(team.saving)  # the folder is there
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(dict(state.tensors), storage_writer=FileSystemWriter(temporary), process_group=team.saving)
    mine = {path.name: sha256(path) for path in sorted(temporary.glob(f"__{team.rank}_*"))}
    found: list[Any] = [None] * team.size
    dist.gather_object(mine, found if team.rank == 0 else None, 0, team.saving)
    if team.rank == 0:
        (temporary / FACTS).write_text(json.dumps({"step": state.step, **state.facts}, indent=1))
        sums = {name: digest for one in found for name, digest in one.items()}
        sums |= {name: sha256(temporary / name) for name in (".metadata", FACTS)}
        (temporary / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        for name in (FACTS, SUMS):
            checkpoint.flush_folder(temporary / name)


def written_together(path: Path) -> bool:
    """Return whether a checkpoint is one of shards."""
    return (path / ".metadata").is_file()


def load_whole(path: Path) -> dict[str, Tensor]:
    """Return all tensors of a checkpoint of shards, whole, in one process."""
    reader = FileSystemReader(path)
    entries = reader.read_metadata().state_dict_metadata
    tensors = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def load_into(path: Path, tensors: dict[str, Any], team: Several) -> None:
    """Fill tensors, sharded over the team as they are, from a checkpoint of shards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(tensors, storage_reader=FileSystemReader(path), process_group=team.saving)


def fetch(
    find: Callable[[Read], State | None],
    tensors: Callable[[], dict[str, Tensor]],
    folder: Path,
    team: Several,
    *,
    sharded: bool,
) -> State | None:
    """Return, in every process, the state that `find` finds in the first one, or None.

    `find` gets a function that reads a checkpoint. What processes wrote together and hold in shards is read
    by each of them, into `tensors`; everything else by the first one, which passes it on.
    """
    found: State | None = None
    if team.rank == 0:

        def read(path: Path) -> State:
            later = sharded and written_together(path)
            return checkpoint.load(path, (lambda _: {}) if later else None)

        try:
            found = find(read)
        except BaseException:
            team.object("failed")
            raise
    outline = None
    if found is not None:
        shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in found.tensors.items()}
        outline = (found.step, found.facts, shapes)
    heard = team.object(outline)
    if heard == "failed":
        raise SystemExit(1)  # the first one says why
    if heard is None:
        return None
    step, facts, shapes = heard
    if not shapes:
        places = tensors()
        load_into(checkpoint.place(folder, step), places, team)
        return State(step, places, facts)
    whole = {}
    for name, (shape, dtype) in shapes.items():
        whole[name] = found.tensors[name] if found is not None else torch.empty(shape, dtype=dtype)
        dist.broadcast(whole[name], 0, group=team.saving)
    return State(step, whole, facts)
