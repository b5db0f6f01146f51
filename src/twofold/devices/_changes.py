"""Changes to the files of a folder: what they are, how they are made all or not at all, and taken back.

Every change by a device is kept with what was there before, so that it can be undone. The order makes a crash
harmless: first the old contents and the plan are on the disk, then the files are changed one by one, then the
plan is marked as done. A plan found unfinished is taken back (undo logging, as databases do).
"""

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from twofold.base.files import write_text
from twofold.devices._beneath import Folder, kind_of
from twofold.kernel.device import DeviceError

Opening = Callable[[str], contextlib.AbstractContextManager[BinaryIO]]
_PIECE = 1 << 20
_LONGEST_DIFF = 200_000  # bytes of a text; longer ones are told by their sizes


@dataclass(frozen=True)
class Thing:
    """What is at a path. kind: file, folder or link. digest: SHA-256 of a file's bytes; a link's target."""

    kind: str
    mode: int = 0
    size: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Change:
    """before, after: None where there was or will be nothing."""

    path: str
    before: Thing | None
    after: Thing | None

    @property
    def verb(self) -> str:
        """Return added, changed or deleted."""
        return "added" if self.before is None else "deleted" if self.after is None else "changed"

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Change":
        """Return the change of a record (asdict)."""
        before, after = (Thing(**side) if side else None for side in (record["before"], record["after"]))
        return Change(record["path"], before, after)


def copied(source: BinaryIO, target: BinaryIO | None = None) -> tuple[int, str]:
    """Return size and SHA-256 of what is left in a file, and write it into `target`."""
    size, digest = 0, hashlib.sha256()
    while piece := source.read(_PIECE):
        size += len(piece)
        digest.update(piece)
        if target is not None:
            target.write(piece)
    return size, digest.hexdigest()


def thing(folder: Folder, path: str, state: os.stat_result | None = None) -> Thing | None:
    """Return what is at a path; None: nothing. Raises DeviceError for pipes, sockets and devices."""
    state = folder.state(path) if state is None else state
    if state is None:
        return None
    mode = stat.S_IMODE(state.st_mode) & 0o777
    if stat.S_ISDIR(state.st_mode):
        return Thing("folder", mode)
    if stat.S_ISLNK(state.st_mode):
        return Thing("link", digest=folder.target(path))
    if not stat.S_ISREG(state.st_mode):
        raise DeviceError(
            f"{path} is {kind_of(state.st_mode)}; only files, folders and links can be changed."
        )
    with folder.reading(path) as file:
        size, digest = copied(file)
    return Thing("file", mode, size, digest)


def written(before: Thing | None, content: bytes) -> Thing:
    """Return what a file will be once `content` is in it."""
    mode = before.mode if before and before.kind == "file" else 0o644
    return Thing("file", mode, len(content), hashlib.sha256(content).hexdigest())


def name_of(changes: Sequence[Change]) -> str:
    """Return a name that only this list of changes has: whoever agrees to the name has agreed to the list."""
    spelled = json.dumps([asdict(change) for change in changes], sort_keys=True)
    return hashlib.sha256(spelled.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def described(change: Change) -> str:
    """Return a line about a change: `changed notes.txt (120 -> 134 bytes)`."""
    before, after = change.before, change.after
    seen = after or before
    assert seen is not None
    if seen.kind == "folder":
        what = "folder"
    elif seen.kind == "link":
        what = f"link to {seen.digest}"
    elif before and after and before.kind == "file":
        what = f"{before.size:,} -> {after.size:,} bytes"
    else:
        what = f"{seen.size:,} bytes"
    if after and after.kind == "file" and after.mode & 0o111 and not (before and before.mode & 0o111):
        what += ", can be run as a program"
    return f"{change.verb} {change.path} ({what})"


def diff(change: Change, old: Opening, new: Opening) -> str:
    """Return the unified diff of a change, or "" where one of the sides is not a short text."""
    texts = []
    for side, opening in ((change.before, old), (change.after, new)):
        if side is None:
            texts.append("")
            continue
        if side.kind != "file" or side.size > _LONGEST_DIFF:
            return ""
        with opening(change.path) as file:
            content = file.read(_LONGEST_DIFF + 1)
        if b"\0" in content:
            return ""
        try:
            texts.append(content.decode())
        except UnicodeDecodeError:
            return ""
    before, after = (text.splitlines() for text in texts)
    lines = difflib.unified_diff(before, after, "before", "after", lineterm="", n=2)
    return "\n".join(list(lines)[2:])


class Undo:
    """The changes that were made, each with what was there before, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # No other thread and no other process, whoever has opened the same folder.
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self._folder / "lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def make(self, root: Folder, changes: Sequence[Change], opening: Opening, pid: int) -> str:
        """Make all changes or none; return the name to take them back by.

        `opening(path)` opens the new contents. Raises DeviceError when a file is not what `before` says any
        more, or when the contents are not those that `after` says.
        """
        with self._alone():
            self._recover(root)
            for change in changes:
                if thing(root, change.path) != change.before:
                    raise DeviceError(f"{change.path} has been changed meanwhile; look at it again.")
            name = f"{pid}-{secrets.token_hex(4)}"
            self._keep(name, root, changes)
            try:
                bring(root, [(change.path, change.after) for change in changes], opening)
            except BaseException:
                self._put_back(name, root, changes)
                self._mark(name, "taken back")
                raise
            self._mark(name, "done")
            return name

    def take_back(self, name: str, root: Folder, pid: int) -> Sequence[Change]:
        """Undo the changes of that name; return what was done, the other way round.

        Raises DeviceError when there are none, or when a file has been changed since.
        """
        with self._alone():
            self._recover(root)
            entry = self._entry(name)
            if entry is None or entry["pid"] != pid or entry["root"] != str(root.path):
                raise DeviceError(f"There is no change {name!r} to take back here.")
            if entry["state"] != "done":
                raise DeviceError(f"The change {name!r} has been taken back already.")
            changes = [Change.of(change) for change in entry["changes"]]
            for change in changes:
                if thing(root, change.path) != change.after:
                    raise DeviceError(
                        f"{change.path} has been changed since, so {name!r} cannot be taken back."
                    )
            self._put_back(name, root, changes)
            self._mark(name, "taken back")
            return [Change(change.path, change.after, change.before) for change in changes]

    def where(self, name: str) -> str | None:
        """Return the path of the folder that the changes of that name were made in."""
        entry = self._entry(name)
        return None if entry is None else str(entry["root"])

    def recover(self, root: Folder) -> None:
        """Take back what a crash has left half done in this folder."""
        with self._alone():
            self._recover(root)

    def _recover(self, root: Folder) -> None:
        for path in sorted(self._folder.glob("*/begun")):
            entry = self._entry(path.parent.name)
            if entry is not None and entry["root"] == str(root.path):
                changes = [Change.of(change) for change in entry["changes"]]
                self._put_back(path.parent.name, root, changes)
                self._mark(path.parent.name, "taken back")

    def _keep(self, name: str, root: Folder, changes: Sequence[Change]) -> None:
        place = self._folder / name
        place.mkdir(parents=True, mode=0o700)
        for number, change in enumerate(changes):
            if change.before is not None and change.before.kind == "file":
                with root.reading(change.path) as old, open(place / f"{number}.old", "xb") as kept:
                    if copied(old, kept) != (change.before.size, change.before.digest):
                        raise DeviceError(f"{change.path} has been changed meanwhile; look at it again.")
                    kept.flush()
                    os.fsync(kept.fileno())
        self._write(name, {
            "root": str(root.path), "pid": int(name.split("-")[0]), "state": "begun",
            "changes": [asdict(change) for change in changes],
        })  # fmt: skip
        write_text(place / "begun", "")

    def _put_back(self, name: str, root: Folder, changes: Sequence[Change]) -> None:
        numbers = {change.path: number for number, change in enumerate(changes)}

        @contextlib.contextmanager
        def kept(path: str) -> Iterator[BinaryIO]:
            with open(self._folder / name / f"{numbers[path]}.old", "rb") as file:
                yield file

        bring(root, [(change.path, change.before) for change in changes], kept)

    def _entry(self, name: str) -> dict[str, Any] | None:
        if not name.replace("-", "").isalnum():
            return None
        try:
            entry = json.loads((self._folder / name / "entry.json").read_text("utf-8"))
        except FileNotFoundError:
            return None
        assert isinstance(entry, dict)
        return entry

    def _write(self, name: str, entry: Mapping[str, Any]) -> None:
        write_text(self._folder / name / "entry.json", json.dumps(entry))

    def _mark(self, name: str, state: str) -> None:
        entry = self._entry(name)
        assert entry is not None
        self._write(name, {**entry, "state": state})
        (self._folder / name / "begun").unlink(missing_ok=True)


def bring(root: Folder, wanted: Iterable[tuple[str, Thing | None]], opening: Opening) -> None:
    """Make what is at each path be what is wanted there; what is so already stays untouched."""
    wanted = sorted(wanted, key=lambda pair: pair[0].split("/"))
    there = {path: thing(root, path) for path, _ in wanted}
    gone = [path for path, after in reversed(wanted) if after is None and there[path] is not None]
    in_the_way = {
        path
        for path, after in wanted
        if after
        and (now := there[path])
        and after != now
        and (after.kind != now.kind or after.kind == "link")
    }
    for path in [path for path, _ in reversed(wanted)]:
        if path in in_the_way or (path in gone and any(path.startswith(f"{other}/") for other in in_the_way)):
            root.remove(path)
            there[path] = None
    for path, after in wanted:
        if after is None or after == there[path]:
            continue
        if after.kind == "folder":
            root.make(path, after.mode)
        elif after.kind == "link":
            root.link(path, after.digest)
        else:
            with opening(path) as new, root.writing(path, after.mode) as file:
                if copied(new, file) != (after.size, after.digest):
                    raise DeviceError(f"The new contents of {path} are not those that were agreed to.")
    for path in gone:  # last, so that what is moved is there until it is in its new place
        if there[path] is not None:
            root.remove(path)
