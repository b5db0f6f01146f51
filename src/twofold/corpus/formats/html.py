"""Web pages: the main text, without menus, footers and scripts, found by the `trafilatura` package."""

import io
from collections.abc import Iterator

from twofold.base.errors import BadFileError, MissingExtraError
from twofold.corpus.formats.txt import cut


def read(stream: io.BufferedReader, where: str) -> Iterator[str]:
    """Return the main text of a page, cut like plain text if it is very long.

    Raises BadFileError when no main text is found, MissingExtraError without trafilatura.
    """
    try:
        import trafilatura
    except ImportError as error:
        raise MissingExtraError("Reading HTML", "train") from error
    text = trafilatura.extract(stream.read(), include_comments=False)
    if not text:
        raise BadFileError(f"{where}: no main text found in this page.")
    yield from cut(iter(text.splitlines(keepends=True)))
