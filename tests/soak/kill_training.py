"""Kill a training run at 20 random moments, resume it each time, and compare it with one left alone.

    python tests/soak/kill_training.py [--kills 20] [--seed 0]

Both runs have the same settings. The killed one gets SIGKILL at random moments (while starting, in a step,
while saving) and is resumed by the function that `twofold train --resume` calls, in a process of its own each
time (forked, so that torch is loaded once). Afterwards every loss and score in its metrics.jsonl must equal
the other's to the last bit, each step once, and so must the weights. Exit code 1 if anything differs.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from forked import ended, start

from twofold.base import runlog
from twofold.train import PretrainConfig, pretrain, resume
from twofold.train.checkpoint import load_latest, steps
from twofold.train.dial import ShapeConfig

STEPS = 300
COMPARED = (
    "step", "loss_nats", "gradient_norm", "lr_scale", "bits_per_byte", "val_loss_nats", "tokens", "samples",
)  # fmt: skip
LIMIT_S = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="twofold-soak-"))
    try:
        return soak(folder, options.kills, random.Random(options.seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def soak(folder: Path, kills: int, chance: random.Random) -> int:
    began = time.monotonic()
    text = folder / "text.txt"
    text.write_text(story(chance))
    alone, killed = folder / "alone", folder / "killed"
    shape = ShapeConfig(depth=2, width=64, head_dim=32, vocab=320, context=64)
    config = PretrainConfig(
        data=(str(text),), out=alone, model=shape, steps=STEPS, batch=4, threads=1, compute="float32",
        eval_every=20, sample_every=80, checkpoint_steps=3,
    )  # fmt: skip
    if ended(start(lambda: pretrain(config))) != 0:
        return 1
    # The other run starts from the same recipe and plan: how fast the machine is must not enter.
    killed.mkdir()
    shutil.copy(alone / "recipe.toml", killed / "recipe.toml")

    places: list[int] = []
    while len(places) < kills and time.monotonic() - began < LIMIT_S:
        child = start(lambda: resume(killed))
        # Let it save something new and take a few steps more (or, one time in five, nothing), then strike.
        saved = steps(killed / "checkpoints")
        if chance.random() < 0.8:
            wait(lambda saved=saved: steps(killed / "checkpoints") != saved, began)
            goal = last_step(killed) + chance.randrange(8)
            wait(lambda goal=goal: last_step(killed) >= min(goal, STEPS - 1), began)
        time.sleep(chance.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        if ended(child) != -signal.SIGKILL:
            break  # it was quicker: the run is done
        places.append(last_step(killed))
    if ended(start(lambda: resume(killed))) != 0:
        return 1
    differences = compare(read(alone), read(killed)) + compare(weights(alone), weights(killed))
    print(f"killed {len(places)} times, at steps {places} of {STEPS}, in {time.monotonic() - began:.0f} s")
    for difference in differences[:10]:
        print(f"DIFFERENT: {difference}")
    print(f"{len(differences)} differences" if differences else "losses and weights equal to the last bit")
    if len(places) < kills:
        print(f"only {len(places)} of {kills} kills: the run or the time ended first")
    return 0 if not differences and len(places) == kills else 1


def wait(until: Callable[[], bool], began: float) -> None:
    """Wait until something is so, or the time is over."""
    while not until() and time.monotonic() - began < LIMIT_S:
        time.sleep(0.002)


def story(chance: random.Random) -> str:
    """Return a few hundred short documents' worth of text, the same for the same seed."""
    words = ["the", "cat", "dog", "sees", "a", "small", "house", "and", "runs", "to", "old", "tree", "sings"]
    return "\n\n".join(" ".join(chance.choices(words, k=60)) + "." for _ in range(400))


def last_step(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return max((record.get("step", 0) for record in runlog.read(path)), default=0) if path.exists() else 0


def read(folder: Path) -> list[str]:
    """Return what must be equal of each record, in order."""
    records = runlog.read(folder / "metrics.jsonl")
    return [str([record.get(key) for key in COMPARED]) for record in records]


def weights(folder: Path) -> list[str]:
    """Return the bytes of each tensor in the last checkpoint, optimiser included, as text to compare."""
    state = load_latest(folder / "checkpoints")
    assert state is not None
    return [f"{name} {tensor.numpy().tobytes().hex()}" for name, tensor in sorted(state.tensors.items())]


def compare(left: list[str], right: list[str]) -> list[str]:
    found = [] if len(left) == len(right) else [f"{len(left)} entries alone, {len(right)} when killed"]
    pairs = zip(left, right, strict=False)
    return found + [f"{a[:120]} alone, {b[:120]} when killed" for a, b in pairs if a != b]


if __name__ == "__main__":
    sys.exit(main())
