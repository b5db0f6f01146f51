"""Everything that may happen to a run: nothing is lost beyond the last step, each is told in a sentence.

    python tests/soak/faults.py [--strikes 50] [--damages 10] [--seed 0] [--only strikes,full] [--steps 300]

One run is left alone. Others, with its recipe and plan, are

- killed (SIGKILL) and told to stop (SIGTERM) at random moments, also while they start or save;
- left with a newest checkpoint that is truncated or has a flipped bit (and no copies of steps beside it, as
  after a power cut), or with damaged copies of steps;
- run into a disk that another program fills, are killed there, and filled up again until their end;
- robbed of one of two processes.

Each is gone on with by what `twofold train --resume` calls. In the end every loss, score and sample and every
byte of the weights must equal those of the run left alone. Steps take some 70 ms on one core, so that each is
saved; how many are done again is counted, and what is said must have the right numbers in it. Prints a table,
and below it what was not as it should be. Exit code 1 if anything was not.

A disk to fill is made by mounting a small one in memory, which takes root; without it, that part is left out,
and said to be.
"""

import argparse
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from kill_training import compare, last_step, read, story, weights
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from forked import ended, start
from several import scenario

from twofold.base.errors import TwofoldError
from twofold.train import PretrainConfig, pretrain, resume
from twofold.train.checkpoint import FACTS, SUMS, TENSORS, place, steps
from twofold.train.dial import ShapeConfig
from twofold.train.ring import NAMES

STEPS = 300
EVERY = 10  # steps between checkpoints
STEP_S = 0.1
LIMIT_S = 300.0  # for one process; a run takes a tenth of that
PARTS = ("strikes", "damages", "ring", "full", "lost")
INTERRUPTED = 130  # what the command line ends with


@dataclasses.dataclass
class Fault:
    """A kind of fault: how often it came, what it cost, what was said, and what was not as it should be.

    `most` steps may be done again after it; None: those since what was left whole.
    """

    what: str
    most: int | None
    times: int = 0
    again: list[int] = dataclasses.field(default_factory=list)
    sentences: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)

    def heard(self, text: str, pattern: str, *, shown: bool = True) -> re.Match[str] | None:
        """Return where a sentence stands in what was said; it is wrong not to be there."""
        found = re.search(pattern, text)
        if found is None:
            self.wrong.append(f"did not say {pattern!r}, but: {text[-300:]!r}")
        elif shown and found.group() not in self.sentences:
            self.sentences.append(found.group())
        return found

    def went_on(self, text: str, reached: int, expected: int | None = None) -> None:
        """Note how many of `reached` steps were done again, by what was said; `expected`: from which on."""
        if reached == 0 and "Going on" not in text:
            self.again.append(0)  # it had not begun
            return
        found = self.heard(text, r"Going on from step ([\d,]+)(; the (?:([\d,]+) steps|step) after [^.]*)?\.")
        if found is None:
            return
        step = number(found[1])
        told = 0 if not found[2] else number(found[3]) if found[3] else 1
        self.again.append(reached - step)
        if told != reached - step:
            self.wrong.append(f"{reached} steps were done, and it said: {found.group()!r}")
        if self.most is not None and reached - step > self.most:
            self.wrong.append(f"{reached} steps were done, and it went on from {step}")
        if expected is not None and step != expected:
            self.wrong.append(f"step {expected} was there whole, and it went on from {step}")

    def same(self, alone: Path, run: Path) -> None:
        """Note where a run that is done differs from the one left alone."""
        differences = compare(read(alone), read(run)) + compare(weights(alone), weights(run))
        self.wrong += [f"different: {difference}" for difference in differences[:3]]

    def expect(self, what: str, found: object, expected: object) -> None:
        """Note something that is not as it should be."""
        if found != expected:
            self.wrong.append(f"{what} is {found}, not {expected}")


def main() -> int:
    global STEPS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strikes", type=int, default=50)
    parser.add_argument("--damages", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to do, with commas between")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run; fewer for a quick look")
    options = parser.parse_args()
    STEPS = options.steps
    os.environ.setdefault("TWOFOLD_TIMEOUT_S", "30")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="twofold-faults-"))
    faults: list[Fault] = []
    try:
        (folder / "text.txt").write_text(story(random.Random(options.seed)))
        alone = folder / "alone"
        if ended(start(lambda: pretrain(settings(folder, alone))), LIMIT_S) != 0:
            return 1
        print(f"left alone: done after {time.monotonic() - began:.0f} s", flush=True)
        work: dict[str, Callable[[random.Random], Iterable[Fault]]] = {
            "strikes": lambda chance: strikes(alone, folder / "struck", options.strikes, chance),
            "damages": lambda chance: [damages(alone, folder / "damaged", options.damages, chance)],
            "ring": lambda chance: [copies(alone, folder / "copies", options.damages, chance)],
            "full": lambda chance: full_disk(alone, folder / "full"),
            "lost": lambda chance: lost_processes(alone, folder),
        }
        for part in options.only.split(","):
            found = list(work[part](random.Random(f"{part} {options.seed}")))
            faults += found
            wrong = sum(len(fault.wrong) for fault in found)
            print(f"{part}: done after {time.monotonic() - began:.0f} s, {wrong} things wrong", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(faults)
    return 1 if any(fault.wrong for fault in faults) else 0


def show(faults: list[Fault]) -> None:
    """Print the table and what was wrong."""
    table = Table("what happened", "times", "steps done again", "the end", "what was said", show_lines=True)
    for fault in faults:
        again = sorted(fault.again)
        allowed = "" if fault.most is None else f" (allowed {fault.most})"
        count = f"{again[len(again) // 2]}, at most {again[-1]}{allowed}" if again else "-"
        same = "FAILED" if fault.wrong else "the same to the last bit" if fault.times else "not tried"
        table.add_row(fault.what, str(fault.times), count, same, "\n".join(example(fault.sentences)))
    Console(width=None if sys.stdout.isatty() else 160).print(table, markup=False)
    for fault in faults:
        for sentence in fault.wrong[:10]:
            print(f"WRONG: {fault.what}: {sentence}")


def example(sentences: list[str]) -> list[str]:
    """Return one sentence of each kind: those that differ in more than numbers; the longest of a kind."""
    kinds: dict[str, str] = {}
    for sentence in sentences:
        kind = " ".join(re.sub(r"\([^)]*\)|[\d,]+", "#", sentence.split("; the ")[0].rstrip(".")).split()[:4])
        kinds[kind] = max(kinds.get(kind, ""), sentence, key=len)
    return list(kinds.values())


def settings(folder: Path, out: Path) -> PretrainConfig:
    shape = ShapeConfig(depth=2, width=64, head_dim=32, vocab=320, context=128)
    return PretrainConfig(
        data=(str(folder / "text.txt"),), out=out, model=shape, steps=STEPS, batch=48, threads=1,
        compute="float32", eval_every=60, sample_every=150, checkpoint_steps=EVERY,
    )  # fmt: skip


def twin(alone: Path, run: Path, layout: str = "auto") -> Path:
    """Return a new run with the recipe and plan of another: how fast the machine is must not enter."""
    run.mkdir(exist_ok=True)
    recipe = (alone / "recipe.toml").read_text()
    assert recipe.count('layout = "auto"') == 1
    (run / "recipe.toml").write_text(recipe.replace('layout = "auto"', f'layout = "{layout}"'))
    return run


def going(run: Path) -> Callable[[], int]:
    """Return what resumes a run, writes what it says beside it, and returns the command line's exit code."""

    def work() -> int:
        with open(run.with_suffix(".said"), "w", buffering=1) as file:
            try:
                resume(run, console=Console(file=file, width=400))
            except (KeyboardInterrupt, TwofoldError) as error:
                print(error, file=file)
                return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
        return 0

    run.with_suffix(".said").write_text("")
    return work


def said(run: Path) -> str:
    """Return what the last process of a run said, in one line."""
    return " ".join(run.with_suffix(".said").read_text().replace(str(run), "RUN").split())


def number(text: str) -> int:
    return int(text.replace(",", ""))


def wait(child: int, until: Callable[[], bool]) -> None:
    """Wait until something is so or a process has ended (which is left to be waited for)."""
    last = time.monotonic() + LIMIT_S
    while not until() and time.monotonic() < last:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            break
        time.sleep(0.01)


def killed_at(run: Path, goal: int, chance: random.Random) -> int:
    """Go on with a run, kill it soon after step `goal`, and return the last step of its log."""
    child = start(going(run))
    wait(child, lambda: last_step(run) >= goal)
    time.sleep(chance.uniform(0, STEP_S))
    os.kill(child, signal.SIGKILL)
    ended(child)
    return last_step(run)


def strikes(alone: Path, run: Path, count: int, chance: random.Random) -> list[Fault]:
    """Kill a run and tell it to stop, at random moments, in random order."""
    twin(alone, run)
    killed, stopped = Fault("kill -9", 1), Fault("SIGTERM", 0)
    before: Fault | None = None  # what has to be gone on from
    reached, silent = 0, 0
    for strike in range(count):
        child = start(going(run))
        early = chance.random() < 0.1  # while it starts
        apart = (STEPS - reached) // (count - strike + 1)
        goal = min(reached + (0 if early else chance.randint(1, max(1, 2 * apart - 1))), STEPS - 5)
        wait(child, lambda goal=goal: last_step(run) >= goal)
        time.sleep(chance.uniform(0, 3 * STEP_S if early else STEP_S))
        signal_now = chance.choice([signal.SIGKILL, signal.SIGTERM])
        os.kill(child, signal_now)
        code, text = ended(child), said(run)
        if before is not None and ("Going on" in text or last_step(run) > reached):
            before.went_on(text, reached)
            before = None
        now = killed if signal_now == signal.SIGKILL else stopped
        now.times += 1
        if now is killed or code == -signal.SIGTERM:
            now.expect("the exit code", code, -signal_now)
            silent += now is stopped
        else:
            now.expect("the exit code", code, INTERRUPTED)
            now.heard(text, r"Stopped; what was done is saved. Go on with: twofold train --resume RUN")
        before = killed if killed in (now, before) else stopped  # a stop does not mend what a kill cost
        reached = last_step(run)
    killed.expect("the exit code at last", ended(start(going(run)), LIMIT_S), 0)
    if before is not None:
        before.went_on(said(run), reached)
    killed.same(alone, run)
    if silent:
        stopped.what += f" ({silent} of them before anything could be said)"
    return [killed, stopped]


def damages(alone: Path, run: Path, count: int, chance: random.Random) -> Fault:
    """Damage the newest checkpoint of a run that was killed, when there are no copies of steps."""
    twin(alone, run)
    fault = Fault("newest checkpoint truncated or a bit flipped, no copies of steps", None)
    checkpoints = run / "checkpoints"
    reached, expected = 0, 0
    for strike in range(1, count + 2):
        if strike <= count:
            reached_now = killed_at(run, max(strike * STEPS // (count + 2), 2 * EVERY + 5), chance)
        else:
            fault.expect("the exit code at last", ended(start(going(run)), LIMIT_S), 0)
        if strike > 1:
            fault.heard(
                said(run),
                r"The checkpoint \S+ is damaged \(.*?\)\. Going on from the one before it, of step "
                rf"{expected:,}\.",
            )
            fault.went_on(said(run), reached, expected)
        if strike <= count:
            reached, fault.times = reached_now, strike
            for name in NAMES:
                (checkpoints / name).unlink(missing_ok=True)
            *_, expected, newest = steps(checkpoints)
            file = chance.choice([TENSORS, TENSORS, TENSORS, FACTS, SUMS])
            damage(place(checkpoints, newest) / file, chance)
    fault.same(alone, run)
    return fault


def copies(alone: Path, run: Path, count: int, chance: random.Random) -> Fault:
    """Damage the copies of the last steps of a run that was killed: the newest one, or all."""
    twin(alone, run)
    fault = Fault("copies of steps truncated or a bit flipped: the newest, every third time all", None)
    checkpoints = run / "checkpoints"
    reached, expected = 0, 0
    for strike in range(1, count + 2):
        if strike <= count:
            reached_now = killed_at(run, max(strike * STEPS // (count + 2), 2 * EVERY + 5), chance)
        else:
            fault.expect("the exit code at last", ended(start(going(run)), LIMIT_S), 0)
        if strike > 1:
            fault.heard(said(run), r"The copy of a step in \S+ is damaged \(.*?\): it is not used\.")
            fault.went_on(said(run), reached, expected)
        if strike <= count:
            reached, fault.times = reached_now, strike
            found = {checkpoints / name: step_in(checkpoints / name) for name in NAMES}
            whole = {path: step for path, step in found.items() if step is not None}
            newest = max(whole, key=lambda path: whole[path])
            damaged = list(whole) if strike % 3 == 0 else [newest]
            for path in damaged:
                damage(path, chance)
            left = [step for path, step in whole.items() if path not in damaged]
            expected = max([*left, steps(checkpoints)[-1]])
    fault.same(alone, run)
    return fault


def step_in(path: Path) -> int | None:
    """Return which step a copy is of, None if it was being written."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length == 0:
            return None
        head = json.loads(file.read(length))
    return int(json.loads(head["__metadata__"]["facts"])["facts"]["step"])


def damage(path: Path, chance: random.Random) -> None:
    """Truncate a file somewhere, or flip one of its bits (of those that mean something: no spaces)."""
    size = path.stat().st_size
    if chance.random() < 0.5:
        os.truncate(path, chance.randrange(8, size - 1))
        return
    with open(path, "r+b") as file:
        byte = b" "
        while byte == b" ":
            at = file.seek(chance.randrange(size - 1))
            byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ (1 << chance.randrange(8))]))


def full_disk(alone: Path, run: Path) -> list[Fault]:
    """Let another program fill the disk of a run, which is killed there; do it again until its end."""
    during, to_end = Fault("disk full, kill -9 while it is", 1), Fault("disk full until the end", 1)
    run.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(run)]
    if subprocess.run(small, capture_output=True).returncode != 0:
        during.what += " (left out: no disk could be made)"
        return [during]
    try:
        twin(alone, run)
        child = start(going(run))
        fill(child, run, STEPS // 4)
        wait(child, lambda: last_step(run) >= STEPS // 2)
        os.kill(child, signal.SIGKILL)
        during.expect("the exit code", ended(child), -signal.SIGKILL)
        during.times, reached = 1, last_step(run)
        during.heard(said(run), r"The disk is full at step [\d,]+; [^.]*\.")
        during.heard(said(run), r"The checkpoint of step [\d,]+ could not be saved \(No space .*?safe\.")
        (run / "ballast").unlink()
        child = start(going(run))
        fill(child, run, 3 * STEPS // 4)
        to_end.expect("the exit code", ended(child, LIMIT_S), 1)
        during.went_on(said(run), reached)
        to_end.times = 1
        to_end.heard(said(run), rf"All {STEPS:,} steps are done, but the end could not .*?--resume RUN\.")
        to_end.expect("the last step in the log", last_step(run), STEPS)
        (run / "ballast").unlink()
        to_end.expect("the exit code at last", ended(start(going(run)), LIMIT_S), 0)
        to_end.went_on(said(run), STEPS)
        to_end.same(alone, run)
        return [during, to_end]
    finally:
        subprocess.run(["umount", "-l", str(run)], capture_output=True)


def fill(child: int, run: Path, goal: int) -> None:
    """Fill the disk of a run when it has come to a step."""
    wait(child, lambda: last_step(run) >= goal)
    with open(run / "ballast", "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 12))
            except OSError:
                return


def lost_processes(alone: Path, folder: Path) -> list[Fault]:
    """Kill one of two processes in the middle of a step, and go on with two by the same command.

    The losses must be those of two processes that were left alone, to the last bit. Those of one process
    differ, as sums are made in another order, and what is rounding at first grows over hundreds of steps.
    """
    faults = []
    for layout, victims in (("copies", (0, 1, 0)), ("shards", (1, 0, 1))):
        pair = twin(alone, folder / f"pair-{layout}", layout)
        run = twin(alone, folder / f"lost-{layout}", layout)
        fault = Fault(f"one of two processes killed, {layout}", 1)
        two = {"processes": 2, "resume": True, "limit_s": LIMIT_S}
        fault.expect("the exit codes alone", scenario({**two, "out": str(pair)})["codes"], [0, 0])
        reached = 0
        for victim in (*victims, None):
            kill = {} if victim is None else {"kill": [victim, STEPS // 5]}
            result = scenario({**two, **kill, "out": str(run)})
            words = [" ".join(text.replace(str(run), "RUN").split()) for text in result["said"]]
            if fault.times:
                fault.went_on(words[0], reached)
            if victim is None:
                fault.expect("the exit codes at last", result["codes"], [0, 0])
                break
            fault.times += 1
            codes = [1, 1]
            codes[victim] = -signal.SIGKILL
            fault.expect("the exit codes", result["codes"], codes)
            fault.heard(words[1 - victim], r"Process \d of 2: another one was lost, .*?--resume RUN\.")
            reached = last_step(run)
        fault.same(pair, run)
        faults.append(fault)
    return faults


if __name__ == "__main__":
    sys.exit(main())
