"""Everything that may happen to a run, 50 times and more, and what it says each time.

    python tests/soak/faults.py [--strikes 50] [--damages 10] [--seed 0]

One run is left alone. Others, with its recipe and plan, are killed (SIGKILL) and told to stop (SIGTERM) at
random moments, find their newest checkpoint truncated or with a flipped bit (and no copy of the last step
beside it, as after a power cut), run into a full disk, and lose one of two processes. Each is then resumed by
what `twofold train --resume` calls. In the end every loss, score and sample and every byte of the weights
must equal those of the run left alone. Prints a table: what happened, how often, how many steps were done
again, and what the run said. Exit code 1 if anything differs or was not said.
"""

import argparse
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kill_training import compare, ended, last_step, read, start, story, wait, weights
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from several import scenario

from twofold.base import runlog
from twofold.base.errors import TwofoldError
from twofold.train import PretrainConfig, pretrain, resume
from twofold.train.checkpoint import TENSORS, place, steps
from twofold.train.dial import ShapeConfig
from twofold.train.ring import NAMES

STEPS = 900
LIMIT_S = 900.0
Row = tuple[str, int, list[int], str, bool]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strikes", type=int, default=50)
    parser.add_argument("--damages", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="twofold-faults-"))
    try:
        (folder / "text.txt").write_text(story(chance))
        alone = folder / "alone"
        if ended(start(lambda: pretrain(settings(folder, alone)))) != 0:
            return 1
        rows = strikes(alone, folder / "struck", options.strikes, chance)
        rows += [damages(alone, folder / "damaged", options.damages, chance)]
        rows += [full_disk(alone, folder / "full")]
        rows += [lost_process(alone, folder / "lost", chance)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for what, times, again, words, fine in rows:
        done = f"{sorted(again)[len(again) // 2]} (at most {max(again)})" if again else "-"
        print(f"\n{what}: {times} times; steps done again: {done}; {'the same end' if fine else 'FAILED'}")
        print(f'    "{words}"')
    return 0 if all(row[4] for row in rows) else 1


def settings(folder: Path, out: Path) -> PretrainConfig:
    shape = ShapeConfig(depth=2, width=64, head_dim=32, vocab=320, context=64)
    return PretrainConfig(
        data=(str(folder / "text.txt"),), out=out, model=shape, steps=STEPS, batch=4, threads=1,
        compute="float32", eval_every=60, sample_every=240, checkpoint_steps=20,
    )  # fmt: skip


def twin(alone: Path, folder: Path) -> Path:
    """Return a new run with the recipe and plan of another: how fast the machine is must not enter."""
    folder.mkdir()
    shutil.copy(alone / "recipe.toml", folder / "recipe.toml")
    return folder


def going(run: Path) -> Callable[[], object]:
    """Return what resumes a run and writes what it says into a file beside it."""

    def work() -> None:
        with open(run.with_suffix(".said"), "w") as file:
            try:
                resume(run, console=Console(file=file, width=400))
            except (KeyboardInterrupt, TwofoldError) as error:  # what the command line makes of them
                print(error, file=file, flush=True)
                os._exit(1)

    return work


def said(run: Path, pattern: str) -> str:
    """Return the first sentence that the last process of a run said and that looks like this, or nothing."""
    text = " ".join(run.with_suffix(".said").read_text().replace(str(run), "RUN").split())
    found = re.search(pattern, text)
    return found.group() if found else ""


def went_on_from(run: Path) -> int:
    found = re.search(r"[\d,]+", said(run, r"Going on from step [\d,]+") or "0")
    return int(found.group().replace(",", "")) if found else 0


def same(alone: Path, run: Path) -> bool:
    differences = compare(read(alone), read(run)) + compare(weights(alone), weights(run))
    for difference in differences[:3]:
        print(f"DIFFERENT: {difference}")
    return not differences


def strikes(alone: Path, run: Path, count: int, chance: random.Random) -> list[Row]:
    """Kill a run and tell it to stop, at random moments, in random order."""
    twin(alone, run)
    began = time.monotonic()
    again: dict[int, list[int]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    times = dict.fromkeys(again, 0)
    sentences: dict[int, str] = {}
    quiet = 0  # processes that were told to stop and did not say how to go on
    number, reached = None, 0
    for strike in range(count + 1):
        child = start(going(run))
        if strike == count:
            fine = ended(child) == 0
        else:
            goal = reached + chance.randrange(1, 2 * STEPS // (count + 1))
            if chance.random() < 0.9:  # else: while it starts
                wait(lambda goal=goal: last_step(run) >= min(goal, STEPS - 2), began)
            time.sleep(chance.uniform(0, 0.05))
        if strike < count:
            number_now = chance.choice([signal.SIGKILL, signal.SIGTERM])
            os.kill(child, number_now)
            ended(child)
        if number is not None and "Going on" in run.with_suffix(".said").read_text():
            again[number].append(max(0, reached - went_on_from(run)))
        if strike < count:
            number, reached = number_now, max(reached, last_step(run))
            times[number] += 1
            if number == signal.SIGTERM:
                sentence = said(run, r"Stopped; .*--resume RUN")
                sentences[number] = sentence or sentences.get(number, "")
                quiet += not sentence
    fine = fine and same(alone, run)
    if quiet:
        print(f"{quiet} were told to stop before they had begun, and said nothing")
    sentences[signal.SIGKILL] = said(run, r"Going on from step [\d,]+\.")
    return [
        (name, times[number], again[number], sentences.get(number, ""), fine and number in sentences)
        for name, number in (("kill -9", signal.SIGKILL), ("SIGTERM", signal.SIGTERM))
    ]


def damages(alone: Path, run: Path, count: int, chance: random.Random) -> Row:
    """Damage the newest checkpoint of a run that was killed."""
    twin(alone, run)
    began = time.monotonic()
    again: list[int] = []
    sentence, unsaid, reached = "", 0, 0
    checkpoints = run / "checkpoints"
    for number in range(1, count + 1):
        child = start(going(run))
        goal = number * STEPS // (count + 2)
        wait(lambda goal=goal: last_step(run) >= goal and len(steps(checkpoints)) > 1, began)
        os.kill(child, signal.SIGKILL)
        ended(child)
        if number > 1:
            sentence = said(run, r"The checkpoint \S+ is damaged .*?\. Going on from the one before.*?\.")
            unsaid += not sentence
            again.append(reached - went_on_from(run))
        reached = last_step(run)
        for name in NAMES:
            (checkpoints / name).unlink(missing_ok=True)
        damage(place(checkpoints, steps(checkpoints)[-1]) / TENSORS, chance)
    fine = ended(start(going(run))) == 0 and not unsaid and same(alone, run)
    return "newest checkpoint damaged, ring gone", count, again, sentence, fine


def damage(path: Path, chance: random.Random) -> None:
    """Truncate a file somewhere, or flip one of its bits."""
    size = path.stat().st_size
    if chance.random() < 0.5:
        os.truncate(path, chance.randrange(size))
        return
    with open(path, "r+b") as file:
        at = file.seek(chance.randrange(size))
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ (1 << chance.randrange(8))]))


def full_disk(alone: Path, run: Path) -> Row:
    """Let a run go on a disk of its own that fills up, and give it room again later.

    The disk is a small file system in memory where this process may make one; else a limit on file sizes.
    """
    run.mkdir()
    small = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(run)], capture_output=True
    ).returncode
    try:
        shutil.copy(alone / "recipe.toml", run / "recipe.toml")

        def limited() -> None:
            if small != 0:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
            going(run)()

        child = start(limited)
        began = time.monotonic()
        if small == 0:
            wait(lambda: last_step(run) >= STEPS // 4, began)
            with open(run / "ballast", "wb", buffering=0) as file:  # another program fills the disk
                while True:
                    try:
                        file.write(bytes(1 << 12))
                    except OSError:
                        break
        stopped = ended(child)
        sentence = said(run, r"The (checkpoint|copy|record) of step .*? could not be saved .*?\.")
        last = said(run, r"All .*? steps are done, but .*?RUN\.")
        (run / "ballast").unlink(missing_ok=True)
        reached = last_step(run)
        code = ended(start(going(run)))
        fine = stopped != 0 and bool(sentence) and code == 0 and same(alone, run)
        again = [max(0, reached - went_on_from(run))]
        kind = "12 MB, filled by another program" if small == 0 else "a limit on the size of files"
        return f"disk full ({kind})", 1, again, f"{sentence} {last}", fine
    finally:
        if small == 0:
            subprocess.run(["umount", str(run)], capture_output=True)


def lost_process(alone: Path, run: Path, chance: random.Random) -> Row:
    """Kill one of two processes in the middle of a step, three times, and go on with two.

    The losses must be those of two processes that were left alone, to the last bit. Those of one process
    differ, as sums are made in another order, and what is rounding at first grows over hundreds of steps.
    """
    pair = twin(alone, run.with_name("pair"))
    twin(alone, run)
    two = {"processes": 2, "resume": True}
    fine = scenario({**two, "out": str(pair)})["codes"] == [0, 0]
    again: list[int] = []
    sentence, reached = "", 0
    for strike in range(4):
        victim = chance.randrange(2)
        result = scenario({**two, "out": str(run), **({"kill": [victim, STEPS // 6]} if strike < 3 else {})})
        if strike > 0:
            from_step = re.search(r"Going on from step ([\d,]+)", result["said"][0])
            again.append(reached - int(from_step.group(1).replace(",", "")) if from_step else reached)
        reached = last_step(run)
        if strike < 3:
            found = re.search(r"Process \d of 2: .*", result["said"][1 - victim].replace(str(run), "RUN"))
            fine = fine and result["codes"][1 - victim] == 1 and found is not None
            sentence = found.group() if found else sentence
    early = [
        [r["loss_nats"] for r in runlog.read(one / "metrics.jsonl") if "loss_nats" in r]
        for one in (alone, run)
    ]
    for last in (30, STEPS):
        worst = max(abs(a - b) for a, b in zip(*(one[:last] for one in early), strict=True))
        print(f"losses of two processes differ from those of one by at most {worst:.1g} nats in {last} steps")
    fine = fine and result["codes"] == [0, 0] and same(pair, run)
    return "one of two processes lost", 3, again, sentence, fine


if __name__ == "__main__":
    sys.exit(main())
