"""Benchmarks as files: JSON Lines, one record a line, also as `.gz` and `.zst`, found in a folder by name."""

import contextlib
import gzip
import io
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, MissingExtraError, UsageError

_ENDINGS = (".jsonl", ".jsonl.zst", ".jsonl.gz")
_FOLDERS = (".", "eval", "rl")
_WINDOW = 2**27  # bytes, as `zstd --long=27` writes them


def folder(given: Path | None) -> Path:
    """Return the folder of benchmarks: the given one, TWOFOLD_DATA, or `shared/data` here or above.

    Raises UsageError when there is none.
    """
    if given is not None:
        if given.is_dir():
            return given
        raise UsageError(f"There is no folder {str(given)!r} with benchmark data.")
    if os.environ.get("TWOFOLD_DATA"):
        return folder(Path(os.environ["TWOFOLD_DATA"]))
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / "shared" / "data").is_dir():
            return place / "shared" / "data"
    raise UsageError(
        "Say where the benchmarks' files lie: --data FOLDER, or TWOFOLD_DATA. Nothing is downloaded; "
        "`twofold eval --list` names the files."
    )


def find(data: Path, name: str) -> Path | None:
    """Return the file of a benchmark in the data folder, or None."""
    for inner in _FOLDERS:
        for ending in _ENDINGS:
            path = data / inner / f"{name}{ending}"
            if path.is_file():
                return path
    return None


def read(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, record) of a file. Raises BadFileError, MissingExtraError."""
    try:
        with contextlib.ExitStack() as stack:
            stream = _open(stack.enter_context(open(path, "rb")), path)
            for number, line in enumerate(io.TextIOWrapper(stream, "utf-8"), 1):
                if not line.strip():
                    continue
                record = json.loads(line)
                if not isinstance(record, dict):
                    raise BadFileError(f"{path}, line {number}: this is not a JSON object.")
                yield number, record
    except json.JSONDecodeError as error:
        raise BadFileError(f"{path}, line {number}: this is not JSON ({error.msg}).") from error
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFileError(f"{path}: the file is damaged or cut off ({error}).") from error
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _open(raw: io.BufferedReader, path: Path) -> io.BufferedIOBase:
    """Return the bytes of an open file, decompressed as its name says."""
    if path.suffix == ".gz":
        return gzip.GzipFile(fileobj=raw)
    if path.suffix != ".zst":
        return raw
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("Reading .zst files", "train") from None
    frames = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    source = frames.stream_reader(raw, read_across_frames=True)
    return io.BufferedReader(_Frames(source, zstandard.ZstdError))


class _Frames(io.RawIOBase):
    """A decompressor whose complaints are EOFErrors, as gzip's are."""

    def __init__(self, source: Any, complaint: type[Exception]) -> None:
        self._source, self._complaint = source, complaint

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            return int(self._source.readinto(buffer))
        except self._complaint as error:
            raise EOFError(str(error)) from error
