"""Choosing the tokens of one answer: its sampler, its own random numbers, its constraint if it has one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twofold.run.backends import Backend
from twofold.run.constraints import Constraint
from twofold.run.sampling import Sampler, lean, likeliest

_FEW = 8  # times as many tokens as may come


@dataclass(frozen=True)
class Step:
    """A chosen token, its probability, and the likeliest tokens as (id, probability), likeliest first."""

    id: int
    probability: float
    alternatives: tuple[tuple[int, float], ...]


class Chooser:
    """Chooses token after token. `alternatives`: how many of the likeliest to name with each.

    stop: the tokens that end the answer. A constraint belongs to one chooser.
    """

    def __init__(
        self,
        runner: Backend,
        sampler: Sampler,
        stop: frozenset[int],
        alternatives: int,
        constraint: Constraint | None = None,
    ) -> None:
        self._runner, self.sampler, self.stop = runner, sampler, stop
        self._alternatives, self._constraint = alternatives, constraint
        self.state = sampler.seed & ((1 << 64) - 1)  # of its random numbers
        self._made: Counter[int] = Counter()

    @property
    def plain(self) -> bool:
        """Whether tokens are chosen from the logits alone, and nothing but them is asked for."""
        s = self.sampler
        leans = s.bias or s.presence_penalty or s.frequency_penalty or s.repetition_penalty != 1
        return not (leans or self._alternatives or self._constraint)

    def choose(self, logits_V: NDArray[np.float32], ids: Sequence[int], left: int) -> list[Step]:
        """Return the next token after `ids`, and those that the constraint then forces.

        logits_V: float32, used up. left: tokens for which there is still room. Raises TwofoldError when the
        constraint gives up.
        """
        lean(logits_V, self.sampler, self._made)
        steps = self._chosen(logits_V, ids, left)
        self._made.update(step.id for step in steps)
        return steps

    def _chosen(self, logits_V: NDArray[np.float32], ids: Sequence[int], left: int) -> list[Step]:
        if self._constraint is None:
            return [self._drawn(logits_V, ids, None)]
        step = self._drawn(logits_V, ids, self._constraint.mask(left))
        self._constraint.take(step.id)
        if step.id in self.stop:
            return [step]
        forced = list(self._constraint.forced())
        for token in forced:
            self._constraint.take(token)
        if self._constraint.done and self.stop and not (forced and forced[-1] in self.stop):
            forced.append(min(self.stop))
        return [step, *map(self._sure, forced)]

    def _sure(self, token: int) -> Step:
        return Step(token, 1.0, ((token, 1.0),) if self._alternatives else ())

    def _drawn(
        self, logits_V: NDArray[np.float32], ids: Sequence[int], mask: NDArray[np.bool_] | None
    ) -> Step:
        """Return a token of those in the mask."""
        allowed = None
        if mask is not None:
            if (count := np.count_nonzero(mask)) * _FEW < len(mask) and self.sampler.repetition_penalty == 1:
                allowed = np.flatnonzero(mask)  # to choose among these alone gives the same, sooner
                if count == 1:
                    return self._sure(int(allowed[0]))
                logits_V = logits_V[allowed]
            else:
                logits_V[len(mask) :] = -np.inf  # rows of the table beyond the vocabulary
                np.copyto(logits_V[: len(mask)], -np.inf, where=~mask)
        token, p_V, self.state = self._runner.choose(logits_V, self.sampler, ids, self.state)
        step = Step(token, float(p_V[token]), likeliest(p_V, self._alternatives))
        if allowed is None:
            return step
        named = tuple((int(allowed[place]), p) for place, p in step.alternatives)
        return Step(int(allowed[token]), step.probability, named)
