"""Data sets on the Hugging Face hub, by the `datasets` package; the one user of the network in corpus/.

It is used only when the user names `owner/name` and no such path exists. Documents are the field `text` of
the split `train`, read as a stream.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from twofold.base.errors import BadFileError, MissingExtraError

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
        import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(f"Reading {name} from the hub", "train") from error
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
