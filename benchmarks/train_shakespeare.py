"""Time to nanoGPT's loss on tinyshakespeare: twofold against nanoGPT's own recipe for a CPU.

nanoGPT: its data preparation and its training script as its README gives them for a computer without a GPU (4
layers of width 128, 2,000 steps of 12 rows of 64 characters, float32). twofold: one process from the text to
model.gguf, twice: `bytes` (each byte is a token, nanoGPT's task of characters) and `bpe` (a vocabulary
learned first, the way twofold works). Same text, same held-out last tenth, same torch, same machine; the
clock is the wall clock from the start of the first process to the end of the last, imports and files
included.

The saved models are judged after the clock has stopped, all on the whole held-out text, in windows side by
side of the length each was trained with. Loss is in nats per character, which here is a byte: the text is
ASCII. Of nanoGPT's two figures, this one and the one its log reports from a few random batches, the harder is
the target. Exits 1 when twofold does not reach it.

    python benchmarks/train_shakespeare.py --nanogpt ../nanoGPT --data tinyshakespeare.txt.zst
"""

import argparse
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
from pairs import figure, table

from twofold import run
from twofold.corpus.opening import open_bytes
from twofold.measure.bits_per_byte import bits_per_byte

HERE = Path(__file__).resolve().parent
HELD_OUT = 0.1
# Where the tests look for data too.
DATA = (
    Path(os.environ.get("TWOFOLD_DATA", HERE.parents[1] / "shared/data")) / "pretrain/tinyshakespeare.txt.zst"
)
# The command in nanoGPT's README under "I only have a macbook".
NANOGPT_RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1"
    " --block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000"
    " --lr_decay_iters=2000 --dropout=0.0"
)
CHECKOUT = ("train.py", "model.py", "configurator.py", "config", "data/shakespeare_char/prepare.py")
HEADER = [
    "what",
    "reads",
    "seconds",
    "seconds of each run",
    "loss, nats per byte",
    "bits per byte",
    "times faster",
]


@dataclass(frozen=True)
class Side:
    """How one side did: `seconds` of each run; `loss` of its last, nats per byte on all held-out text."""

    name: str
    reads: str
    seconds: tuple[float, ...]
    loss: float
    reported: float | None = None  # what its own log says

    @property
    def median_s(self) -> float:
        """Return the median of the runs' seconds."""
        return statistics.median(self.seconds)


def whole(path: Path) -> str:
    """Return all of a text file, not cut into documents; `.zst` and `.gz` are unpacked."""
    with open_bytes(path) as file:
        return file.read().decode()


def split(text: str) -> tuple[str, str]:
    """Return the text to learn from and the last tenth, cut where nanoGPT cuts."""
    cut = int(len(text) * (1 - HELD_OUT))
    return text[:cut], text[cut:]


def timed(command: Sequence[str | Path], folder: Path, threads: int) -> tuple[float, str]:
    """Return the wall seconds of a process and what it printed; raises CalledProcessError when it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return time.perf_counter() - start, done.stdout


def last_val_loss(log: str) -> float:
    """Return the last held-out loss in nanoGPT's log; raises ValueError when there is none."""
    found = re.findall(r"^step \d+: train loss [\d.]+, val loss ([\d.]+)", log, re.MULTILINE)
    if not found:
        raise ValueError("nanoGPT's log holds no held-out loss")
    return float(found[-1])


def train_nanogpt(
    checkout: Path, text: str, folder: Path, threads: int, extra: list[str]
) -> tuple[float, float]:
    """Return the seconds of nanoGPT's preparation and training in `folder`, and the loss it reported last."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in CHECKOUT:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (checkout / name).is_dir() else shutil.copy
        copy(checkout / name, target)
    (folder / "data" / "shakespeare_char" / "input.txt").write_text(text)
    prepare_s, _ = timed([sys.executable, "data/shakespeare_char/prepare.py"], folder, threads)
    command = [sys.executable, "train.py", *NANOGPT_RECIPE.split(), *extra]
    train_s, log = timed(command, folder, threads)
    return prepare_s + train_s, last_val_loss(log)


def judge_nanogpt(folder: Path) -> float:
    """Return the loss of nanoGPT's saved model on all held-out text, in nats per character."""
    done = subprocess.run(
        [sys.executable, HERE / "nanogpt_judge.py", folder], check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout.split()[-1])


def train_twofold(kind: str, folder: Path, threads: int, settings: list[str]) -> float:
    """Return the seconds of twofold's run in `folder`; train.txt and val.txt lie beside it."""
    shutil.rmtree(folder, ignore_errors=True)
    command: list[str | Path] = [
        sys.executable,
        HERE / "shakespeare_twofold.py",
        "--out",
        folder,
        "--tokens",
        kind,
    ]
    command += ["--train", "train.txt", "--val", "val.txt", "--threads", str(threads), "--set", *settings]
    seconds, _ = timed(command, folder.parent, threads)
    return seconds


def judge_twofold(folder: Path, val: str) -> float:
    """Return the loss of the model file on the held-out text, in nats per byte."""
    engine = run.load(folder / "model.gguf")
    return bits_per_byte(engine, [val], overlap=0).bits_per_byte * math.log(2)


def row(side: Side, rival: Side | None) -> list[str]:
    """Return the table's row of a side; `rival` is what it is compared with."""
    each = " ".join(f"{seconds:.1f}" for seconds in side.seconds)
    ratio = figure(rival.median_s / side.median_s) if rival else "1"
    loss = f"{side.loss:.4f}" + (f" (its log: {side.reported:.4f})" if side.reported else "")
    return [
        side.name,
        side.reads,
        f"{side.median_s:.1f}",
        each,
        loss,
        f"{side.loss / math.log(2):.3f}",
        ratio,
    ]


def compare(options: argparse.Namespace, text: str, folder: Path) -> list[Side]:
    """Return how the sides did; nanoGPT runs in the middle of twofold's runs."""
    train, val = split(text)
    (folder / "train.txt").write_text(train)
    (folder / "val.txt").write_text(val)
    quick = ["steps=4"] if options.quick else []
    seconds: dict[str, list[float]] = {kind: [] for kind in options.tokens}

    def ours(times: int) -> None:
        for _ in range(times):
            for kind in options.tokens:
                seconds[kind].append(train_twofold(kind, folder / kind, options.threads, quick + options.set))
                print(f"twofold {kind}: {seconds[kind][-1]:.1f} s", flush=True)

    ours((options.runs + 1) // 2)
    sides = []
    if options.nanogpt:
        extra = ["--max_iters=4", "--eval_interval=2", "--eval_iters=2"] if options.quick else []
        place = folder / "nanogpt"
        nano_s, reported = train_nanogpt(options.nanogpt.resolve(), text, place, options.threads, extra)
        print(f"nanoGPT: {nano_s:.1f} s", flush=True)
        sides.append(Side("nanoGPT", "characters", (nano_s,), judge_nanogpt(place), reported))
    ours(options.runs // 2)
    for kind in options.tokens:
        reads = "bytes" if kind == "bytes" else "its own vocabulary"
        sides.append(Side(f"twofold {kind}", reads, tuple(seconds[kind]), judge_twofold(folder / kind, val)))
    return sides


def report(sides: list[Side], target: float) -> int:
    """Print the table and whether the target was reached; return the exit code."""
    rival = next((side for side in sides if side.name == "nanoGPT"), None)
    print("\n" + table(HEADER, [row(side, rival if side is not rival else None) for side in sides]) + "\n")
    missed = [side for side in sides if side is not rival and side.loss > target]
    for side in missed:
        print(f"{side.name} did not reach the target: {side.loss:.4f} is above {target:.4f}.")
    if not missed:
        print(f"All of twofold's runs end below the target of {target:.4f} nats per byte.")
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="tinyshakespeare as .txt or .txt.zst (default: %(default)s)"
    )
    parser.add_argument(
        "--nanogpt",
        type=Path,
        metavar="DIR",
        default=os.environ.get("NANOGPT"),
        help="a checkout of nanoGPT (default: $NANOGPT); left out otherwise",
    )
    parser.add_argument("--tokens", nargs="+", choices=["bytes", "bpe"], default=["bytes", "bpe"])
    parser.add_argument("--runs", type=int, default=3, help="runs of twofold (default %(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="default: all cores")
    parser.add_argument(
        "--target", type=float, default=1.8857, help="loss to reach where nanoGPT is left out"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps each, to see that everything works")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change twofold's recipe")
    return parser.parse_args()


def main() -> None:
    """Train, judge, print."""
    options = parse()
    if not options.data.is_file():
        print(f"train_shakespeare: skipped: {options.data} is not there; name the text with --data.")
        return
    print(f"machine: {machine.describe()}", flush=True)
    text = whole(options.data)
    with tempfile.TemporaryDirectory(prefix="twofold-shakespeare-") as folder:
        sides = compare(options, text, Path(folder))
    targets = [
        value for side in sides for value in (side.loss, side.reported) if side.name == "nanoGPT" and value
    ]
    code = report(sides, min(targets, default=options.target))
    sys.exit(0 if options.quick else code)


if __name__ == "__main__":
    main()
