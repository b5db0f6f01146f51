"""The key of a server of ours: in a file, or in the variable TWOFOLD_KEY."""

import os
from pathlib import Path

from twofold.base.errors import UsageError


def given(file: Path | None) -> str | None:
    """Return the key in a file, or in TWOFOLD_KEY; None when there is neither. Raises UsageError."""
    if file is None and not os.environ.get("TWOFOLD_KEY"):
        return None
    try:
        key = os.environ["TWOFOLD_KEY"] if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise UsageError(
            "--key takes the name of a file that holds the key, and not the key: others on this machine "
            "can see what is typed here."
        ) from None
    if not key or not key.isascii() or not key.isprintable():
        raise UsageError(f"The key in {file or 'TWOFOLD_KEY'} must be one line of plain characters.")
    return key
