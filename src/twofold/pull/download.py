"""A file from the net, whole or not at all: interrupted downloads go on, and every byte is checked.

What has come lies in `NAME.part`; the next attempt asks for the rest (RFC 9110, section 14.2) and begins anew
where the server does not know ranges. The file gets its name when its size and its hash are right, so a file
with its name is a good one, also after kill -9.
"""

import hashlib
import http.client
import os
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twofold.base.errors import BadFileError, TwofoldError
from twofold.pull.web import BrokenError, open_url

Tell = Callable[[int], object]  # hears how many bytes of the file there are
Stopped = Callable[[], bool]

TRIES = 8  # attempts in a row that bring nothing
WAIT_S = 0.5  # before the second attempt; doubled each time
_PIECE = 1 << 20


class StoppedError(TwofoldError):
    """Whoever asked for a download wants it no more; what has come is kept."""


@dataclass(frozen=True)
class Wanted:
    """A file to fetch: its address, its size in bytes, and its hash: SHA-256, or git's SHA-1 of a blob."""

    url: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


def fetch(wanted: Wanted, into: Path, tell: Tell, stopped: Stopped = lambda: False) -> None:
    """Bring a file to `into`, going on where an earlier attempt ended; nothing is done if it is there.

    Raises BadFileError when what came has another hash, StoppedError when `stopped` says so, TwofoldError
    when the server does not give it after several attempts.
    """
    if into.exists():
        tell(wanted.size)
        return
    into.parent.mkdir(parents=True, exist_ok=True)
    part = into.with_name(into.name + ".part")
    failed = 0
    while (before := _size(part)) != wanted.size or not part.exists():
        try:
            _go_on(wanted, part, tell, stopped)
        except BrokenError as error:
            failed = 0 if _size(part) > before else failed + 1
            if failed >= TRIES:
                raise TwofoldError(f"{error} {_kept(part)}") from error
            _wait(max(error.after_s, WAIT_S * 2**failed), stopped)
    found = _hash(part, wanted)
    if found != (wanted.sha256 or wanted.git_sha1 or found):
        part.unlink()
        raise BadFileError(
            f"{into.name} did not come as its author stored it (its checksum is {found[:12]}…): it was "
            "thrown away. Pull again; if that does not help, do not trust what lies between you and the hub."
        )
    with open(part, "rb") as file:
        os.fsync(file.fileno())
    os.replace(part, into)


def _go_on(wanted: Wanted, part: Path, tell: Tell, stopped: Stopped) -> None:
    """Fetch what is missing in one request. Raises BrokenError when less came."""
    have = _size(part)
    if have > wanted.size:
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with open_url(wanted.url, headers) as answer:
        told = answer.headers.get("Content-Range", "")
        if answer.status != 206 or not told.startswith(f"bytes {have}-"):
            if answer.status == 206:
                part.unlink(missing_ok=True)
                raise BrokenError(f"{_host(wanted.url)} sent another part than was asked for.")
            have = 0
        with open(part, "r+b" if part.exists() else "wb") as file:
            file.truncate(have)
            file.seek(have)
            _copy(answer, file.write, have, wanted, tell, stopped)
    if _size(part) < wanted.size:
        raise BrokenError(f"{_host(wanted.url)} broke off at {_size(part):,} of {wanted.size:,} bytes.")


def _copy(
    answer: http.client.HTTPResponse,
    write: Callable[[bytes], object],
    have: int,
    wanted: Wanted,
    tell: Tell,
    stopped: Stopped,
) -> None:
    while True:
        if stopped():
            raise StoppedError("Stopped; what has come is kept, and the same pull goes on.")
        try:
            piece = answer.read1(_PIECE)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(f"{_host(wanted.url)} broke off ({type(error).__name__}).") from error
        if not piece:
            return
        have += len(piece)
        if have > wanted.size:
            raise BadFileError(f"{_host(wanted.url)} sends more than the {wanted.size:,} bytes it promised.")
        write(piece)
        tell(have)


def _hash(path: Path, wanted: Wanted) -> str:
    """Return the hash of a file in the kind that is known of it, SHA-256 if none is."""
    by_git = wanted.sha256 is None and wanted.git_sha1 is not None
    digest = hashlib.sha1(usedforsecurity=False) if by_git else hashlib.sha256()
    if by_git:
        digest.update(b"blob %d\0" % wanted.size)
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def _wait(seconds: float, stopped: Stopped) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if stopped():
            raise StoppedError("Stopped; what has come is kept, and the same pull goes on.")
        time.sleep(min(left, 0.1))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _kept(part: Path) -> str:
    return "What has come is kept: the same command goes on." if _size(part) else ""


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc
