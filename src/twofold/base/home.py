"""Where twofold keeps what belongs to this user and outlives a run.

That is `$XDG_DATA_HOME/twofold`, else ~/.local/share/twofold.

What can be made again without loss belongs into the cache instead (run/library.py).
"""

import os
from pathlib import Path


def data_folder() -> Path:
    """Return the folder; it need not exist yet."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "twofold"


def user() -> str:
    """Return what tells this user of the machine from others; not a name."""
    return f"user-{os.getuid()}" if hasattr(os, "getuid") else "user"
