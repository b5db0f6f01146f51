"""The apps that are installed: each change happens whole or not at all, and the last one can be undone.

    apps/NAME/1.0.0-3f2a9c01/…   the files of a version; the number is the beginning of their hash
    apps/NAME/state.json         every installation and removal, the last one first in force
    apps/keys.json               whose name is whose (signing.Trust)

An installation copies into a folder of its own, renames that, and then replaces state.json; killed
anywhere, the app is as it was. What was installed is hashed again each time it is opened, so that
nothing is run that was changed behind the user's back.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twofold.apps import manifest, signing, tree
from twofold.apps.manifest import App
from twofold.base import files, home
from twofold.base.errors import BadFileError, UsageError
from twofold.base.names import unknown

BUILT_IN = Path(__file__).with_name("built_in")
_KEPT = 3  # versions of an app whose files stay, so that an undo finds them


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One entry of an app's history; without a version the app is not installed from then on."""

    at: str
    version: str | None = None
    folder: str | None = None
    digest: str | None = None
    key: str | None = None
    source: str | None = None


def folder() -> Path:
    """Return where apps are kept; it need not exist."""
    return home.data_folder() / "apps"


def trust() -> signing.Trust:
    """Return whose name is whose."""
    return signing.Trust(folder() / "keys.json")


def built_in() -> list[str]:
    """Return the names of the apps that come with twofold."""
    return sorted(path.parent.name for path in BUILT_IN.glob(f"*/{manifest.MANIFEST}"))


def names() -> list[str]:
    """Return the names of all apps at hand, installed or built in."""
    there = folder().glob("*/state.json") if folder().is_dir() else ()
    mine = [path.parent.name for path in there if _history(path.parent.name)[-1].version]
    return sorted({*mine, *built_in()})


def find(name: str) -> App:
    """Return an app by its name; an installed one goes before a built-in one of the same name.

    Raises UsageError when there is none, BadFileError when its files are not what was installed.
    """
    history = _history(name) if manifest.NAME.fullmatch(name) else [Installed(at="")]
    present = history[-1]
    if present.version is None:
        if name not in built_in():
            raise UsageError(unknown("app", name, names()))
        return manifest.read(BUILT_IN / name, "built in")
    path = folder() / name / str(present.folder)
    if not path.is_dir() or _digest(path) != present.digest:
        raise BadFileError(
            f"The files of {name} in {path} are not those that were installed: install it again, or "
            f"`twofold app undo {name}`."
        )
    return manifest.read(path, "installed")


def present(name: str) -> Installed | None:
    """Return what is installed under a name, None when nothing is."""
    last = _history(name)[-1]
    return last if last.version else None


@contextlib.contextmanager
def stage() -> Iterator[Path]:
    """Yield an empty folder beside the apps, which is gone afterwards."""
    folder().mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix=".stage-", dir=folder()))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def install(staged: Path, key: str | None, source: str) -> App:
    """Make the app in a staged folder the one of its name. The folder is used up."""
    app = manifest.read(staged)
    digest = _digest(staged)
    entry = Installed(
        at=_now(), version=app.manifest.version, folder=f"{app.manifest.version}-{digest[:8]}", digest=digest,
        key=key, source=source,
    )  # fmt: skip
    with _alone():
        target = folder() / app.name / str(entry.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():  # the same files, or what is left of an attempt that was killed
            shutil.rmtree(target)
        os.replace(staged, target)
        _write(app.name, [*_history(app.name), entry])
        if key is not None:
            trust().remember(app.name, key)
    return find(app.name)


def remove(name: str) -> None:
    """Take an app away; its files stay for an undo, until another one is installed under its name."""
    if present(name) is None:
        told = "comes with twofold and stays" if name in built_in() else "is not installed"
        raise UsageError(f"{name} {told}.")
    with _alone():
        _write(name, [*_history(name), Installed(at=_now())])


def undo(name: str) -> Installed | None:
    """Take back the last installation or removal; return what is installed then. Raises UsageError."""
    with _alone():
        history = _history(name)
        if len(history) < 2:
            raise UsageError(f"There is nothing to undo for {name}.")
        before = history[-2]
        if before.version and not (folder() / name / str(before.folder)).is_dir():
            raise UsageError(f"The files of {name} {before.version} are not kept any more: install it again.")
        _write(name, history[:-1])
    return before if before.version else None


def _history(name: str) -> list[Installed]:
    """Return an app's history, oldest first; it begins with nothing installed."""
    path = folder() / name / "state.json"
    try:
        records: Any = json.loads(path.read_text(encoding="utf-8"))
        return [Installed(at=""), *(Installed(**one) for one in records)]
    except (FileNotFoundError, NotADirectoryError):
        return [Installed(at="")]
    except (ValueError, TypeError, RecursionError):
        raise BadFileError(f"{path} is damaged: move {path.parent} away and install {name} again.") from None


def _write(name: str, history: list[Installed]) -> None:
    """Write an app's history, then drop the files of what is long past."""
    entries = [asdict(one) for one in history if one.at]
    files.write_text(folder() / name / "state.json", json.dumps(entries, indent=1) + "\n")
    kept = {one.folder for one in [one for one in history if one.version][-_KEPT:]}
    for path in (folder() / name).iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other process of this user changes what is installed."""
    folder().mkdir(parents=True, exist_ok=True)
    with open(folder() / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(path: Path) -> str:
    """Return one hash of an app's files as they lie there."""
    return signing.digest(tree.contents(path, hidden=True))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
