"""Benchmarks as files: JSON Lines, one record a line, also as `.gz` and `.zst`, found in a folder by name."""

import gzip
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
        text = _whole(path).decode("utf-8")
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadFileError(f"{path}: the file is damaged or cut off ({error}).") from error
    except OSError as error:
        raise BadFileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadFileError(f"{path}, line {number}: this is not JSON ({error}).") from error
        if not isinstance(record, dict):
            raise BadFileError(f"{path}, line {number}: this is not a JSON object.")
        yield number, record


def _whole(path: Path) -> bytes:
    """Return the bytes of a file, decompressed as its name says. Raises EOFError when they are damaged."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(raw)
    if path.suffix != ".zst":
        return raw
    try:
        import zstandard
    except ImportError:
        raise MissingExtraError("Reading .zst files", "train") from None
    whole = b""
    while raw:
        frame = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        try:
            whole += frame.decompress(raw)
        except zstandard.ZstdError as error:
            raise EOFError(str(error)) from error
        if not frame.eof:
            raise EOFError("the last frame does not end")
        raw = frame.unused_data
    return whole
