"""What commands share about the terminal: consoles, numbers for people, and text made safe to print."""

import re
import shutil
import sys
import unicodedata
from collections.abc import Callable

from rich.cells import cell_len
from rich.console import Console


def console() -> Console:
    """Return a console on standard output. Made anew each time, so that it follows redirection."""
    return Console(highlight=False, soft_wrap=False)


def error_console() -> Console:
    """Return a console on standard error: notes, progress and failures, so that pipes get only results."""
    return Console(highlight=False, stderr=True)


def interactive() -> bool:
    """Return whether a person is at the keyboard (standard input is a terminal)."""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


def clean(text: str) -> str:
    """Return `text` with everything that could steer the terminal made visible or replaced.

    A model, a model file or a document may hold escape sequences that recolour, retitle or overwrite the
    screen. Newlines and tabs stay; other C0 controls become their pictures (U+2400 ff.), and the C1 controls
    and marks that reorder text (Trojan Source, CVE-2021-42574) become U+FFFD.
    """
    return "".join(_clean_character(character) for character in text)


def _clean_character(character: str) -> str:
    code = ord(character)
    if character in "\n\t" or (code >= 32 and unicodedata.category(character) not in ("Cc", "Cs")):
        return "\ufffd" if 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069 else character
    return chr(0x2400 + code) if code < 32 else "\u2421" if code == 127 else "\ufffd"


class Wrap:
    """Writes a stream of text and breaks its lines between words, as terminals do not.

    Call it with pieces of any length; a word is held back until it has ended. `columns` None writes
    everything as it comes. What lies after a line's last word is left out where the line breaks.
    """

    def __init__(self, write: Callable[[str], object], columns: int | None = None) -> None:
        self._write = write
        self._columns = columns
        self._column = 0
        self._gap = self._word = ""

    def __call__(self, text: str) -> None:
        """Write `text`; colour sequences take no room."""
        if self._columns is None:
            self._write(text)
            return
        for part in re.findall(r"\x1b\[[0-9;]*m|\n|[^\S\n]+|[^\s\x1b]+|\x1b", text):
            if part.isspace() or part[0] == "\x1b":
                self.flush()
            if part == "\n":
                self._gap, self._column = "", 0
                self._write(part)
            elif part.isspace():
                self._gap += part.expandtabs(4)
            elif part[0] == "\x1b":
                self._write(part)
            else:
                self._word += part
                if cell_len(self._word) >= self._columns:  # longer than a line: it goes out in pieces
                    self.flush()

    def flush(self) -> None:
        """Write the word that is held back."""
        if self._columns is None or not self._word:
            return
        gap, width = cell_len(self._gap), cell_len(self._word)
        if self._column and self._column + gap + width > self._columns:
            self._write("\n")
            self._column = gap = 0
            self._gap = ""
        self._write(self._gap + self._word)
        self._column += gap + width  # a full line is left to the next word, or to the text's own newline
        if self._column > self._columns:
            self._column %= self._columns
        self._gap = self._word = ""


def columns() -> int | None:
    """Return the width of the terminal on standard output, None when there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def visible(piece: bytes) -> str:
    """Return a token's bytes on one line in quotes, so that spaces, newlines and parts of characters show."""
    text = piece.replace(b"\\", b"\\\\").decode("utf-8", errors="backslashreplace")
    escaped = text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
    return f'"{clean(escaped)}"'


def percent(probability: float) -> str:
    """Return a probability as people read it: 97 %, 3.1 %, 0.04 %."""
    value = 100 * probability
    digits = 0 if value >= 99.95 or value == 0 else 1 if value >= 1 else 2
    return f"{value:.{digits}f} %" if value == 0 or value >= 0.005 else "<0.01 %"


def size(bytes_: float) -> str:
    """Return a number of bytes in powers of 1000: 512 B, 14.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if bytes_ < 1000:
            return f"{bytes_:.0f} B" if unit == "B" else f"{bytes_:.1f} {unit}"
        bytes_ /= 1000
    return f"{bytes_:.1f} TB"


def count(number: float) -> str:
    """Return a large number in short: 950, 12.4K, 14.1M, 7.2B."""
    for unit in ("", "K", "M", "B"):
        if abs(number) < 1000:
            return f"{number:.0f}" if not unit else f"{number:.1f}{unit}"
        number /= 1000
    return f"{number:.1f}T"
