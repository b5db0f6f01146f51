"""A folder whose files are reached by descriptor, so that nothing outside it can be reached at all.

A path is walked one name at a time, each opened beneath the one before, and a symbolic link is never
followed. Between a check and its use there is no second look-up, so renaming a folder or swapping it for a
link in between does not help an attacker. (Linux' openat2 with RESOLVE_BENEATH does the same in one call; the
walk also works where that call does not exist.)

A path has exactly one spelling, `a/b/c`: what a policy has compared is what is opened.

Not covered: a hard link *inside* the folder to a file outside (somebody with rights to both has put it
there); it can be read, and writing replaces the link and not the file behind it.
"""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twofold.base.files import atomic_write_at
from twofold.kernel.device import DeviceError

MOST_FILES = 50_000
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_SENTENCES = {
    errno.ENOENT: "{} does not exist.",
    errno.ELOOP: "{} is or goes through a symbolic link; those are not followed.",
    errno.ENOTDIR: "{} goes through a file or a symbolic link where a folder is needed.",
    errno.EISDIR: "{} is a folder.",
    errno.EACCES: "{} may not be opened: the system denies it.",
    errno.EPERM: "{} may not be changed: the system denies it.",
    errno.EEXIST: "{} exists already.",
    errno.ENOSPC: "{} was not written: the disk is full.",
    errno.EROFS: "{} was not written: the disk is read-only.",
    errno.ENAMETOOLONG: "{} has a name that is too long for this disk.",
    errno.ENOTEMPTY: "{} is a folder that is not empty.",
}


def names_in(path: str) -> list[str]:
    """Return the names that a path is made of; "" is the folder itself. Raises DeviceError for others."""
    if not path:
        return []
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names) or unshowable(path):
        raise DeviceError(
            f"{path!r} is not a path: write it as folder/file, without '..', '.', '//' or '/' first."
        )
    return names


def unshowable(path: str) -> bool:
    """Return whether a person could not be shown this name as it is: control characters, text that runs
    backwards, bytes that are not text."""
    return (
        re.search("[\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]", path) is not None
    )


@contextlib.contextmanager
def telling(path: str) -> Iterator[None]:
    """Turn an error of the system into a sentence about `path`."""
    try:
        yield
    except OSError as error:
        sentence = _SENTENCES.get(error.errno or 0, "{} failed: " + (error.strerror or str(error)) + ".")
        raise DeviceError(sentence.format(path or "The folder")) from None


class Folder:
    """An open folder."""

    def __init__(self, path: str | Path) -> None:
        """Open it. Raises DeviceError."""
        self.path = Path(os.path.realpath(path))
        with telling(str(path)):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give the descriptor back; once."""
        os.close(self._descriptor)

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def inside(self, names: list[str], *, make: bool = False) -> Iterator[int]:
        """Yield the descriptor of a folder within, made when `make` and it is not there. Raises OSError."""
        here = os.dup(self._descriptor)
        try:
            for name in names:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o777, dir_fd=here)
                there = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = there
            yield here
        finally:
            os.close(here)

    def state(self, path: str) -> os.stat_result | None:
        """Return what is at `path` (a link is a link), None when there is nothing."""
        names = names_in(path)
        with telling(path):
            try:
                with self.inside(names[:-1]) as parent:
                    return os.stat(names[-1] if names else ".", dir_fd=parent, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[BinaryIO]:
        """Yield the open file at `path`. Raises DeviceError when it is not an ordinary file."""
        names = names_in(path)
        if not names:
            raise DeviceError("A file is needed, and the folder itself was named.")
        with telling(path), self.inside(names[:-1]) as parent:
            # Not to wait on a pipe: what it is can only be asked of what is open.
            descriptor = os.open(names[-1], _OPEN | os.O_NONBLOCK, dir_fd=parent)
        with os.fdopen(descriptor, "rb") as file:
            kind = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(kind):
                raise DeviceError(f"{path} is {kind_of(kind)}, not a file.")
            yield file

    @contextlib.contextmanager
    def writing(self, path: str, mode: int | None = None) -> Iterator[BinaryIO]:
        """Yield a file that takes the place of `path` when the block ends well. Makes the folders above."""
        names = names_in(path)
        if not names:
            raise DeviceError("A file is needed, and the folder itself was named.")
        with (
            telling(path),
            self.inside(names[:-1], make=True) as parent,
            atomic_write_at(parent, names[-1], mode) as file,
        ):
            yield file

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link at `path`, where nothing is."""
        names = names_in(path)
        with telling(path), self.inside(names[:-1], make=True) as parent:
            os.symlink(target, names[-1], dir_fd=parent)

    def target(self, path: str) -> str:
        """Return where the symbolic link at `path` points."""
        names = names_in(path)
        with telling(path), self.inside(names[:-1]) as parent:
            return os.readlink(names[-1], dir_fd=parent)

    def make(self, path: str, mode: int | None = None) -> None:
        """Make a folder, and those above it; it may be there already."""
        with telling(path), self.inside(names_in(path), make=True) as folder:
            if mode is not None:
                os.fchmod(folder, mode)

    def remove(self, path: str) -> None:
        """Remove a file, a link or an empty folder."""
        names = names_in(path)
        if not names:
            raise DeviceError("The folder itself cannot be deleted.")
        with telling(path), self.inside(names[:-1]) as parent:
            if stat.S_ISDIR(os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_mode):
                os.rmdir(names[-1], dir_fd=parent)
            else:
                os.unlink(names[-1], dir_fd=parent)

    def walk(self, path: str = "") -> Iterator[tuple[str, os.stat_result]]:
        """Yield what is within, folders before what they hold, in order of names. Links are not followed.

        Raises DeviceError past MOST_FILES.
        """
        count = 0
        pending = [path]
        while pending:
            folder = pending.pop()
            found = []
            with telling(folder), self.inside(names_in(folder)) as here:
                for name in sorted(os.listdir(here)):
                    with contextlib.suppress(FileNotFoundError):  # it may go while we look
                        found.append((name, os.stat(name, dir_fd=here, follow_symlinks=False)))
            for name, state in found:
                count += 1
                if count > MOST_FILES:
                    raise DeviceError(f"{path or 'The folder'} holds more than {MOST_FILES:,} files.")
                yield (f"{folder}/{name}" if folder else name), state
            pending += [
                f"{folder}/{name}" if folder else name
                for name, state in reversed(found)
                if stat.S_ISDIR(state.st_mode)
            ]


def kind_of(mode: int) -> str:
    """Return what a thing is, in words."""
    kinds = (
        (stat.S_ISREG, "a file"), (stat.S_ISDIR, "a folder"), (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
    )  # fmt: skip
    return next((name for is_kind, name in kinds if is_kind(mode)), "a device")
