"""The index of a user's folders: which files were read, their passages, and what finds them.

What finds them is kernel/recall.py. The index is brought up to date at each search, by what changed: a file
of the same size and time is not opened, one of the same hash is not read again. A file is taken out before
its new passages go in, and counts as read only when all of them are in, so a crash between leaves a file to
be read again and nothing wrong. What the index holds is the user's, in the user's data folder; it can be
deleted at any time and is made again.
"""

import contextlib
import hashlib
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from twofold.base.errors import BadFileError, MissingExtraError
from twofold.devices import _documents, _passages
from twofold.devices._beneath import Folder, unshowable
from twofold.kernel.device import DeviceError
from twofold.kernel.embedders import Embedder
from twofold.kernel.recall import Index

_AT_ONCE = 256  # passages that are added together
_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, hash TEXT, title TEXT, paged INTEGER, wrong TEXT);
CREATE TABLE IF NOT EXISTS passages (
    id TEXT PRIMARY KEY, path TEXT, page INTEGER, start INTEGER, stop INTEGER, first INTEGER, last INTEGER,
    headings TEXT, text TEXT);
CREATE INDEX IF NOT EXISTS passages_of ON passages (path);
"""


@dataclass(frozen=True)
class Found:
    """A passage that was found, with its place: `page` from 1 (None without pages), lines from 1."""

    path: str
    page: int | None
    lines: tuple[int, int]
    offsets: tuple[int, int]
    headings: str
    text: str
    score: float


@dataclass(frozen=True)
class Freshness:
    """How the index stands after it was brought up to date. unread: files there was no time for yet."""

    files: int
    unread: int
    wrong: Mapping[str, str]


class Library:
    """Folders by their names, and their index in a file. Any thread may use it."""

    def __init__(
        self, folders: Mapping[str, Path], path: Path, embedder: Embedder | None, *, meaning: float
    ) -> None:
        """Open the index, made when it is not there. meaning: the weight of vectors against words."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._folders = folders
        self._make = embedder, path.with_suffix(".index"), meaning
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._base.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + _TABLES)
        self._index = self._open()
        self._version = self._data_version()

    def close(self) -> None:
        """Close the files."""
        self._base.close()
        self._index.close()

    def _open(self) -> Index:
        embedder, path, meaning = self._make
        return Index(embedder, path, meaning=meaning)

    def refresh(
        self, allowed: Callable[[str], bool], *, seconds: float, cancelled: Callable[[], bool]
    ) -> Freshness:
        """Read what is new among the files that are allowed, for so long; take out what is gone."""
        with self._lock:
            if self._data_version() != self._version:  # another program has read files
                self._index.close()
                self._index = self._open()
            end = time.monotonic() + seconds
            known = {
                row[0]: row[1:] for row in self._base.execute("SELECT path, size, mtime, hash FROM files")
            }
            seen: set[str] = set()
            unread = 0
            for name, root in self._folders.items():
                with Folder(root) as folder:
                    for inner, state in folder.walk():
                        path = f"/{name}/{inner}"
                        if not _readable(inner, state.st_mode) or not allowed(path):
                            continue
                        seen.add(path)
                        if known.get(path, ())[:2] == (state.st_size, state.st_mtime_ns):
                            continue
                        if time.monotonic() > end or cancelled():
                            unread += 1
                            continue
                        old = known[path][2] if path in known else None
                        self._read(folder, path, inner, (state.st_size, state.st_mtime_ns), old)
            for path in known:
                # What this call may not see is not known to be gone.
                if path not in seen and (allowed(path) or path.split("/")[1] not in self._folders):
                    self._forget(path)
            self._version = self._data_version()
            wrong = dict(self._base.execute("SELECT path, wrong FROM files WHERE wrong != ''"))
            return Freshness(len(seen), unread, {path: wrong[path] for path in wrong if path in seen})

    def search(self, query: str, count: int, allowed: Callable[[str], bool]) -> list[Found]:
        """Return the best passages of the files that are allowed, best first."""
        with self._lock:
            paths = [path for (path,) in self._base.execute("SELECT path FROM files")]
            mine = [path for path in paths if allowed(path)]
            among: set[str] | None = None
            if len(mine) < len(paths):
                among = {
                    id
                    for path in mine
                    for (id,) in self._base.execute("SELECT id FROM passages WHERE path = ?", (path,))
                }
            found = []
            for hit in self._index.search(query, count * 2, among=among):
                row = self._base.execute(
                    "SELECT p.path, page, start, stop, first, last, headings, text, paged FROM passages p "
                    "JOIN files f ON f.path = p.path WHERE id = ?", (hit.id,),
                ).fetchone()  # fmt: skip
                if row and allowed(row[0]):
                    path, page, start, stop, first, last, headings, text, paged = row
                    number = page + 1 if paged else None
                    found.append(Found(path, number, (first, last), (start, stop), headings, text, hit.score))
            return found[:count]

    def document(self, path: str) -> _documents.Document:
        """Return a file of the folders, read anew. Raises DeviceError, BadFileError."""
        name, _, inner = path.removeprefix("/").partition("/")
        if name not in self._folders or not inner:
            raise DeviceError(
                f"{path!r} is in none of the folders: write it as /{'/'.join(['FOLDER', 'FILE'])}."
            )
        with Folder(self._folders[name]) as folder, folder.reading(inner) as file:
            data = file.read(_documents.MOST_BYTES + 1)
        return _documents.read(Path(inner), data)

    # ---- with the lock held

    def _data_version(self) -> int:
        """Return a number that changes when another program has written."""
        found: int = self._base.execute("PRAGMA data_version").fetchone()[0]
        return found

    def _read(self, folder: Folder, path: str, inner: str, stamp: tuple[int, int], old: str | None) -> None:
        """Read a file into the index; what cannot be read is noted, and looked at again when it changes."""
        passages, document, wrong, digest = [], None, "", ""
        try:
            if stamp[0] > _documents.MOST_BYTES:
                raise BadFileError(f"{inner}: it is larger than {_documents.MOST_BYTES // 1_000_000} MB.")
            with folder.reading(inner) as file:
                data = file.read(_documents.MOST_BYTES + 1)
            digest = hashlib.sha256(data).hexdigest()
            if digest == old:
                self._base.execute("UPDATE files SET size = ?, mtime = ? WHERE path = ?", (*stamp, path))
                return
            document = _documents.read(Path(inner), data)
            passages = list(_passages.cut(document))
        except (BadFileError, MissingExtraError, DeviceError) as error:
            wrong = str(error)
        self._forget(path)
        self._base.execute("BEGIN")
        try:
            self._keep(path, inner, document, passages)
            title, paged = (document.title, int(document.paged)) if document else ("", 0)
            row = (path, *stamp, digest, title, paged, wrong)
            self._base.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        except BaseException:
            self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    def _keep(
        self, path: str, inner: str, document: _documents.Document | None, passages: list[_passages.Passage]
    ) -> None:
        """Put the passages of a document into the index."""
        title = document.title if document else ""
        texts: dict[str, str] = {}
        for number, passage in enumerate(passages):
            assert document is not None
            page = document.pages[passage.page]
            place = document.place(passage.page, passage.start, passage.end)
            text, headings = page[passage.start : passage.end], " > ".join(passage.headings)
            row = (
                f"{path}#{number}",
                path,
                passage.page,
                passage.start,
                passage.end,
                *place.lines,
                headings,
                text,
            )
            self._base.execute("INSERT OR REPLACE INTO passages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            texts[row[0]] = "\n".join(filter(None, (title or _stem(inner), headings, text)))
            if len(texts) == _AT_ONCE:
                self._index.add(texts)
                texts = {}
        self._index.add(texts)

    def _forget(self, path: str) -> None:
        """Take a file out."""
        self._base.execute("DELETE FROM files WHERE path = ?", (path,))
        for (id,) in self._base.execute("SELECT id FROM passages WHERE path = ?", (path,)).fetchall():
            self._index.remove(id)
        self._base.execute("DELETE FROM passages WHERE path = ?", (path,))


def _readable(inner: str, mode: int) -> bool:
    """Return whether a file is read: an ordinary one, not hidden, of a kind that is known."""
    hidden = any(part.startswith(".") for part in inner.split("/"))
    return stat.S_ISREG(mode) and not hidden and not unshowable(inner) and _documents.kind(inner) is not None


def _stem(inner: str) -> str:
    """Return a file's name as words: quarterly-report.pdf says quarterly report."""
    name = inner.rpartition("/")[2].rpartition(".")[0]
    return name.replace("-", " ").replace("_", " ")


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Turn what goes wrong with the index itself into a sentence."""
    try:
        yield
    except sqlite3.Error as error:
        raise DeviceError(
            f"The index of the files cannot be used ({error}): delete it, and it is made again."
        ) from None
