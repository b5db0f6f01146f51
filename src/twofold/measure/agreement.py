"""Do labellers agree, beyond what chance would bring?

Items get a label (a word) from each labeller who saw them. Krippendorff's alpha for words (Computing
Krippendorff's Alpha-Reliability, 2011, nominal data) is 1 − D/E: how often two labels of one item differ,
over how often two labels of any items differ. 1 is always, 0 is chance, below 0 is worse. It takes any number
of labellers and items that some of them have not seen. For a pair of them also the plain share, and Cohen's
kappa (1960), which corrects for how often each gives a label.

Not covered: labels that are near to each other (ordinal, interval), intervals.
"""

import collections
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Item = Mapping[str, str]  # labeller -> label


@dataclass(frozen=True)
class Pair:
    """Two labellers: how many items both labelled, the share on which they agree, and Cohen's kappa.

    `kappa` is None where both always give the same one label, so that chance would do as well.
    """

    a: str
    b: str
    shared: int
    agreement: float
    kappa: float | None


def alpha(items: Sequence[Item]) -> float | None:
    """Return Krippendorff's alpha, None when no item has two labels, or all labels are the same word."""
    pairable = [list(item.values()) for item in items if len(item) > 1]
    words = collections.Counter(word for labels in pairable for word in labels)
    total = sum(words.values())
    differing = sum(
        sum(one != other for one, other in itertools.permutations(labels, 2)) / (len(labels) - 1)
        for labels in pairable
    )
    by_chance = total**2 - sum(count**2 for count in words.values())
    return 1 - (total - 1) * differing / by_chance if by_chance else None


def pairs(items: Sequence[Item]) -> list[Pair]:
    """Return how each two labellers agree that share an item, by name."""
    names = sorted({name for item in items for name in item})
    found = []
    for a, b in itertools.combinations(names, 2):
        both = [(item[a], item[b]) for item in items if a in item and b in item]
        if both:
            found.append(_pair(a, b, both))
    return found


def _pair(a: str, b: str, both: Sequence[tuple[str, str]]) -> Pair:
    n = len(both)
    share = sum(one == other for one, other in both) / n
    first, second = (collections.Counter(labels) for labels in zip(*both, strict=True))
    chance = sum(first[word] * second[word] for word in first) / n**2
    kappa = (share - chance) / (1 - chance) if chance < 1 else None
    return Pair(a, b, n, share, kappa)
