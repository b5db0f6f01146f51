"""Heat: what was referred to often and lately stays, and what is large must have been used more.

Every use warms a part, and what is warm cools by half with each few turns (ram.py), so that a fact asked for
five times outlives small talk of a minute ago (as frequency and recency are joined in LRFU, Lee et al. 2001).
What is new is warm, or it would leave before anybody could refer to it. Dividing by the size, as caches of
web pages do (Cao and Irani 1997), lets a long listing go before many short sentences."""

from twofold.kernel.pagers import Frame, beginning

DESCRIPTION = (
    "what was not referred to often and lately, for its size, leaves first; a stub of its first words stays"
)
LISTED, RECALLED = 0.12, 0.25
NEW = 1.0  # as warm as something used once
HALF_LIFE = 8
SIZE = 100  # tokens; a part of this size must be twice as warm as a tiny one


def keep(frame: Frame) -> float:
    """Return how warm it is for its size."""
    fresh = NEW * 0.5 ** (frame.age / HALF_LIFE)
    return float((frame.heat + fresh) / (1 + frame.tokens / SIZE))


def stub(text: str) -> str:
    """Return its first words."""
    return beginning(text)
