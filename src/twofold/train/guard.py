"""When not to learn from a batch: its loss is no number, or stands far above all of late.

A broken batch (or a bug in a kernel) can ruin in one update what took days. The median of the last losses
and their median distance from it say what is usual, and no single outlier moves either (Huber & Ronchetti
2009, Robust Statistics, section 5.1). A loss many such distances above the median, or one that is no number,
or a gradient that is none, is not learned from: the batch is skipped. After a few in a row it is not the
batch that is bad but the weights, and the run goes back to where all was well, and on with other batches
(Chowdhery et al. 2022, arXiv:2204.02311, section 5.1).

The memory of losses is part of a run's state, so that a resumed run judges as one that was never stopped.

Not covered: slow divergence, which looks like a level of its own.
"""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """`window` losses are remembered, and judged by once there are `least`.

    A loss is a spike when it is above the median by `distances` median distances and by `margin_nats`.
    `patience` batches in a row are skipped before the run goes back. `window` = 0 switches spikes off.
    """

    window: int = 48
    least: int = 16
    distances: float = 20.0
    margin_nats: float = 0.5
    patience: int = 3

    def __post_init__(self) -> None:
        if (
            self.window < 0
            or self.least < 2
            or self.distances <= 0
            or self.margin_nats < 0
            or self.patience < 0
        ):
            raise ValueError("window and patience are 0 or more, least 2 or more, distances above 0.")


class Guard:
    """Remembers losses and says which batch not to learn from."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self.losses: list[float] = []
        self.bad = 0  # in a row

    def refuses(self, loss_nats: float) -> str | None:
        """Return why a batch of this loss is not to be learned from, or None."""
        if not math.isfinite(loss_nats):
            return "its loss is no number"
        if len(self.losses) < self.config.least:
            return None
        middle = median(self.losses)
        distance = median([abs(loss - middle) for loss in self.losses])
        if loss_nats <= middle + max(self.config.margin_nats, self.config.distances * distance):
            return None
        return f"its loss of {loss_nats:.2f} is far above the {middle:.2f} of late"

    def took(self, loss_nats: float) -> None:
        """Remember the loss of a batch that was learned from."""
        self.bad = 0
        self.losses = [*self.losses, loss_nats][-self.config.window :] if self.config.window else []

    def skipped(self) -> bool:
        """Count a batch that was not learned from; return whether it is time to go back."""
        self.bad += 1
        return self.bad > self.config.patience

    def forget(self) -> None:
        """Take whatever comes as usual from here on."""
        self.losses, self.bad = [], 0

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes."""
        return {"losses": self.losses, "bad": self.bad}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.losses, self.bad = [float(loss) for loss in state["losses"]], int(state["bad"])


def median(values: list[float]) -> float:
    """Return the middle of at least one value."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
