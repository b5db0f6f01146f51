"""The style of an answer: how long it is, and how much of it is headings, lists and bold type.

People (and models that judge) prefer long, decorated answers, whatever they say. LMArena's style control
("Does style have to matter?", Li, Angelopoulos and Chiang 2024) therefore counts four things in both answers
of a battle and gives each a weight of its own beside the players' ratings:

    length    here characters, there tokens: both answers are measured alike, and no tokenizer is needed
    headings  lines that begin with # to ######
    lists     lines that begin with -, *, + or a number
    bold      pairs of ** or __

Markdown within code blocks does not count: a # there is a comment.
"""

import re

FEATURES = ("length", "headings", "lists", "bold")

_CODE = re.compile(r"^(```|~~~).*?(^\1|\Z)", re.DOTALL | re.MULTILINE)
_COUNTED = (
    re.compile(r"^ {0,3}#{1,6} +\S", re.MULTILINE),
    re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)]) +\S", re.MULTILINE),
    re.compile(r"(\*\*|__)(?=\S)[^\n]+?(?<=\S)\1"),
)


def counts(text: str) -> tuple[int, ...]:
    """Return how often each of FEATURES occurs in a text."""
    prose = _CODE.sub("", text)
    return (len(text), *(sum(1 for _ in pattern.finditer(prose)) for pattern in _COUNTED))


def difference(a: str, b: str) -> tuple[float, ...]:
    """Return how much more of each of FEATURES the first answer has, as a share of both: −1 to 1."""
    return tuple(
        (one - other) / (one + other) if one + other else 0.0
        for one, other in zip(counts(a), counts(b), strict=True)
    )
