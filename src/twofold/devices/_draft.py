"""A draft of a folder: a copy that commands work in, the list of what they changed, and nothing else.

A process has one draft at a time. Before each command the copy is made anew from the folder as it is then,
with the changes that are not committed yet put on top; the copy from before the command is kept until the
command has ended well. So a command that is ended half-way, or a crash, leaves the draft as it was, and a
draft that is dropped leaves no trace.
"""

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twofold.base.files import write_text
from twofold.devices import _changes
from twofold.devices._beneath import Folder, unshowable
from twofold.devices._changes import Change, Thing
from twofold.kernel.device import DeviceError

MOST_BYTES = 1 << 30
_DEEPEST = 64  # folders within folders


class Draft:
    """The draft of `folder`, kept at `place`."""

    def __init__(self, place: Path, folder: Path) -> None:
        self._place, self.folder = place, folder
        self.tree, self.scratch = place / "now" / "tree", place / "scratch"
        self._before = place / "before"
        if self._before.exists():  # a command was running when everything ended
            self.back()

    @property
    def pending(self) -> bool:
        """Return whether there is a draft."""
        return self.tree.exists()

    def begin(self) -> None:
        """Make the copy that a command will work in.

        Raises DeviceError when the folder cannot be copied, or a file was changed there and in the draft.
        """
        changes = self.changes() if self.pending else []
        new = self._place / "new"
        _remove(new)
        (new / "tree").mkdir(parents=True, mode=0o700)
        with Folder(self.folder) as source:
            base = _copy(source, new / "tree")
        with Folder(new / "tree") as target:
            self._again(changes, target)
        write_text(new / "base.json", json.dumps(base))
        if self.pending:
            (self._place / "now").rename(self._before)
        else:
            self._before.mkdir()
        new.rename(self._place / "now")

    def keep(self) -> None:
        """Let what the command has done be the draft."""
        _tidy(self.tree)
        _remove(self._before)
        _remove(self.scratch)
        if not self.changes():
            self.drop()

    def back(self) -> None:
        """Let the draft be as it was before the command."""
        _remove(self._place / "now")
        if (self._before / "tree").exists():
            self._before.rename(self._place / "now")
        _remove(self._before)
        _remove(self.scratch)

    def drop(self) -> None:
        """Remove it."""
        _remove(self._place)

    def changes(self) -> list[Change]:
        """Return what is different from the folder as it was copied, in order of paths."""
        base: dict[str, Any] = json.loads((self._place / "now" / "base.json").read_text("utf-8"))
        found = []
        with Folder(self.tree) as tree:
            for path, state in tree.walk():
                _, before, signature = base.pop(path, (None, None, None))
                if signature != _signature(state):
                    after = _changes.thing(tree, path, state)
                    if asdict(after) != before if after else before:
                        found.append(Change(path, Thing(**before) if before else None, after))
        gone = [Change(path, Thing(**before), None) for path, before, _ in base.values()]
        return sorted([*found, *gone], key=lambda change: change.path)

    def refused(self, changes: Sequence[Change]) -> str:
        """Return why these changes cannot be committed, one sentence; "" when they can."""
        for change in changes:
            if change.after and change.after.kind == "link":
                inside = os.path.normpath(os.path.join(os.path.dirname(change.path), change.after.digest))
                if change.after.digest.startswith("/") or inside.split("/")[0] == "..":
                    where = change.after.digest
                    return f"{change.path} is a link to {where!r}, outside of the folder; remove it."
        return ""

    def _again(self, changes: Sequence[Change], target: Folder) -> None:
        for change in changes:
            if _changes.thing(target, change.path) != change.before:
                raise DeviceError(
                    f"{change.path} has been changed in the folder and in the draft; commit or drop it first."
                )
        with Folder(self.tree) if changes else Folder(self._place) as old:
            _changes.bring(target, [(change.path, change.after) for change in changes], old.reading)


def _signature(state: os.stat_result) -> list[int]:
    # A program can set the time of change of contents, but not that of the entry.
    return [state.st_ino, state.st_mode, state.st_size, state.st_ctime_ns]


def _copy(source: Folder, target: Path) -> dict[str, Any]:
    """Copy a folder; return path -> (path, what is there, signature of the copy)."""
    things: dict[str, Thing] = {}
    total = 0
    for path, state in source.walk():
        if unshowable(path) or path.count("/") >= _DEEPEST:
            raise DeviceError(
                f"The folder holds {path[:200]!r}, which cannot be worked on here; move it elsewhere."
            )
        place = target / path
        if stat.S_ISDIR(state.st_mode):
            place.mkdir(mode=0o700)
            things[path] = Thing("folder", stat.S_IMODE(state.st_mode) & 0o777)
        elif stat.S_ISLNK(state.st_mode):
            things[path] = Thing("link", digest=source.target(path))
            place.symlink_to(things[path].digest)
        elif stat.S_ISREG(state.st_mode):
            total += state.st_size
            if total > MOST_BYTES:
                raise DeviceError(
                    f"The folder holds more than {MOST_BYTES >> 20:,} MB, too much to work on a copy of."
                )
            with source.reading(path) as old, open(place, "xb") as new:
                size, digest = _changes.copied(old, new)
            things[path] = Thing("file", stat.S_IMODE(state.st_mode) & 0o777, size, digest)
            place.chmod(things[path].mode)
            os.utime(place, ns=(state.st_atime_ns, state.st_mtime_ns))
    for path in reversed(things):
        if things[path].kind == "folder":
            (target / path).chmod(things[path].mode)
    return {path: (path, asdict(what), _signature((target / path).lstat())) for path, what in things.items()}


def _tidy(tree: Path) -> None:
    """Make everything in a tree readable to its owner, and take out what is neither file, folder nor link.

    Raises DeviceError when it is too deep to be looked at, or has names that cannot be shown.
    """
    pending = [(tree, 0)]
    while pending:
        folder, depth = pending.pop()
        if depth > _DEEPEST:
            raise DeviceError(f"The command made folders more than {_DEEPEST} deep.")
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) | 0o700)
        for entry in list(os.scandir(folder)):
            if unshowable(entry.name):
                raise DeviceError(
                    f"The command made {entry.name!r}, a name that nobody could be shown as it is."
                )
            state = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(state.st_mode):
                pending.append((Path(entry.path), depth + 1))
            elif stat.S_ISREG(state.st_mode):
                if not state.st_mode & 0o400:
                    os.chmod(entry.path, stat.S_IMODE(state.st_mode) | 0o400)
            elif not stat.S_ISLNK(state.st_mode):
                os.unlink(entry.path)


def _remove(path: Path) -> None:
    """Remove a tree, whatever a command has made of it."""
    if not path.exists():
        return
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():  # too deep for Python, or without the right to look into
        subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], capture_output=True, check=False)
        done = subprocess.run(["rm", "-rf", "--", str(path)], capture_output=True, check=False)
        if done.returncode:
            raise DeviceError(
                f"{path} could not be removed: {done.stderr.decode(errors='replace').strip()[:200]}"
            )
