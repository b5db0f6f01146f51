"""PDF: the text layer of all pages, by the `pypdf` package. Scanned pages have none and give nothing."""

import io
import logging
from collections.abc import Iterator

from twofold.base.errors import BadFileError, MissingExtraError
from twofold.corpus.formats.txt import cut


def read(stream: io.BufferedReader, where: str) -> Iterator[str]:
    """Return the text of a PDF, a blank line between pages, cut like plain text if it is very long.

    Raises BadFileError when the file is broken, locked with a password or holds no text,
    MissingExtraError without pypdf.
    """
    try:
        import pypdf
    except ImportError as error:
        raise MissingExtraError("Reading PDF", "train") from error
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns about every crooked object it repairs
    try:
        pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(stream.read())).pages]
    except Exception as error:  # a broken PDF makes pypdf raise nearly anything
        raise BadFileError(f"{where}: not a PDF that can be read ({error}).") from error
    text = "\n\n".join(page.strip() for page in pages if page.strip())
    if not text:
        raise BadFileError(f"{where}: no text in this PDF; its pages may be scanned pictures.")
    # Fonts with broken tables yield halves of surrogate pairs, which are no text.
    text = text.encode("utf-8", "replace").decode()
    yield from cut(iter(text.splitlines(keepends=True)))
