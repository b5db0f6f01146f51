"""The journal: everything that happens to processes, in the order it happened; nothing is ever changed in it.

`journal.db` (SQLite, WAL) holds an append-only log per process. Each event's hash is an HMAC over the one
before and itself, and the end of each log is sealed, so that changing, reordering, leaving out and cutting
off are found (Schneier and Kelsey 1998, Cryptographic support for secure logs). The key lies beside it in
`journal.key`, which only the user may read. A fork shares its parent's events up to a point by reference; its
own chain starts from the hash there.

Several programs may use one journal. Who runs a process holds its lease: the lease names an owner, and an
owner lives as long as it holds the lock of its file in `owners/`, which the operating system drops when the
program dies, however it does. Process 0 is the machine itself: its events hold for all, such as grants for
ever, and its seal counts the processes.

Not covered: whoever may read the key can forge; an older copy of the whole folder looks like the present.
"""

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, TwofoldError, UsageError

MACHINE = 0  # the pid of what holds for all processes
_HERE: set[str] = set()  # owners in this program: its own locks do not stop it

_TABLES = """
CREATE TABLE IF NOT EXISTS processes (
    pid INTEGER PRIMARY KEY, parent INTEGER, at INTEGER NOT NULL, origin TEXT UNIQUE, seq INTEGER NOT NULL,
    hash BLOB NOT NULL, seal BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    pid INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL,
    hash BLOB NOT NULL, PRIMARY KEY (pid, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leases (pid INTEGER PRIMARY KEY, owner TEXT NOT NULL);
"""


class Moved(TwofoldError):  # noqa: N818 - not a mistake
    """Another has written to the process in between: look at it again."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a process. seq counts from 1; at: seconds since 1970; hash: of the chain."""

    pid: int
    seq: int
    at: float
    kind: str
    body: Mapping[str, Any]
    hash: bytes


def canonical(body: Mapping[str, Any]) -> str:
    """Return JSON of which there is one form only, in whole characters."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode()


class Journal:
    """The journal in a folder, which is made if need be. May be used from several threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder, self.path = folder, folder / "journal.db"
        self._key = _key(folder / "journal.key")
        self._lock = threading.RLock()
        self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise BadFileError(f"{self.path} is not a journal: {error}.") from None
        os.chmod(self.path, 0o600)
        self._owner, self._held = "", -1
        with self._writing():
            if MACHINE not in self.heads():
                self._enter(MACHINE, None, 0, None, 0, b"")

    def close(self) -> None:
        """Give up what this owner holds, and close the file."""
        with self._lock:
            if self._owner:
                self._db.execute("DELETE FROM leases WHERE owner = ?", (self._owner,))
                os.close(self._held)
                _HERE.discard(self._owner)
                (self.folder / "owners" / self._owner).unlink(missing_ok=True)
                self._owner = ""
            self._db.close()

    # ---- writing

    def create(self, kind: str, body: Mapping[str, Any], *, origin: str | None = None) -> Event:
        """Begin a process with an event, and hold its lease; return the event.

        origin: what it was made for; where there is a process of that origin already, that is returned.
        """
        with self._writing():
            query = "SELECT pid FROM processes WHERE origin = ?"
            if origin and (found := self._db.execute(query, (origin,)).fetchone()):
                return self.events(found[0], until=1)[0]
            pid = self._new(None, 0, origin, b"")
            return self._append(pid, kind, body)

    def fork(self, parent: int, at: int) -> Event:
        """Begin a process that shares its parent's events up to `at`, and hold its lease.

        Returns its own first event, `forked`. Raises UsageError when there is no such event.
        """
        with self._writing():
            pid = self._new(parent, at, None, self._hash(parent, at))
            return self._append(pid, "forked", {"parent": parent, "at": at})

    def append(
        self, pid: int, kind: str, body: Mapping[str, Any], *, after: int | None = None, durable: bool = False
    ) -> Event:
        """Add an event to a process, and return it.

        after: the seq it must follow. durable: it is on the disk before this returns, and all before it;
        else it survives the death of every program, but a power cut may take it. Raises Moved, UsageError.
        """
        with self._writing(durable=durable):
            return self._append(pid, kind, body, after)

    @contextmanager
    def _writing(self, *, durable: bool = False) -> Iterator[None]:
        with self._lock:
            try:
                if durable:
                    self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._db.execute("COMMIT")
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                finally:
                    if durable:
                        self._db.execute("PRAGMA synchronous=NORMAL")
            except sqlite3.Error as error:
                raise TwofoldError(f"The journal {self.path} cannot be written: {error}.") from None

    def _new(self, parent: int | None, at: int, origin: str | None, before: bytes) -> int:
        """Enter a process and lease it; the machine's seal counts it."""
        query = "SELECT at, seq, hash FROM processes WHERE pid = 0"
        count, seq, digest = self._db.execute(query).fetchone()
        pid: int = count + 1
        seal = self._seal(MACHINE, None, pid, seq, digest)
        self._db.execute("UPDATE processes SET at = ?, seal = ? WHERE pid = 0", (pid, seal))
        self._enter(pid, parent, at, origin, at, before)
        self._db.execute("INSERT INTO leases VALUES (?, ?)", (pid, self.owner))
        return pid

    def _enter(
        self, pid: int, parent: int | None, at: int, origin: str | None, seq: int, digest: bytes
    ) -> None:
        row = (pid, parent, at, origin, seq, digest, self._seal(pid, parent, at, seq, digest))
        self._db.execute("INSERT INTO processes VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _append(self, pid: int, kind: str, body: Mapping[str, Any], after: int | None = None) -> Event:
        row = self._db.execute("SELECT parent, at, seq, hash FROM processes WHERE pid = ?", (pid,)).fetchone()
        if row is None:
            raise _no_process(pid)
        parent, at, seq, before = row
        if after is not None and seq != after:
            raise Moved(f"Process {pid} has gone on.")
        when, text = time.time(), canonical(body)
        digest = self._chained(before, pid, seq + 1, when, kind, text)
        self._db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", (pid, seq + 1, when, kind, text, digest)
        )
        seal = self._seal(pid, parent, at, seq + 1, digest)
        self._db.execute(
            "UPDATE processes SET seq = ?, hash = ?, seal = ? WHERE pid = ?", (seq + 1, digest, seal, pid)
        )
        return Event(pid, seq + 1, when, kind, json.loads(text), digest)

    def _chained(self, before: bytes, pid: int, seq: int, at: float, kind: str, text: str) -> bytes:
        said = before + f" {pid} {seq} {at!r} {kind} {text}".encode()
        return hmac.digest(self._key, said, hashlib.sha256)

    def _seal(self, pid: int, parent: int | None, at: int, seq: int, digest: bytes) -> bytes:
        said = f"end {pid} {parent} {at} {seq} {digest.hex()}"
        return hmac.digest(self._key, said.encode(), hashlib.sha256)

    # ---- reading

    def heads(self) -> dict[int, int]:
        """Return the last seq of each process by its pid, oldest first, the machine's among them."""
        with self._lock:
            return dict(self._db.execute("SELECT pid, seq FROM processes ORDER BY pid").fetchall())

    def events(self, pid: int, since: int = 0, until: int | None = None) -> list[Event]:
        """Return the events of a process after `since`, up to `until`; of a fork also those it shares."""
        found: list[Event] = []
        with self._lock:
            for one, first, last in reversed(self._parts(pid, until)):
                rows = self._db.execute(
                    "SELECT seq, at, kind, body, hash FROM events WHERE pid = ? AND seq > ? AND seq <= ? "
                    "ORDER BY seq",
                    (one, max(first, since), last),
                )
                found += [Event(one, seq, at, kind, json.loads(body), h) for seq, at, kind, body, h in rows]
        return found

    def changed(self) -> int:
        """Return a number that is another one once another connection has written."""
        with self._lock:
            version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _parts(self, pid: int, until: int | None) -> list[tuple[int, int, int]]:
        """Return whose events make up a process, youngest first: (pid, after which seq, up to which)."""
        parts = []
        last = 1 << 62 if until is None else until
        one: int | None = pid
        while one is not None:
            row = self._db.execute("SELECT parent, at FROM processes WHERE pid = ?", (one,)).fetchone()
            if row is None:
                raise _no_process(pid)
            parts.append((one, row[1] if row[0] else 0, last))
            one, last = row[0], min(last, row[1])
        return parts

    def _hash(self, pid: int, seq: int) -> bytes:
        found = self.events(pid, seq - 1, seq)
        if not found:
            raise UsageError(f"Process {pid} has no event {seq}: twofold logs {pid} lists them.")
        return found[0].hash

    # ---- leases

    @property
    def owner(self) -> str:
        """The name of who runs processes through this object; it is alive while its file is locked."""
        if not self._owner:
            owners = self.folder / "owners"
            owners.mkdir(exist_ok=True)
            name = secrets.token_hex(8)
            self._held = os.open(owners / name, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.lockf(self._held, fcntl.LOCK_EX)  # unlike flock's, this lock is not inherited by a fork
            _HERE.add(name)
            self._owner = name
        return self._owner

    def take(self, pid: int) -> bool:
        """Take the lease of a process; return whether this owner has it now: a living one keeps its own."""
        with self._writing():
            holder = self.holder(pid)
            if holder is None:
                self._db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?)", (pid, self.owner))
        return holder in (None, self._owner)

    def drop(self, pid: int) -> None:
        """Give the lease of a process back."""
        with self._writing():
            self._db.execute("DELETE FROM leases WHERE pid = ? AND owner = ?", (pid, self._owner))

    def holder(self, pid: int) -> str | None:
        """Return the living owner who runs a process; None when nobody does."""
        with self._lock:
            row = self._db.execute("SELECT owner FROM leases WHERE pid = ?", (pid,)).fetchone()
        return row[0] if row and self._lives(row[0]) else None

    def _lives(self, owner: str) -> bool:
        if owner in _HERE:
            return True
        path = self.folder / "owners" / owner
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        path.unlink(missing_ok=True)
        return False

    # ---- checking

    def verify(self, pid: int | None = None) -> list[str]:
        """Return what is wrong with the journal, or with one process and those it was forked from; a
        sentence each, [] when every event is as it was written."""
        with self._lock:
            if pid is not None:
                numbers = [part[0] for part in self._parts(pid, None)]
            else:
                numbers = [row[0] for row in self._db.execute("SELECT pid FROM processes ORDER BY pid")]
            found = (self._wrong(number) for number in dict.fromkeys([MACHINE, *numbers]))
            wrong = [sentence for sentence in found if sentence]
            count = self._db.execute("SELECT at FROM processes WHERE pid = 0").fetchone()[0]
        missing = set(range(count + 1)) ^ {MACHINE, *numbers} if pid is None else set()
        return wrong + [f"Process {number} is missing, or not of this journal." for number in sorted(missing)]

    def _wrong(self, pid: int) -> str:
        query = "SELECT parent, at, seq, hash, seal FROM processes WHERE pid = ?"
        parent, at, last, digest, seal = self._db.execute(query, (pid,)).fetchone()
        if not hmac.compare_digest(seal, self._seal(pid, parent, at, last, digest)):
            return f"Process {pid}: its end is not the one that was written."
        before, expected = b"", 1
        if parent is not None:
            try:
                before, expected = self._hash(parent, at), at + 1
            except UsageError:
                return f"Process {pid}: event {at} of process {parent}, from which it was forked, is missing."
        query = "SELECT seq, at, kind, body, hash FROM events WHERE pid = ? ORDER BY seq"
        for seq, when, kind, text, written in self._db.execute(query, (pid,)):
            if seq != expected:
                return f"Process {pid}: event {expected} is missing."
            if self._chained(before, pid, seq, when, kind, text) != written:
                return f"Process {pid}: event {seq} is not as it was written."
            before, expected = written, seq + 1
        return "" if before == digest else f"Process {pid}: what followed event {expected - 1} is missing."


def _no_process(pid: int) -> UsageError:
    return UsageError(f"There is no process {pid}: twofold ps lists them.")


def _key(path: Path) -> bytes:
    """Return the key of the seals, made where there is none."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        for _ in range(100):  # another may be writing it this moment
            if len(key := path.read_bytes()) == 32:
                return key
            time.sleep(0.01)
        raise BadFileError(f"{path} is not the key of a journal: it must have 32 bytes.") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
        file.flush()
        os.fsync(file.fileno())
    return path.read_bytes()
