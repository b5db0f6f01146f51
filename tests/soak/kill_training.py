"""Kill a training run at 20 random moments, resume it each time, and compare it with one left alone.

    python tests/soak/kill_training.py [--kills 20] [--seed 0]

Both runs have the same settings. The killed one gets SIGKILL at random moments (while starting, in a step,
while saving) and is resumed by the same function that `twofold train --resume` calls. Afterwards every loss
and score in its metrics.jsonl must equal the other's to the last bit, each step once, and so must the
weights. Exit code 1 if anything differs.
"""

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from twofold.base import runlog
from twofold.train import PretrainConfig, pretrain
from twofold.train.dial import ShapeConfig

STEPS = 200
COMPARED = ("loss_nats", "gradient_norm", "lr_scale", "bits_per_byte", "val_loss_nats", "tokens")
RESUME = "import sys; from twofold.train import resume; resume(sys.argv[1])"
LIMIT_S = 280.0


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
        eval_every=20, sample_every=100, checkpoint_steps=7,
    )  # fmt: skip
    pretrain(config)
    # The other run starts from the same recipe and plan: how fast the machine is must not enter.
    killed.mkdir()
    shutil.copy(alone / "recipe.toml", killed / "recipe.toml")
    reference = read(alone)

    done, places = 0, []
    while done < kills and time.monotonic() - began < LIMIT_S:
        process = subprocess.Popen([sys.executable, "-c", RESUME, str(killed)])
        before = last_step(killed)
        # Wait until it learns (or, one time in five, do not), then strike at a random moment.
        if chance.random() < 0.8:
            while (
                process.poll() is None and last_step(killed) <= before and time.monotonic() - began < LIMIT_S
            ):
                time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.25))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
        places.append(last_step(killed))
    process = subprocess.run([sys.executable, "-c", RESUME, str(killed)], check=False)
    differences = compare(reference, read(killed)) if process.returncode == 0 else ["the last resume failed"]
    if sha256(alone / "model.gguf") != sha256(killed / "model.gguf"):
        differences.append("the weights differ")
    print(f"killed {done} times, at steps {places}, of {STEPS}; {time.monotonic() - began:.0f} s")
    for difference in differences[:10]:
        print(f"DIFFERENT: {difference}")
    print("losses equal to the last bit" if not differences else f"{len(differences)} differences")
    if done < kills:
        print(f"only {done} of {kills} kills: the run ended first")
    return 0 if not differences and done == kills else 1


def story(chance: random.Random) -> str:
    """Return a few hundred short documents' worth of text, the same for the same seed."""
    words = ["the", "cat", "dog", "sees", "a", "small", "house", "and", "runs", "to", "old", "tree", "sings"]
    return "\n\n".join(" ".join(chance.choices(words, k=60)) + "." for _ in range(400))


def last_step(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return max((record.get("step", 0) for record in runlog.read(path)), default=0) if path.exists() else 0


def read(folder: Path) -> list[tuple[object, ...]]:
    """Return what must be equal of each record, in order."""
    records = runlog.read(folder / "metrics.jsonl")
    return [
        (record["step"], *(record.get(key) for key in COMPARED), str(record.get("samples")))
        for record in records
    ]


def compare(left: list[tuple[object, ...]], right: list[tuple[object, ...]]) -> list[str]:
    found = [] if len(left) == len(right) else [f"{len(left)} records alone, {len(right)} when killed"]
    return found + [f"{a} alone, {b} when killed" for a, b in zip(left, right, strict=False) if a != b]


def sha256(path: Path) -> str:
    """Return a hash of the weights: the end of the file, since the card before them tells times."""
    content = path.read_bytes()
    return hashlib.sha256(content[-100_000:]).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
