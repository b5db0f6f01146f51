"""Ending in time: a run that stops when held-out text no longer gets better, and what it leaves.

Few conversations are learned by heart long before they are read as often as planned. The score on held-out
ones says when: after some evaluations in a row that were no better than the best, the run ends, and the
weights of the best are what it leaves. Both follow from the log alone, so a resumed run decides the same.

Not covered: going back to the best and on with smaller steps.
"""

import dataclasses
import math
from pathlib import Path

from twofold.base import runlog
from twofold.base.runlog import RunLog
from twofold.train import checkpoint
from twofold.train.evaluation import Score
from twofold.train.loop import SCORE_KEYS, Run
from twofold.train.stopping import Stopping


class PatientRun(Run):
    """A run that ends after `patience` scores in a row that were not better than the best; 0 = never."""

    patience = 0

    def _evaluate(self, log: RunLog, stopping: Stopping) -> None:
        super()._evaluate(log, stopping)
        if not self.patience or not self.step or self.step == self.schedule.steps:
            return
        in_vain = self.team.speaks and scores_since_best(self.folder, self.step) >= self.patience
        if not self.team.agree(int(in_vain)):
            return
        self.schedule = dataclasses.replace(self.schedule, steps=self.step)
        if "sample" not in self.due and self.plan.sample_every:
            self.due.append("sample")
        self.screen.say(
            f"step {self.step:,}: the held-out conversations have not become better {self.patience} times in "
            "a row, so it ends here."
        )


def scores(folder: Path, step: float = math.inf) -> dict[int, Score]:
    """Return the scores on held-out conversations in a run's folder, by step, up to `step`."""
    return {
        record["step"]: Score(*(record[key] for key in SCORE_KEYS))
        for record in runlog.read(folder / "metrics.jsonl")
        if record.get("val_loss_nats") is not None and record["step"] <= step
    }


def scores_since_best(folder: Path, step: int) -> int:
    """Return how many scores there were after the best one."""
    losses = [score.loss_nats for score in scores(folder, step).values()]
    return len(losses) - 1 - losses.index(min(losses))


def best(folder: Path) -> int | None:
    """Return the step with the best held-out score among those whose weights are there; None without any."""
    known = scores(folder)
    saved = [step for step in checkpoint.steps(folder / "checkpoints") if step in known]
    return min(saved, key=lambda step: known[step].loss_nats) if saved else None
