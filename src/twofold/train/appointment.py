"""Keeping an appointment: a run with a time budget ends in time, though the machine's pace changes.

The rate of learning stays where it is until just enough time is left for its decay; how long that may last
is looked at some fifty times in a run. Whatever is decided is written to `decisions.jsonl` before it counts,
so that a resumed run replays it.

Not covered: budgets other than time.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twofold.base import runlog
from twofold.base.files import append
from twofold.train.schedule import Schedule

OVERRUN = 1.03  # a run may come this much too late before its end is moved forward …
IDLE = 0.90  # … and this much too early before it is moved back
LOOKS = 50  # how often in a run the clock is looked at


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
