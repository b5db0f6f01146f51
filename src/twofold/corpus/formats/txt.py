"""Plain text: UTF-8 (or UTF-16 with a byte-order mark), cut into documents at blank lines.

A plain file says nowhere where one text ends and the next begins. Up to 32,000 characters it is one document;
a longer one is cut, at the first blank line after that many characters, so that a book becomes many documents
and a part of it can be held out. A text without blank lines is cut at a line end, one without lines anywhere,
after twice as many characters.
"""

import codecs
import io
from collections.abc import Iterator

from twofold.base.errors import BadFileError

PIECE_CHARACTERS = 32_000


def read(stream: io.BufferedReader, where: str) -> Iterator[str]:
    """Return the pieces of a plain text file, each at least 32,000 characters except the last.

    Line ends become `\\n`. Raises BadFileError with the line number where the bytes are not UTF-8.
    """
    return cut(_lines(stream, where))


def cut(lines: Iterator[str]) -> Iterator[str]:
    """Return the text of `lines`, which keep their line ends, cut into documents as described above."""
    piece: list[str] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if (size >= PIECE_CHARACTERS and not line.strip()) or size >= 2 * PIECE_CHARACTERS:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)


def _lines(stream: io.BufferedReader, where: str) -> Iterator[str]:
    utf16 = stream.peek(2).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = io.TextIOWrapper(stream, encoding="utf-16" if utf16 else "utf-8-sig")
    number = 1
    try:
        # A limit on the line, so that a file without line ends is not read into memory whole.
        while line := text.readline(PIECE_CHARACTERS):
            yield line
            number += line.endswith("\n")
    except UnicodeDecodeError as error:
        raise BadFileError(
            f"{where}, near line {number}: not UTF-8 text ({error.reason}); save it as UTF-8 and try again."
        ) from error
    finally:
        if not stream.closed:
            text.detach()
