"""Summary stubs: what leaves is chosen as by `lru`, and its most telling sentence stays.

A sentence tells much when it has what cannot be guessed: numbers, names, rare long words, for its length
(extractive, after Luhn 1958, "The automatic creation of literature abstracts"). It is taken from the text as
it stands, so it is true, needs no model and is the same each time."""

import re

from twofold.kernel.pagers import Frame, beginning, lru

DESCRIPTION = "as lru, and the most telling sentence of what leaves stays in its stub"
LISTED, RECALLED = 0.3, 0.2
_LONGEST = 120  # characters
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_NUMBER = re.compile(r"\d")
_NAME = re.compile(r"(?<=\w )[A-ZÄÖÜ]\w+|\w*[A-Z]\w*[A-Z]\w*|\w+[_@/.]\w+")
_LONG = re.compile(r"\b\w{7,}\b")


def keep(frame: Frame) -> float:
    """Return how recently it was used."""
    return lru.keep(frame)


def stub(text: str) -> str:
    """Return the sentence that tells most."""
    sentences = [s.strip() for s in _SENTENCE.findall(text) if len(s.strip()) > 3]
    if not sentences:
        return beginning(text)
    best = max(sentences, key=telling)  # the first of several that tell as much
    return beginning(best, _LONGEST)


def telling(sentence: str) -> float:
    """Return how much a sentence tells, for its length."""
    words = len(sentence.split())
    found = (
        3 * bool(_NUMBER.search(sentence))
        + 2 * len(_NAME.findall(sentence))
        + len(_LONG.findall(sentence)) / 2
    )
    return float((found - 2 * sentence.endswith("?")) / (3 + words) ** 0.5)
