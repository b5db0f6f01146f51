"""The default model, which commands open when none is named: the one in the box, until another is promoted.

A promoted model is copied into the user's data folder, below `models/`, under the hash of its bytes, so
that it stays when its run folder goes. `models/defaults.jsonl` records each promotion and rollback, in
order; the present default is what that comes to. Nothing is deleted: every earlier default can come back.

Not covered: removing old models (delete their files by hand).
"""

import contextlib
import dataclasses
import datetime
import json
import os
import shutil
from pathlib import Path
from typing import Any

from twofold.base import files, home
from twofold.base.errors import BadFileError, UsageError
from twofold.run import box


@dataclasses.dataclass(frozen=True)
class Default:
    """A model that is or was the default: its file, name and hash, and the record of its promotion."""

    path: Path
    name: str
    sha256: str
    about: dict[str, Any]


def folder() -> Path:
    """Return where promoted models are kept."""
    return home.data_folder() / "models"


def promoted() -> list[Default]:
    """Return the promoted models in force, the present default last; empty: it is the one in the box.

    Raises BadFileError when the record of them is damaged.
    """
    path = folder() / "defaults.jsonl"
    stack: list[Default] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.exists() else [], 1):
        try:
            record = json.loads(line)
            if record["what"] == "rollback":
                stack.pop()
            else:
                file = folder() / record["file"]
                stack.append(Default(file, record["name"], record["sha256"], record))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise BadFileError(
                f"{path}, line {number}: damaged ({error}); mend or remove that line."
            ) from error
    return stack


def path() -> Path:
    """Return the file of the default model. Raises BadFileError when a promoted one is gone."""
    stack = promoted()
    if not stack:
        return box.path()
    if not stack[-1].path.is_file():
        raise BadFileError(
            f"The default model {stack[-1].path} is gone: `twofold rollback` returns to the one before it."
        )
    return stack[-1].path


def promote(model: Path, name: str, about: dict[str, Any]) -> Default:
    """Make a copy of a model file the default; return it. `about` is kept in the record."""
    digest = files.sha256(model)
    kept = folder() / f"{digest[:16]}.gguf"
    folder().mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        temporary = kept.with_suffix(".tmp")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            os.link(model, temporary)  # run folders replace their files, they never write into them
        except OSError:
            shutil.copyfile(model, temporary)
        os.replace(temporary, kept)
    _record({"what": "promote", "file": kept.name, "name": name, "sha256": digest, **about})
    return promoted()[-1]


def rollback() -> Default | None:
    """Return to the default before the present one, and return it; None is the model in the box.

    Raises UsageError when the model in the box is the default already.
    """
    if not promoted():
        raise UsageError("The model in the box is the default: there is nothing to go back to.")
    _record({"what": "rollback"})
    stack = promoted()
    return stack[-1] if stack else None


def _record(record: dict[str, Any]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    files.append(folder() / "defaults.jsonl", (json.dumps({"time": now, **record}) + "\n").encode())
