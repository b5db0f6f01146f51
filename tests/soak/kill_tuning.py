"""Kill a tuning run at random moments, resume it each time, and compare it with one left alone.

    python tests/soak/kill_tuning.py [--kills 12] [--seed 0]

As kill_training.py, for `twofold tune`: two kinds of conversations with weights, rehearsal, and an early
end; and once more with adapters. Every loss and score must be equal to the last bit, each step once, and
the model files must hold the same weights. Exit code 1 if anything differs.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
from _killing import killed

from twofold.base import runlog
from twofold.parameters import load
from twofold.train import PretrainConfig, pretrain
from twofold.train.dial import ShapeConfig

COMPARED = ("step", "loss_nats", "gradient_norm", "lr_scale", "bits_per_byte", "tokens", "samples")
FLAGS = (
    "threads=1", "compute=float32", "batch=4", "steps=400", "eval_every=20", "checkpoint_steps=30",
    "rehearse=0.3",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="twofold-soak-") as name:
        folder = Path(name)
        os.environ["XDG_DATA_HOME"] = str(folder / "data")
        base = made(folder, chance)
        kinds = [("all weights", []), ("adapters", ["--lora", "4"])]
        return max([compared(folder, base, what, more, options.kills, chance) for what, more in kinds])


def made(folder: Path, chance: random.Random) -> Path:
    """Return a small base model; conversations lie beside it."""
    words = ["the", "cat", "dog", "sees", "a", "small", "house", "and", "runs", "to", "old", "tree"]
    (folder / "text").mkdir()
    for number in range(40):
        (folder / "text" / f"{number}.txt").write_text(" ".join(chance.choices(words, k=60)) + ".")
    for name in ("talk", "tools"):
        with open(folder / f"{name}.jsonl", "w") as file:
            for number in range(60):
                answer = " ".join(chance.choices(words, k=5))
                turns = [
                    {"role": "user", "content": f"{name} {number}?"},
                    {"role": "assistant", "content": answer},
                ]
                file.write(json.dumps({"messages": turns}) + "\n")
    shape = ShapeConfig(depth=2, width=64, heads=2, head_dim=32, vocab=320, context=64)
    config = PretrainConfig(
        data=(str(folder / "text"),),
        out=folder / "base",
        steps=60,
        batch=8,
        threads=1,
        compute="float32",
        model=shape,
    )
    return pretrain(config).folder


def compared(folder: Path, base: Path, what: str, more: list[str], kills: int, chance: random.Random) -> int:
    """Return 0 when a run that is killed again and again ends as one left alone."""
    flags = [part for setting in FLAGS for part in ("--set", setting)]
    on = ["--on", str(folder / "talk.jsonl:3"), "--on", str(folder / "tools.jsonl:1")]
    whole, struck = (folder / f"{name}-{what.split()[0]}" for name in ("whole", "killed"))
    done = killed(["tune", str(base), *on, *flags, *more], whole, struck, kills, chance)
    same = equal(whole, struck)
    print(f"{what}: {done} kills, {'the same to the last bit' if same else 'DIFFERENT'}", flush=True)
    return 0 if same else 1


def equal(first: Path, second: Path) -> bool:
    """Return whether two runs have the same records and left the same weights."""
    logs = [
        [{key: record.get(key) for key in COMPARED} for record in runlog.read(folder / "metrics.jsonl")]
        for folder in (first, second)
    ]
    one, other = (load(folder / "model.gguf").tensors for folder in (first, second))
    return logs[0] == logs[1] and all(np.array_equal(one[name], other[name]) for name in one)


if __name__ == "__main__":
    sys.exit(main())
