"""Keeping an appointment: a run with a time budget ends in time, though the machine's pace changes.

The rate of learning stays where it is until just enough time is left for its decay; how long that may last
is looked at some fifty times in a run. Whatever is decided is written to `decisions.jsonl` before it counts,
so that a resumed run replays it.

Not covered: budgets other than time.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twofold.base import runlog
from twofold.base.files import append
from twofold.train.parallel import Team
from twofold.train.schedule import Schedule
from twofold.train.step import StepPlan

OVERRUN = 1.03  # a run may come this much too late before its end is moved forward …
IDLE = 0.90  # … and this much too early before it is moved back
LOOKS = 50  # how often in a run the clock is looked at


class Appointment:
    """Looks at the clock of one run, and moves its end when it would come too late or much too early."""

    def __init__(self, folder: Path, plan: StepPlan, team: Team, tell: Callable[[int], None]) -> None:
        """`tell` hears how many steps the run has now, when that is something new."""
        self.folder, self.plan, self.team, self.tell = folder, plan, team, tell
        self.decisions = read_decisions(folder)
        self._marks: list[tuple[int, float]] = []

    def kept(self, schedule: Schedule, step: int, elapsed_s: float) -> Schedule:
        """Return the schedule from `step` on: as it is, as was decided here before, or with another end."""
        for decision in self.decisions:
            if decision["step"] == step and decision["steps"] != schedule.steps:
                schedule = schedule.end_at(step, decision["steps"])
        if self.plan.budget_s is None or step % max(1, self.plan.steps // LOOKS):
            return schedule
        self._marks.append((step, elapsed_s))
        if any(decision["step"] >= step for decision in self.decisions):
            return schedule  # what is known already is replayed, not decided again
        steps = self.team.agree(self._decided(schedule, step, elapsed_s, self.plan.budget_s))
        if steps == schedule.steps:
            return schedule
        self.decisions.append({"step": step, "steps": steps})
        self.tell(steps)
        return schedule.end_at(step, steps)

    def _decided(self, schedule: Schedule, step: int, elapsed_s: float, budget_s: float) -> int:
        """Return how many steps the run shall have, after writing it down if that is something new."""
        steps = steps_in_time(
            schedule, self._marks, step, elapsed_s, budget_s, self.plan.steps, self.plan.most_steps
        )
        if steps != schedule.steps and self.team.speaks:
            decision = {"step": step, "steps": steps, "elapsed_s": round(elapsed_s, 1)}
            try:
                append_decision(self.folder, decision)
            except OSError:
                return schedule.steps  # what could not be replayed is not decided; it is tried again
        return steps

    def gone_back(self) -> None:
        """Forget the pace of late: the run has gone back to an earlier step."""
        self._marks.clear()


def steps_in_time(
    schedule: Schedule,
    marks: Sequence[tuple[int, float]],
    here: int,
    elapsed_s: float,
    budget_s: float,
    first_plan: int,
    most_steps: int,
) -> int:
    """Return at which step a run should end to take `budget_s`, at its pace of late.

    `marks`: (step, seconds) of the looks at the clock so far. `here`: the step where the run is.
    `first_plan`, `most_steps`: how many steps were planned at first, and how many there may be.
    """
    planned = schedule.steps
    step, then_s = marks[max(0, len(marks) - 6)]
    if here - step < 2:
        return planned
    pace_s = (elapsed_s - then_s) / (here - step)
    room = here + max(1, math.floor((budget_s - elapsed_s) / pace_s))
    end_s = elapsed_s + (planned - here) * pace_s
    if here >= schedule.decay_start:
        return min(planned, room) if end_s > budget_s * OVERRUN else planned
    # The stable part may last as long as there is time for the decay after it: nothing is decided early.
    decay_s = (planned - schedule.decay_start) * pace_s
    if elapsed_s + decay_s > budget_s:
        return min(planned, room)
    soon = here + 2 * max(1, first_plan // LOOKS) > schedule.decay_start
    return max(planned, min(room, most_steps)) if soon and end_s < budget_s * IDLE else planned


def read_decisions(folder: Path) -> list[dict[str, Any]]:
    """Return the decisions to end sooner that a run's folder holds, in order."""
    path = folder / "decisions.jsonl"
    return runlog.read(path) if path.exists() else []


def append_decision(folder: Path, decision: dict[str, Any]) -> None:
    """Write a decision to the disk before it counts."""
    append(folder / "decisions.jsonl", (json.dumps(decision) + "\n").encode())
