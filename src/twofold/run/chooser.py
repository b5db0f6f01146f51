"""Choosing the tokens of one answer: its sampler, its own random numbers, its constraint if it has one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twofold.run.backends import Backend
from twofold.run.constraints import Constraint
from twofold.run.sampling import Sampler, likeliest


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
        self._runner, self._sampler, self.stop = runner, sampler, stop
        self._alternatives, self._constraint = alternatives, constraint
        self._state = sampler.seed & ((1 << 64) - 1)

    def choose(self, logits_V: NDArray[np.float32], ids: Sequence[int]) -> list[Step]:
        """Return the next token after `ids`, and those that the constraint then forces.

        logits_V: float32, used up. Raises TwofoldError when the constraint gives up.
        """
        if self._constraint is None:
            return [self._drawn(logits_V, ids)]
        allowed_V = self._constraint.mask()
        if allowed_V is not None:
            logits_V[len(allowed_V) :] = -np.inf  # rows of the table beyond the vocabulary
            np.copyto(logits_V[: len(allowed_V)], -np.inf, where=~allowed_V)
        step = self._drawn(logits_V, ids)
        self._constraint.take(step.id)
        if step.id in self.stop:
            return [step]
        forced = list(self._constraint.forced())
        for token in forced:
            self._constraint.take(token)
        if self._constraint.done and self.stop and not (forced and forced[-1] in self.stop):
            forced.append(min(self.stop))
        return [step, *(Step(token, 1.0, ((token, 1.0),) if self._alternatives else ()) for token in forced)]

    def _drawn(self, logits_V: NDArray[np.float32], ids: Sequence[int]) -> Step:
        token, p_V, self._state = self._runner.choose(logits_V, self._sampler, ids, self._state)
        return Step(token, float(p_V[token]), likeliest(p_V, self._alternatives))
