"""Runs small enough for a test, and the ways in which they end early."""

import numpy as np

from twofold.base import runlog
from twofold.train import PretrainConfig, loop
from twofold.train.dial import ShapeConfig

EXACT = (
    "step", "loss_nats", "gradient_norm", "lr_scale", "bits_per_byte", "val_loss_nats", "tokens", "samples",
    "skipped", "went_back_from",
)  # fmt: skip
SHAPE = ShapeConfig(depth=1, width=32, heads=2, head_dim=16, vocab=320, context=64)


def write_text(folder):
    """Fill a folder with 40 short documents and return it."""
    words = ["the", "cat", "dog", "sees", "a", "small", "house", "and", "runs", "to", "old", "tree"]
    rng = np.random.default_rng(0)
    for number in range(40):
        (folder / f"{number:02d}.txt").write_text(" ".join(rng.choice(words, 50)) + ".")
    return folder


def settings(text, out, **changes):
    """Return the settings of a run of 24 steps."""
    given = dict(
        data=(str(text),), out=out, steps=24, batch=4, threads=1, compute="float32", eval_every=6,
        sample_every=12, checkpoint_steps=5, model=SHAPE, prompts=("the cat",),
    )  # fmt: skip
    return PretrainConfig(**{**given, **changes})


def records(folder):
    """Return what must be equal of each record of a run, whenever and wherever it ran."""
    return [{key: r.get(key) for key in EXACT} for r in runlog.read(folder / "metrics.jsonl")]


class Stop(Exception):  # noqa: N818
    """Stands for a kill: nothing of the run's own code runs after it."""


def after_step(monkeypatch, step, what):
    """Let `what` happen right after a step, before anything of it is saved."""
    whole = loop.Run._step

    def stepped(self, log, stopping):
        whole(self, log, stopping)
        if self.step == step:
            what()

    monkeypatch.setattr(loop.Run, "_step", stepped)


def broken_at(monkeypatch, step):
    """Make the run die right after a step."""

    def dies():
        raise Stop

    after_step(monkeypatch, step, dies)
