"""The oldest leaves first, and nothing stays or comes back by itself: what most chat programs do."""

from twofold.kernel.pagers import Frame, beginning

DESCRIPTION = "the oldest leaves first, without stubs, and nothing comes back by itself"
LISTED, RECALLED = 0.0, 0.0


def keep(frame: Frame) -> float:
    """Return its place in the conversation."""
    return frame.order


def stub(text: str) -> str:
    """Return its first words, for long pages of which a part is left."""
    return beginning(text, 30)
