"""Data sets on the Hugging Face hub, by the `datasets` package; the one user of the network in corpus/.

It is used only when the user names `owner/name` and no such path exists, and it says so before the first byte
byte comes. Documents are the field `text` of the split `train`, read as a stream. `keep` writes them to a
file, since preparing a corpus reads everything twice.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import zstandard

from twofold.base.errors import BadFileError, MissingExtraError
from twofold.base.files import atomic_write

DOWNLOAD_BYTES = 1_000_000_000

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def looks_like_dataset(name: str) -> bool:
    """Return whether `name` can only be a data set: of the form owner/name, no folder called owner here.

    The second half keeps a mistyped path (`books/novles`) from becoming a download.
    """
    return _NAME.fullmatch(name) is not None and not Path(name).parent.exists()


def texts(name: str) -> Iterator[str]:
    """Return the texts of a data set, in the hub's order.

    Raises MissingExtraError without the package, BadFileError when the hub does not give the data set or its
    rows have no field `text`.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"Reading {name} from the hub", "train") from error
    print(
        f"There is no path {name!r} here, so twofold downloads the data set of that name from the hub.",
        file=sys.stderr,
    )
    try:
        rows = iter(datasets.load_dataset(name, split="train", streaming=True))
    except Exception as error:  # network, permission, unknown name: the library has a type for each
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadFileError(
            f"There is no path {name!r} here, and the hub did not give a data set of that name ({reason})."
        ) from error
    for number, row in enumerate(rows, 1):
        text = row.get("text")
        if not isinstance(text, str):
            found = ", ".join(list(row)[:6])
            raise BadFileError(f"{name}, row {number}: no field `text` (fields found: {found}).")
        yield text


def keep(name: str, folder: Path, limit_bytes: int | None = None) -> Path:
    """Return a `.jsonl.zst` file in `folder` with the texts of a data set, downloaded unless it is there.

    `limit_bytes`: stop after so many UTF-8 bytes of text (default: 1 GB; some data sets never end). Raises as
    `texts` does, and BadFileError when there is no text.
    """
    limit = limit_bytes or DOWNLOAD_BYTES
    path = folder / f"{name.replace('/', '--')}-{limit}.jsonl.zst"
    if path.exists():
        return path
    size = 0
    with atomic_write(path) as file, zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packed:
        for text in texts(name):
            packed.write(json.dumps({"text": text}).encode() + b"\n")
            size += len(text.encode("utf-8", "replace"))
            if size >= limit:
                break
        if not size:
            raise BadFileError(f"The data set {name} holds no text.")
    return path
