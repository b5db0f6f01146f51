"""Which of several answers is given: by a verifier, by a scorer, by a vote, or the likeliest.

A verifier is a function from an answer's text to a number; 1 says that it is right, and nothing more needs to
be looked for. A scorer gives each of several texts a number, the more the better, without an end: a reward
model, for one. A vote takes what most answers say (self-consistency: Wang et al. 2022, arXiv 2203.11171): two
answers say the same when their last numbers are equal, or, where there are none, their words. Where no two
agree, and among those that say the same, the likeliest is given, by the mean logarithm of its tokens'
probabilities.

When a vote is decided is Aggarwal et al.'s rule (2023, arXiv 2305.11860): votes of a and b for the two first
make it 99 % sure that the first is more frequent.

Not covered: agreement in meaning.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twofold.environments import last_number

Verifier = Callable[[str], float]
Scorer = Callable[[Sequence[str]], Sequence[float]]
HOPELESS = 16  # answers of which no two agree: more of them will not do either
_DOUBT = 0.01
_DISTINCT = re.compile(r"[^\w<>=*/+-]+")


@dataclass(frozen=True)
class Candidate:
    """An answer: its tokens with its thoughts, without the end; what it thought and what it says.

    `log_p`: of all tokens together. `ended`: by itself. `closed`: its thoughts were ended by the budget.
    `score`: what a verifier or scorer gives it.
    """

    ids: list[int]
    thought: str
    text: str
    log_p: float
    ended: bool = True
    closed: bool = False
    score: float | None = None

    @property
    def likelihood(self) -> float:
        """The mean logarithm of the probabilities of its tokens, its end included."""
        return self.log_p / (len(self.ids) + self.ended)


def key(text: str) -> str:
    """Return what an answer says, as far as votes go."""
    number = last_number(text)
    return repr(number) if number is not None else _DISTINCT.sub(" ", text.casefold()).strip()


@dataclass(frozen=True)
class Vote:
    """The winner, how many said so, how many said what came second, and how many voted."""

    winner: Candidate
    first: int
    second: int
    of: int

    @property
    def decided(self) -> bool:
        """Whether more votes would hardly change it, or hardly bring any agreement."""
        if self.first == 1:
            return self.of >= HOPELESS
        return _lead_is_chance(self.first, self.second) < _DOUBT


def vote(candidates: Sequence[Candidate]) -> Vote:
    """Return the vote of one candidate or more; a draw goes to the likelier side.

    An answer that says nothing counts only where none says anything.
    """
    sides: dict[str, list[Candidate]] = {}
    for candidate in [one for one in candidates if one.text.strip()] or candidates:
        sides.setdefault(key(candidate.text), []).append(candidate)
    likeliest = {said: max(side, key=lambda one: one.likelihood) for said, side in sides.items()}
    order = sorted(sides, key=lambda said: (len(sides[said]), likeliest[said].likelihood), reverse=True)
    second = len(sides[order[1]]) if len(order) > 1 else 0
    return Vote(likeliest[order[0]], len(sides[order[0]]), second, len(candidates))


def best(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the highest score, and among equals the likeliest."""
    return max(candidates, key=lambda one: (one.score or 0.0, one.likelihood))


def _lead_is_chance(first: int, second: int) -> float:
    """Return the probability that the side with fewer votes is in truth the more frequent one.

    With a flat prior the share of the first is Beta(first + 1, second + 1); this is its mass below a half.
    """
    n = first + second + 1
    return sum(math.comb(n, k) for k in range(second + 1)) / 2.0**n if n < 1000 else 0.0
