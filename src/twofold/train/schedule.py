"""How large a step is, step by step: warm-up, stable, decay.

The rate climbs for a few steps (moments are still noise), stays, and falls to almost zero over the last part,
where most of the visible gain in loss is cashed (Hu et al. 2024, arXiv:2404.06395, section 4; Hägele et al.
2024, arXiv:2405.18392). Unlike a cosine, the stable part does not know when the run will end: the end may be
moved while it lasts, which is what lets a run on a busy machine keep its appointment.

Not covered: schedules for batch size.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Shares of a run's steps; `final` is the last step's rate as a share of the stable one."""

    warmup: float = 0.01
    decay: float = 0.4
    final: float = 0.02

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= 1 or not 0 <= self.decay <= 1 or self.warmup + self.decay > 1:
            raise ValueError("warmup and decay are shares of the run that sum to at most 1.")
        if not 0 <= self.final <= 1:
            raise ValueError("final is a share of the stable rate, from 0 to 1.")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The steps of one run: warm-up ends at `warm`, decay begins at `decay_start` and ends at `steps`."""

    warm: int
    decay_start: int
    steps: int
    final: float

    @classmethod
    def of(cls, config: ScheduleConfig, steps: int) -> "Schedule":
        """Return the schedule of a run of `steps` steps (at least 1)."""
        assert steps >= 1
        warm = min(steps, round(config.warmup * steps))
        return cls(warm, max(warm, steps - round(config.decay * steps)), steps, config.final)

    def scale(self, step: int) -> float:
        """Return the factor on all learning rates at `step` (0-based), in (0, 1]."""
        rising = (step + 1) / (self.warm + 1)
        left = (self.steps - step) / max(1, self.steps - self.decay_start)
        falling = self.final + (1 - self.final) * min(1.0, left)
        return min(1.0, rising, falling)

    def end_at(self, step: int, steps: int) -> "Schedule":
        """Return the schedule that ends at `steps` instead, decided at `step`.

        The decay keeps its share of the new length but begins at `step` at the earliest, and the rate never
        jumps: inside the decay only its remaining slope changes.
        """
        steps = max(step + 1, steps)
        if step < self.decay_start:
            share = (self.steps - self.decay_start) / max(1, self.steps)
            return dataclasses.replace(self, decay_start=max(step, steps - round(share * steps)), steps=steps)
        # Choose the start so that the line through the present rate reaches `final` at the new end.
        left = (self.steps - step) / max(1, self.steps - self.decay_start)
        length = max(1, round((steps - step) / max(left, 1e-9)))
        return dataclasses.replace(self, decay_start=steps - length, steps=steps)
