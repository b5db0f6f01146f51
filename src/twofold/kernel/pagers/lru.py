"""Least recently used: what nothing has referred to for longest leaves first (Denning 1968).

What is used is not known of a model as it is of a processor; here a part counts as used when what is new has
to do with it (pager.py).
"""

from twofold.kernel.pagers import Frame, beginning

DESCRIPTION = "what was not referred to for longest leaves first; a stub of its first words stays"
LISTED, RECALLED = 0.12, 0.25


def keep(frame: Frame) -> float:
    """Return how recently it was used; of two, the later one stays."""
    return -frame.idle + frame.order * 1e-6


def stub(text: str) -> str:
    """Return its first words."""
    return beginning(text)
