"""What commands share about the terminal: consoles, numbers for people, and text made safe to print."""

import sys
import unicodedata

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
