"""The shelf: models that were pulled, each a folder of the user's `models/` with the name it goes by.

    models/NAME/model.gguf     the model
    models/NAME/source.json    where it came from: repository, commit, file, hash, licence, time, what was asked

A folder comes onto the shelf in one move, when it is whole, and leaves it in one move. What is on the way
lies in `models/.partial/`.
"""

import dataclasses
import json
import os
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


def remove(name: str) -> Pulled:
    """Take a model off the shelf and return what it was. Raises UsageError when it is not there."""
    model = find(name)
    if model is None:
        raise UsageError(unknown("pulled model", name, (model.name for model in models())))
    partial().mkdir(parents=True, exist_ok=True)
    away = partial() / f"removed-{model.name}-{os.getpid()}"
    os.replace(model.path.parent, away)  # gone in one move, whatever happens while the bytes go
    shutil.rmtree(away)
    return model


def _source(place: Path) -> dict[str, Any]:
    try:
        record = json.loads((place / SOURCE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
