"""Ending in time: a run that stops when held-out text no longer gets better, and what it leaves.

Few conversations are learned by heart long before they are read as often as planned. The score on held-out
ones says when: after some evaluations in a row that were no better than the best, the run ends, and the
weights of the best are what it leaves. Both follow from the log alone, so a resumed run decides the same.

Not covered: going back to the best and on with smaller steps.
"""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from twofold.base import runlog
from twofold.base.runlog import RunLog
from twofold.train import checkpoint
from twofold.train.evaluation import Score
from twofold.train.loop import Run
from twofold.train.stopping import Stopping
from twofold.train.transformer import Transformer

Read = Callable[[dict[str, Any]], Any]  # a record of the log to its score, None without one


class PatientRun(Run):
    """A run that ends after `patience` scores in a row that were not better than the best; 0 = never."""

    patience = 0
    judged_by = "the held-out conversations have not become better"

    def _evaluate(self, log: RunLog, stopping: Stopping) -> None:
        super()._evaluate(log, stopping)
        if not self.patience or not self.step or self.step == self.schedule.steps:
            return
        in_vain = (
            self.team.speaks and scores_since_best(self.folder, self.step, self.read_score) >= self.patience
        )
        if not self.team.agree(int(in_vain)):
            return
        self.schedule = dataclasses.replace(self.schedule, steps=self.step)
        if "sample" not in self.due and self.plan.sample_every:
            self.due.append("sample")
        self.screen.say(
            f"step {self.step:,}: {self.judged_by} {self.patience} times in a row, so it ends here."
        )

    def take_best(self, net: Transformer) -> tuple[int, Any]:
        """Give the network the weights that did best; return their step and score (None if unknown)."""
        known = scores(self.folder, read=self.read_score)
        step = best(self.folder, self.read_score) if self.patience else None
        if step is None or step == self.step:
            return self.step, known.get(self.step)
        state = checkpoint.load(checkpoint.place(self.folder / "checkpoints", step))
        with torch.no_grad():
            for name, parameter in net.named().items():
                parameter.copy_(state.tensors[f"model.{name}"])
        return step, known.get(step)


def scores(folder: Path, step: float = math.inf, read: Read = Score.read) -> dict[int, Any]:
    """Return the scores on held-out text in a run's folder, by step, up to `step`."""
    found = {record["step"]: read(record) for record in runlog.read(folder / "metrics.jsonl")
             if record["step"] <= step and read(record) is not None}  # fmt: skip
    return found


def scores_since_best(folder: Path, step: int, read: Read = Score.read) -> int:
    """Return how many scores there were after the best one."""
    ranks = [score.rank for score in scores(folder, step, read).values()]
    return len(ranks) - 1 - ranks.index(min(ranks))


def best(folder: Path, read: Read = Score.read) -> int | None:
    """Return the step with the best held-out score among those whose weights are there; None without any."""
    known = scores(folder, read=read)
    saved = [step for step in checkpoint.steps(folder / "checkpoints") if step in known]
    return min(saved, key=lambda step: known[step].rank) if saved else None
