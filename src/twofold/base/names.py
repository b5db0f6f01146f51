"""The name a person probably meant, for error messages that help."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that looks most like `name`, or None when none is close."""
    folded = {candidate.casefold(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return folded[matches[0]] if matches else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that does not exist: the nearest one if any, and all that do."""
    listed = sorted(known)
    guess = nearest(name, listed)
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"There is no {kind} {name!r}.{hint} Known: {', '.join(listed) or 'none'}."
