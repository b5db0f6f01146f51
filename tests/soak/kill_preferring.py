"""Kill a preference run at random moments, resume it each time, and compare it with one left alone.

    python tests/soak/kill_preferring.py [--kills 6] [--seed 0]

As kill_tuning.py, for `twofold prefer`: DPO, which first makes a judge of half of the pairs and asks the
model as it was; a reward model; and DPO by adapters with rehearsal. Every loss and score, gold reward and
distance included, must be equal to the last bit, each step once, and so must the weights. Exit code 1 if
not.
"""

import argparse
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from _killing import killed
from pairs_made import fresh, lines, write

from twofold.base import runlog
from twofold.parameters import load

FLAGS = (
    "threads=1", "batch=4", "steps=120", "eval_every=20", "checkpoint_steps=15", "gold_prompts=12",
    "gold_each=2", "best_of=4", "max_tokens=12", "patience=0", "file_type=F32",
)  # fmt: skip
KINDS = {
    "dpo": ["--length-control", "--set", "keep_back=0.5"],
    "reward": ["--reward"],
    "adapters": ["--lora", "4", "--set", "rehearse=0.3", "--set", "keep_back=0.5"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="twofold-soak-") as name:
        folder = Path(name)
        os.environ["XDG_DATA_HOME"] = str(folder / "data")
        model, data = fresh(folder / "fresh.gguf"), write(folder / "pairs.jsonl", lines(300))
        start = ["prefer", str(model), "--on", str(data)]
        start += [part for setting in FLAGS for part in ("--set", setting)]
        results = [
            compared(folder, what, [*start, *more], options.kills, chance) for what, more in KINDS.items()
        ]
    return max(results)


def compared(folder: Path, what: str, start: list[str], kills: int, chance: random.Random) -> int:
    """Return 0 when a run that is killed again and again ends as one left alone."""
    whole, struck = (folder / f"{what}-{name}" for name in ("whole", "killed"))
    done = killed(start, whole, struck, kills, chance)
    one, other = (load(place / "model.gguf").tensors for place in (whole, struck))
    same = left(whole) == left(struck) and all(np.array_equal(one[name], other[name]) for name in one)
    print(f"{what}: {done} kills, {'the same to the last bit' if same else 'DIFFERENT'}", flush=True)
    return 0 if same else 1


def left(folder: Path) -> list[Any]:
    """Return what must be equal of a run's records and of its judge's, and its curves."""
    found: list[Any] = []
    for log in sorted(folder.rglob("metrics.jsonl")):
        found += [
            {key: value for key, value in record.items() if not key.endswith("_s") and key != "utilisation"}
            for record in runlog.read(log)
        ]
    curves = folder / "overoptimisation.json"
    return [*found, json.loads(curves.read_text()) if curves.exists() else None]


if __name__ == "__main__":
    sys.exit(main())
