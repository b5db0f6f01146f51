"""The shelf: models that were pulled, each a folder of the user's `models/` with the name it goes by.

    models/NAME/model.gguf     the model
    models/NAME/source.json    where it came from: repository, commit, file, hash, licence, time, asked as

A folder comes onto the shelf in one move, when it is whole, and leaves it in one move. What is on the way
lies in `models/.partial/`.
"""

import dataclasses
import glob
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from twofold.base.errors import UsageError
from twofold.base.names import unknown
from twofold.run import default

MODEL, SOURCE = "model.gguf", "source.json"


@dataclasses.dataclass(frozen=True)
class Pulled:
    """A model on the shelf; `source` is what source.json says, empty if it is damaged."""

    name: str
    path: Path
    source: dict[str, Any]


def folder() -> Path:
    """Return where pulled models are kept."""
    return default.folder()


def partial() -> Path:
    """Return where models are kept that are on the way."""
    return folder() / ".partial"


def models() -> list[Pulled]:
    """Return the pulled models by name."""
    found = sorted(path for path in folder().glob(f"*/{MODEL}") if not path.parent.name.startswith("."))
    return [Pulled(path.parent.name, path, _source(path.parent)) for path in found]


def find(name: str) -> Pulled | None:
    """Return the pulled model of this name, or that was asked for under it; None when there is none."""
    all_ = models()
    named = (model for model in all_ if name == model.name)
    asked = (model for model in all_ if name == model.source.get("asked"))
    return next(named, None) or next(asked, None)


def place(ready: Path, name: str) -> None:
    """Put a folder that is whole onto the shelf under a name, instead of one that has it."""
    final = folder() / name
    if final.exists():
        _throw_away(final)
    os.replace(ready, final)


def remove(name: str) -> str:
    """Take a model off the shelf, and throw away what came of one; return its name.

    Raises UsageError when there is neither.
    """
    model = find(name)
    if model is None and name not in unfinished():
        raise UsageError(unknown("pulled model", name, {*(model.name for model in models()), *unfinished()}))
    if model is not None:
        name = model.name
        _throw_away(model.path.parent)
    forget(name)
    return name


# --- on the way


def stage(name: str, version: str) -> Path:
    """Return the folder for what has come of a model so far, of one version of it."""
    return partial() / f"{name}@{re.sub('[^0-9A-Za-z_]+', '-', version)[-40:]}"


def unfinished() -> dict[str, int]:
    """Return the names of models of which only a part has come, and how many bytes."""
    found: dict[str, int] = {}
    for place_ in partial().glob("*@*"):
        size = sum(file.stat().st_size for file in place_.rglob("*") if file.is_file())
        name = place_.name.partition("@")[0]
        found[name] = found.get(name, 0) + size
    return found


def forget(name: str) -> None:
    """Throw away what has come of a model so far."""
    for place_ in partial().glob(f"{glob.escape(name)}@*"):
        shutil.rmtree(place_)


def _throw_away(place_: Path) -> None:
    partial().mkdir(parents=True, exist_ok=True)
    away = partial() / f"{place_.name}@removed"
    shutil.rmtree(away, ignore_errors=True)
    os.replace(place_, away)  # gone in one move, whatever happens while the bytes go
    shutil.rmtree(away)


def _source(place: Path) -> dict[str, Any]:
    try:
        record = json.loads((place / SOURCE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
