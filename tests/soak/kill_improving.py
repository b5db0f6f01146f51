"""Kill a run of `improve` at random moments, resume it each time, and compare it with one left alone.

    python tests/soak/kill_improving.py [--kills 12] [--seed 0]

Both runs have the same settings: some steps of imitation, then rounds. The killed one gets SIGKILL while it
starts, imitates, tries, learns, tests or saves, and is resumed in a process of its own each time. Afterwards
every figure in its metrics.jsonl but those of the clock must equal the other's to the last bit, and so must
the weights. Exit code 1 if anything differs.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from twofold.base import runlog
from twofold.environments import TASKS
from twofold.parameters import ModelConfig, load, save_gguf
from twofold.tokens import Tokenizer
from twofold.train import ImproveConfig, improve, resume
from twofold.train.examples import solved
from twofold.train.export import to_model
from twofold.train.transformer import Transformer

TASK = "arithmetic"
SHAPE = ModelConfig(
    architecture="qwen3", family="qwen3", context=64, vocab_size=384, layers=2, width=64, heads=2, kv_heads=2,
    head_dim=32, ffn=128, tied=True,
)  # fmt: skip


def fresh(path: Path) -> Path:
    """Return the file of a model that knows nothing."""
    texts = [f"user\n{one['messages'][0]['content']}\nassistant\n" for one in solved(TASKS.get(TASK), 500, 0)]
    net = Transformer(SHAPE)
    net.initialise(0)
    tokenizer = Tokenizer.train(texts, SHAPE.vocab_size)
    save_gguf(to_model(net, tokenizer, {"name": "fresh"}), path, "F32")
    return path


def live(model: Path, folder: Path) -> None:
    """Begin or go on with the run in `folder`."""
    if (folder / "recipe.toml").exists():
        resume(folder)
        return
    config = ImproveConfig(
        model=model, task=TASK, out=folder, rounds=40, problems=8, group=4, updates=2, kl=0.01,
        imitate=4000, imitate_batch=64, test_problems=40, eval_every=10, threads=1,
    )  # fmt: skip
    improve(config)


def records(folder: Path) -> list[dict[str, Any]]:
    """Return what must be equal of each record."""
    found = runlog.read(folder / "metrics.jsonl")
    return [{key: value for key, value in one.items() if not key.endswith("_s")} for one in found]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder, chance = Path(tempfile.mkdtemp(prefix="twofold-soak-")), random.Random(options.seed)
    try:
        model = fresh(folder / "fresh.gguf")
        began = time.monotonic()
        live(model, folder / "alone")
        whole_s, killed = time.monotonic() - began, 0
        while True:
            process = multiprocessing.get_context("spawn").Process(
                target=live, args=(model, folder / "killed")
            )
            process.start()
            # Starting takes some seconds; then anywhere in the run, mostly early, so that there are many.
            process.join(2 + chance.random() * whole_s / 3 if killed < options.kills else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            killed += 1
        ours, theirs = load(folder / "killed" / "model.gguf"), load(folder / "alone" / "model.gguf")
        same = process.exitcode == 0 and records(folder / "killed") == records(folder / "alone")
        same = same and all((ours.tensors[name] == theirs.tensors[name]).all() for name in SHAPE.shapes())
        print(f"killed {killed} times: {'the same to the last bit' if same else 'NOT the same'}")
        return 0 if same else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
