"""The files of an app, read without believing them: plain files with plain names, and not too many.

An app comes from strangers. So no link is followed, no name leaves the folder or means something to a
shell or to another system's file names, two names never differ in case only, and there are limits on
everything.

An archive is a tar of the plainest kind (POSIX ustar: regular files and folders only, names of up to 255
bytes) in gzip. It is read as a stream and by hand, because Python's tarfile reads extended headers of any
size into memory before anything can refuse them; a stream that grows far beyond what came in is a bomb,
and reading it ends there.
"""

import gzip
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from twofold.base.errors import BadFileError

SIGNATURE = "signature.json"
MOST_FILES = 1_000
MOST_BYTES = 64_000_000  # of all files but weights
MOST_GROWTH = 4  # weights hardly shrink: what grows more than this beyond MOST_BYTES is no app
WEIGHTS = ".gguf"
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .+-]{0,99}")
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")  # names that Windows keeps for itself
_BLOCK = 512
_PIECE = 1 << 16


def check_name(path: str, where: str) -> str:
    """Return a file's name within an app if it is a plain one. Raises BadFileError that says which is not."""
    parts = path.split("/")
    plain = all(
        _PART.fullmatch(part) and part[-1] not in " ." and not _DEVICES.fullmatch(part) for part in parts
    )
    if not plain or len(path) > 200 or len(parts) > 8:
        raise BadFileError(
            f"{where} holds a file called {path[:80]!r}: names in an app are letters, digits and _ - + . "
            "alone, in at most eight folders, and never lead out of the app."
        )
    return path


class Limits:
    """Counts what has been read of an app, and refuses too much or a name that was there.

    Raises BadFileError.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self._names: set[str] = set()
        self._folders: set[str] = set()
        self._bytes = 0

    def file(self, name: str, size: int) -> None:
        """Take note of a file before its bytes are read."""
        check_name(name, self.where)
        folded = name.lower()
        above = {folded[:at] for at, letter in enumerate(folded) if letter == "/"}
        if folded in self._names | self._folders or above & self._names:
            raise BadFileError(f"{self.where} holds {name!r} twice (capitals apart).")
        self._names.add(folded)
        self._folders |= above
        self._bytes += 0 if folded.endswith(WEIGHTS) else size
        if len(self._names) > MOST_FILES or self._bytes > MOST_BYTES:
            raise BadFileError(
                f"{self.where} is too large for an app: at most {MOST_FILES:,} files and, weights apart, "
                f"{MOST_BYTES:,} bytes."
            )


def walk(folder: Path, *, hidden: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield name and path of each file of an app's folder, in order of names.

    Names that begin with a dot (.git) and compiled Python are passed over, or refused when `hidden` is
    set, as in what was installed. Raises BadFileError for links and for what is neither file nor folder.
    """
    pending = [folder]
    found: list[tuple[str, Path]] = []
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if not hidden and (entry.name.startswith(".") or entry.name == "__pycache__"):
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                path = Path(entry.path)
                if stat.S_ISDIR(mode):
                    pending.append(path)
                elif stat.S_ISREG(mode):
                    found.append((path.relative_to(folder).as_posix(), path))
                else:
                    raise BadFileError(f"{path} is a link or no file: an app holds plain files only.")
    limits = Limits(str(folder))
    for name, path in sorted(found):
        limits.file(name, path.stat().st_size)
        yield name, path


def contents(folder: Path, *, hidden: bool = False) -> dict[str, str]:
    """Return the SHA-256 of each file of an app by its name, the signature's own file left out."""
    found = {}
    for name, path in walk(folder, hidden=hidden):
        if name != SIGNATURE:
            with _open(path) as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def copy(folder: Path, into: Path) -> None:
    """Copy an app's files into an empty folder, links never followed."""
    for name, path in walk(folder):
        with _open(path) as file:
            _write(into / name, iter(lambda file=file: file.read(_PIECE), b""))  # type: ignore[misc]


# --- archives


def pack(folder: Path, out: BinaryIO) -> None:
    """Write an app's files as an archive; the same files give the same bytes."""
    # The time and the system that gzip would note are left out.
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, mtime=0) as packed:
        for name, path in walk(folder):
            with _open(path) as file:
                size = os.fstat(file.fileno()).st_size
                packed.write(_header(name, size))
                while piece := file.read(_PIECE):
                    packed.write(piece)
            packed.write(b"\0" * (-size % _BLOCK))
        packed.write(b"\0" * 2 * _BLOCK)


def unpack(archive: BinaryIO, into: Path, where: str) -> None:
    """Write the files of an archive into an empty folder.

    Raises BadFileError for what `pack` would not write.
    """
    stream, limits = _Unzipped(archive, where), Limits(where)
    while True:
        header = stream.exactly(_BLOCK)
        if not header.strip(b"\0"):
            break
        name, size, kind = _entry(header, where)
        if kind == b"5":  # a folder is made when it holds a file
            continue
        limits.file(name, size)
        _write(into / name, stream.pieces(size))
        stream.exactly(-size % _BLOCK)
    stream.end()


def _header(name: str, size: int) -> bytes:
    """Return the ustar header of a regular file (POSIX.1-1988), without owner and time."""
    prefix, stem = "", name
    while len(stem) > 100:
        head, _, stem = stem.partition("/")
        prefix = f"{prefix}/{head}" if prefix else head
    fields = [
        stem.encode().ljust(100, b"\0"), b"0000644\0", b"0000000\0", b"0000000\0", f"{size:011o}\0".encode(),
        b"00000000000\0", b" " * 8, b"0", b"\0" * 100, b"ustar\x0000", b"\0" * 64, b"0000000\0" * 2,
        prefix.encode().ljust(155, b"\0"), b"\0" * 12,
    ]  # fmt: skip
    header = b"".join(fields)
    return header[:148] + f"{sum(header):06o}\0 ".encode() + header[156:]


def _entry(header: bytes, where: str) -> tuple[str, int, bytes]:
    """Return name, size and kind of an archive's entry: "0" is a file, "5" a folder."""
    told = sum(header[:148]) + 8 * 32 + sum(header[156:])
    kind = header[156:157].replace(b"\0", b"0")
    if _octal(header[148:156]) != told or header[257:262] != b"ustar":
        raise BadFileError(f"{where} is damaged, or no archive of an app (ustar in gzip).")
    if kind not in (b"0", b"5"):
        raise BadFileError(
            f"{where} holds a link, a device or an extended header: an app's archive is made by "
            "`twofold app publish`, and holds plain files."
        )
    size = _octal(header[124:136])
    stem, prefix = (part.split(b"\0")[0] for part in (header[:100], header[345:500]))
    try:
        name = (prefix + b"/" + stem if prefix else stem).decode("ascii")
    except UnicodeDecodeError:
        name = "?"
    if size < 0 or (kind == b"5" and size):
        raise BadFileError(f"{where} is damaged: an entry has no size that can be.")
    return name.removesuffix("/") if kind == b"5" else name, size, kind


def _octal(field: bytes) -> int:
    """Return the number in a field, -1 when there is none."""
    text = field.rstrip(b"\0 ").lstrip(b" ")
    return int(text, 8) if text and not set(text) - set(b"01234567") else -1


class _Unzipped:
    """The bytes in a gzip stream, as many as are asked for.

    Raises BadFileError when there are not so many.
    """

    def __init__(self, source: BinaryIO, where: str) -> None:
        self._source, self._where = source, where
        self._inflate = zlib.decompressobj(31)
        self._held = b""
        self._in = self._out = 0

    def pieces(self, count: int) -> Iterator[bytes]:
        """Yield the next `count` bytes."""
        while count:
            if not self._held and not self._more():
                raise BadFileError(f"{self._where} breaks off in the middle.")
            piece, self._held = self._held[:count], self._held[count:]
            count -= len(piece)
            yield piece

    def exactly(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return b"".join(self.pieces(count))

    def end(self) -> None:
        """Read to the end, where only zeros may stand."""
        while self._held or self._more():
            if self._held.strip(b"\0"):
                raise BadFileError(f"{self._where} goes on after its end.")
            self._held = b""
        if self._inflate.unused_data or self._source.read(1):
            raise BadFileError(f"{self._where} goes on after its end.")

    def _more(self) -> bool:
        """Hold some more bytes; return False at the end."""
        while not self._held and not self._inflate.eof:
            fed = self._inflate.unconsumed_tail or self._source.read(_PIECE)
            self._in += len(fed) if not self._inflate.unconsumed_tail else 0
            try:
                self._held = self._inflate.decompress(fed, _PIECE)
            except zlib.error:
                raise BadFileError(
                    f"{self._where} is damaged, or no archive of an app (ustar in gzip)."
                ) from None
            if not fed and not self._held:
                raise BadFileError(f"{self._where} breaks off in the middle.")
            self._out += len(self._held)
            if self._out > MOST_BYTES + MOST_GROWTH * self._in + MOST_FILES * 2 * _BLOCK:
                raise BadFileError(f"{self._where} unpacks to far more than came in, so it is not unpacked.")
        return bool(self._held)


# --- files


def _open(path: Path) -> io.BufferedReader:
    """Return a file open for reading, never through a link that took its place meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    return os.fdopen(descriptor, "rb")


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
