"""JSON Lines: one JSON object per line, whose field `text` is one document. Other fields are ignored.

A line that is broken stops the work with its number: a file with lost lines should be noticed. Blank lines
and empty texts are passed over.
"""

import io
import json
from collections.abc import Iterator
from typing import Any

from twofold.base.errors import BadFileError
from twofold.tokens.conversation import whole_characters


def read(stream: io.BufferedReader, where: str) -> Iterator[str]:
    """Return the `text` of every line. Raises BadFileError for the first line that has none."""
    for number, record in records(stream, where):
        text = record.get("text")
        if not isinstance(text, str):
            found = ", ".join(list(record)[:6]) or "none"
            raise BadFileError(
                f"{where}, line {number}: no text in the field `text` (fields found: {found})."
            )
        yield whole_characters(text, f"{where}, line {number}")


def records(stream: io.BufferedReader, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Return (line number, object) for every line. Raises BadFileError for the first that is no object."""
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "not UTF-8 text"
            raise BadFileError(f"{where}, line {number}: not JSON ({reason}).") from error
        if not isinstance(record, dict):
            raise BadFileError(f"{where}, line {number}: expected an object, found {type(record).__name__}.")
        yield number, record
