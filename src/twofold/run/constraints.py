"""Constrained decoding: which tokens may come next, so that an answer has the form that was asked for."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Constraint(Protocol):
    """What one answer must look like; it goes along with the answer token by token."""

    done: bool
    """Whether the answer is whole: only a stop token may follow."""

    def mask(self) -> NDArray[np.bool_] | None:
        """Return which tokens may come next, [V]; None for all."""
        ...

    def take(self, token: int) -> None:
        """Note that this token came."""
        ...
