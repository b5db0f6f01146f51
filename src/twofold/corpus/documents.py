"""Reading documents: from what the user names (files, folders, data sets on a hub) to plain texts.

A file's extension names its format (`formats/`). A folder is read whole, with its subfolders, in sorted
order, without hidden files. What goes wrong is met in one of two ways:
- a file that the user named and that cannot be read to its end stops the work with one sentence;
- a file that was merely found in a folder (no such format, a broken PDF, a JSONL of another kind, an archive
  cut off) is left out from the damage on, and reported.

Nothing is downloaded unless the user names `owner/name` and there is no such path here (see hub.py).
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from twofold.base.errors import BadFileError, UsageError
from twofold.base.registry import Registry
from twofold.corpus import hub
from twofold.corpus.opening import extension, open_bytes

Paths = str | Path | Sequence[str | Path]

FORMATS = Registry("twofold.corpus.formats", "text format", requires=("read",))


@dataclasses.dataclass(frozen=True)
class Document:
    """One text, and the file or data set it came from."""

    text: str
    source: str

    @property
    def bytes(self) -> int:
        """The size of the text in UTF-8 bytes."""
        return len(self.text.encode())

    def fraction(self, purpose: str) -> float:
        """Return a number in [0, 1), evenly spread, that depends on the text and `purpose` alone."""
        digest = hashlib.blake2b(self.text.encode(), digest_size=8, key=purpose.encode()).digest()
        return int.from_bytes(digest) / 2**64


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A file in a folder that was left out, whole or from some point on, and why, in one sentence."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Place:
    """A file to read, or a data set on a hub (then `path` is None)."""

    name: str
    path: Path | None
    named: bool  # by the user, as opposed to found in a folder


def documents(
    paths: Paths, *, limit_bytes: int | None = None, skipped: Callable[[Skipped], None] | None = None
) -> Iterator[Document]:
    """Return the documents of files, folders and data sets, in order; texts of white space only are left out.

    `limit_bytes`: stop after about this many UTF-8 bytes of text. `skipped` is told of every file left out.
    Raises UsageError for a path that does not exist or an unknown format, BadFileError for broken contents,
    MissingExtraError when a format needs a package that is not installed.
    """
    total = 0
    for place in places(paths):
        for document in read(place, skipped):
            yield document
            total += document.bytes
            if limit_bytes is not None and total >= limit_bytes:
                return


def places(paths: Paths) -> list[Place]:
    """Return what there is to read, folders opened up. Raises UsageError for paths that lead nowhere."""
    found: list[Place] = []
    for name in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(name)
        if path.is_dir():
            found += [Place(str(file), file, named=False) for file in _files(path)]
        elif path.exists():
            found.append(Place(str(path), path, named=True))
        elif hub.looks_like_dataset(str(name)):
            found.append(Place(str(name), None, named=True))
        else:
            raise UsageError(f"There is no file or folder {str(name)!r}.")
    if not found:
        raise UsageError(f"There are no files in {paths}.")
    return found


def read(place: Place, skipped: Callable[[Skipped], None] | None = None) -> Iterator[Document]:
    """Return the documents of one place; see `documents`."""
    texts = hub.texts(place.name) if place.path is None else _texts(place.path)
    given = 0
    try:
        for text in texts:
            if text.strip():
                given += 1
                yield Document(text, place.name)
    except (BadFileError, UsageError) as error:
        if place.named:
            raise
        if skipped is not None:
            kept = f" The {given} texts before that are used." if given else ""
            skipped(Skipped(place.name, f"{error}{kept}"))


def _texts(path: Path) -> Iterator[str]:
    kind = extension(path)
    if kind not in FORMATS.names():
        known = ", ".join(f".{name}" for name in FORMATS.names())
        raise UsageError(f"{path}: cannot read this kind of file; known are {known} (also as .gz and .zst).")
    with open_bytes(path) as stream:
        yield from FORMATS.get(kind).read(stream, str(path))


def _files(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(where, name) for name in sorted(names) if not name.startswith("."))
