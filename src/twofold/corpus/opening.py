"""Opening files as bytes, with `.gz` and `.zst` undone on the way, and naming what is inside them.

Formats: RFC 1952 (gzip), RFC 8878 (Zstandard; windows up to 2**27 bytes, as `zstd --long=27` writes them).
"""

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from twofold.base.errors import BadFileError

MAX_WINDOW_BYTES = 2**27
COMPRESSED = (".gz", ".zst")


def extension(path: Path) -> str:
    """Return the extension that names the format, lower case: "jsonl" for `a.jsonl.zst`, or ""."""
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower().removeprefix(".")


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Yield the bytes of a file, decompressed when its name ends in `.gz` or `.zst`.

    Raises BadFileError when the file cannot be opened, or when the compressed bytes prove damaged or cut off.
    """
    try:
        with open(path, "rb") as raw:
            suffix = path.suffix.lower()
            if suffix == ".gz":
                yield io.BufferedReader(gzip.GzipFile(fileobj=raw), 1 << 17)
            elif suffix == ".zst":
                yield io.BufferedReader(_Chunks(_zstd_chunks(raw)), 1 << 17)
            else:
                yield raw
    except (zstandard.ZstdError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise BadFileError(f"{path}: the compressed data is damaged or cut off ({error}).") from error
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _zstd_chunks(raw: IO[bytes]) -> Iterator[bytes]:
    """Return the decompressed bytes, frame after frame. Raises EOFError when the last frame does not end."""
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame = None
    while data := raw.read(1 << 17):
        while data:
            frame = frame or decompressor.decompressobj()
            yield frame.decompress(data)
            data = b""
            if frame.eof:
                data, frame = frame.unused_data, None
    if frame is not None:
        raise EOFError("the last frame does not end")


class _Chunks(io.RawIOBase):
    """An iterator of byte strings as a stream to read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
