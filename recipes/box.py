"""The model in the box: its whole life, from a folder of data to the file that ships inside the package.

    python recipes/box.py --data ../shared/data --out src/twofold/box --flops 1.8e15

prepares the data (box_data.py) and a tokenizer, pretrains on a stream of text (box_stream.py), tunes the
model on conversations that programs write (box_talk.py and its neighbours), lets it prefer right answers to
its own mistakes and learn from rewards (box_better.py), measures it (box_check.py), lets it speak, and writes
`model.gguf` (Q8_0) and `card.md` (box_card.py). All that comes before lies in --work: what is finished there
is used again and what was interrupted goes on, so the same command after a crash or Ctrl-C carries on. To
begin anew, remove the folder. `--until base` stops after that stage.

The budget is counted in floating-point operations, of which each stage has a share, and not by the clock:
what else runs on the machine changes how long it takes, and nothing else. `--time` is turned into operations
once, by a measurement.

The result is very small and makes things up. It is there so that the first command after installing is a
conversation, offline, with a model whose whole making can be read and repeated.
"""

import argparse
import dataclasses
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import box_better
import box_card
import box_data
import box_dialogues
import box_stream
from rich.console import Console

from twofold.base.errors import TwofoldError, UsageError
from twofold.corpus import Conversation, conversations, prepare
from twofold.parameters import ModelConfig, load, save_gguf
from twofold.train import (
    FinetuneConfig,
    PretrainConfig,
    dial,
    finetune,
    machine,
    pretrain,
    resume,
)
from twofold.train.dial import ShapeConfig
from twofold.train.guard import GuardConfig
from twofold.train.parent import open_parent
from twofold.train.schedule import ScheduleConfig
from twofold.train.step import flops_per_token

STAGES = ("data", "base", "tuned", "preferred", "improved", "card")
SHARES = {"base": 0.42, "tuned": 0.55}  # of the operations; the rest is for what comes after
TUNED_TOKENS = 8192  # of a step of tuning, at most
REACHED = 0.6  # of the peak: what a step of such a model reaches on a CPU (docs/train.md)
MOST_BYTES = 30_000_000
READ_TALK = 12_000  # own conversations that may be read in pretraining


@dataclasses.dataclass(frozen=True, kw_only=True)
class Life:
    """What one life is told; see the options of the command.

    `flops`: for all stages together. `window`: of the model that ships, in tokens; that of `shape` is the
    rows' in pretraining, which costs less. `start`: the finished base of an earlier life, to go on from.
    """

    data: Path
    out: Path
    work: Path
    shape: ShapeConfig
    flops: float
    window: int = 2560
    steps: int | None = None
    tiers: tuple[int, ...] = box_data.TIERS
    shards: int = 5
    talks: int = 16_000
    research: int = box_data.STEPS
    rows: int | None = None
    prefer: bool = True
    rounds: int = 30
    device: Any = "auto"
    threads: int | None = None
    eager: bool = False
    remix: bool = False
    start: Path | None = None
    until: str = STAGES[-1]

    @property
    def compiled(self) -> bool:
        """Whether blocks go through torch's compiler."""
        return not self.eager and (self.device == "cuda" or machine.compiler())

    @property
    def model(self) -> ModelConfig:
        """The shape of the model."""
        assert self.shape.depth is not None and self.shape.vocab is not None
        return dial.shape(self.shape, self.shape.depth, self.shape.vocab)

    def batch(self) -> tuple[int, int]:
        """Return the steps of pretraining and the rows of each."""
        context = self.model.context
        tokens = SHARES["base"] * self.flops / flops_per_token(self.model)
        rows = self.rows or dial.batch_for(tokens, context)
        return self.steps or max(10, round(tokens / (rows * context))), rows

    def tuning(self) -> tuple[int, int]:
        """Return the steps of tuning and the rows of each, of the window that ships."""
        steps, rows = self.batch()
        spent = steps * rows * self.model.context * flops_per_token(self.model)
        few = max(1, min(rows * self.model.context, TUNED_TOKENS) // self.window)
        step = few * self.window * flops_per_token(dataclasses.replace(self.model, context=self.window))
        return max(10, round(SHARES["tuned"] / SHARES["base"] * spent / step)), few


def live(life: Life, console: Console) -> Path | None:
    """Return the finished model file, None when the life was to stop before. Raises TwofoldError."""
    began = time.monotonic()
    stages: dict[str, Callable[[Life, Path, Console], Path]] = {
        "data": get_ready, "base": read_books, "tuned": take_turns, "preferred": get_preferred,
        "improved": get_improved, "card": finish,
    }  # fmt: skip
    at = life.work
    for name in STAGES:
        at = stages[name](life, at, console)
        say(console, f"Stage {name!r} is done after {(time.monotonic() - began) / 60:.1f} minutes.")
        if name == life.until:
            return at if name == STAGES[-1] else None
    return at


def get_ready(life: Life, before: Path, console: Console) -> Path:
    """Return the folder of the stream of text, after making the data, the tokenizer and the stream."""
    if (life.work / "base/recipe.toml").exists() and not life.remix:
        return life.work / "stream"  # the base is begun: what it reads is decided
    made = built(life)
    lives = len([*box_card.earlier(life.start)])
    rng = random.Random(1 + lives)
    talk = rng.sample(own := [*conversations(made.talk)], min(len(own), READ_TALK))
    talk += box_dialogues.dialogues(life.data, rng)
    rng.shuffle(talk)
    if life.start is not None:
        shutil.copyfile(life.start / "tokenizer.json", life.work / "tokenizer.json")
    tokenizer = box_stream.learn_tokenizer(
        life.work / "tokenizer.json", made.text / "train.jsonl.zst", sample_of(talk), life.model.vocab_size
    )
    prose = prepare(made.text, life.work / "prose", tokenizer=tokenizer)
    steps, rows = life.batch()
    tokens = steps * rows * life.model.context
    stream = box_stream.make(
        life.work / "stream", prose, box_dialogues.glosses(life.data), talk, tokens,
        context=life.model.context, skip=read_before(life.start), anew=life.remix,
        seed=lives,
    )  # fmt: skip
    first = stream.border // (rows * life.model.context)
    say(
        console,
        f"{prose.train.size:,} tokens of prose; a stream of {tokens:,} tokens, read in {steps:,} steps of "
        f"{rows * life.model.context:,}, of which the mixture begins after step {first:,}.",
    )
    return stream.corpus.folder


def read_before(start: Path | None) -> int:
    """Return how many tokens a finished base has read, together with those that it started from."""
    return sum(int(recipe.plan["tokens"]) for recipe in box_card.earlier(start))


def built(life: Life) -> box_data.BoxData:
    """Return the data, made now or found."""
    return box_data.build(
        life.data, life.work / "data", tiers=life.tiers, shards=life.shards, talks=life.talks
    )


def sample_of(talk: list[Conversation]) -> list[Conversation]:
    """Return conversations for the tokenizer to learn from: those with tools first, one to two others."""
    tools = [one for one in talk if one.tools]
    others = [one for one in talk if not one.tools]
    mixed: list[Conversation] = []
    for at, one in enumerate(tools):
        mixed += [one, *others[2 * at : 2 * at + 2]]
    return mixed or others


def read_books(life: Life, stream: Path, console: Console) -> Path:
    """Return the run folder of the base model: found finished, gone on with, or trained now."""
    folder = life.work / "base"
    if (folder / "model.gguf").exists():
        return folder
    if (folder / "recipe.toml").exists():
        return resume(folder, console=console).folder
    steps, rows = life.batch()
    config = PretrainConfig(
        corpus=stream, out=folder, name="twofold-box-base", license="MIT", steps=steps, batch=rows,
        shuffle=False, schedule=ScheduleConfig(decay=box_stream.MIXED), device=life.device,
        guard=GuardConfig(window=0),  # where the mixture begins the loss leaps, and that is no accident
        threads=life.threads, compiled=life.compiled, start=life.start,
        model=life.shape,
    )  # fmt: skip
    return pretrain(config, console=console).folder


def take_turns(life: Life, base: Path, console: Console) -> Path:
    """Return the run folder of the model that takes turns: found finished, gone on with, or tuned now."""
    folder = life.work / "tuned"
    if (folder / "model.gguf").exists():
        return folder
    if (folder / "recipe.toml").exists():
        return resume(folder, console=console).folder
    wide = life.work / "wide.gguf"
    parent = open_parent(base)
    save_gguf(
        dataclasses.replace(parent, config=dataclasses.replace(parent.config, context=life.window)),
        wide,
        "F32",
    )
    steps, rows = life.tuning()
    found = sorted(built(life).talk.glob("*.jsonl"))
    found += box_data.researched(
        life.work / "research", parent.tokenizer, window=life.window, steps=life.research
    )
    prose = prepare(built(life).text, life.work / "prose", tokenizer=parent.tokenizer)
    weights = [box_data.WEIGHTS[path.stem] for path in found]
    share = box_data.WEIGHTS["text"] / (sum(weights) + box_data.WEIGHTS["text"])
    tokens = int(share * steps * rows * life.window)
    found.append(
        box_stream.text_for_tuning(life.work / "text", prose, tokens, window=life.window, seed=steps).folder
    )
    config = FinetuneConfig(
        model=wide, data=tuple(map(str, found)), out=folder, name="twofold-box",
        weights=(*weights, box_data.WEIGHTS["text"]), steps=steps, batch=rows, patience=0,
        eval_every=0, sample_every=0, device=life.device, threads=life.threads, compiled=life.compiled,
        file_type="F32", guard=GuardConfig(window=0),  # a row of prose among calls is no accident either
    )  # fmt: skip
    return finetune(config, console=console).folder


def get_preferred(life: Life, tuned: Path, console: Console) -> Path:
    """Return the run folder of the better model: after preferring right answers, or as it was."""
    if not life.prefer:
        return tuned
    return box_better.preferred(
        tuned, life.work / "preferred", console, threads=life.threads, device=life.device
    )


def get_improved(life: Life, before: Path, console: Console) -> Path:
    """Return the run folder of the better model: after rewards, or as it was."""
    if not life.rounds:
        return before
    return box_better.improved(
        before, life.work / "improved", console, rounds=life.rounds, threads=life.threads, device=life.device
    )


def finish(life: Life, last: Path, console: Console) -> Path:
    """Return the file that ships, beside its card, after measuring it."""
    model = load(last / "model.gguf")
    rounded = life.work / "rounded.gguf"  # what will be shipped, but for the card, is what shall speak on it
    save_gguf(model, rounded, "Q8_0")
    card = box_card.card(life, model.card, rounded)
    path = life.out / "model.gguf"
    save_gguf(dataclasses.replace(model, card=card), path, "Q8_0")
    box_card.write(path, life.out / "card.md")
    size = path.stat().st_size
    say(console, f"{path}: {size / 1e6:.2f} MB.")
    if size > MOST_BYTES:
        most = f"{MOST_BYTES / 1e6:.0f} MB"
        raise UsageError(f"{path} is larger than the {most} the package allows; train a smaller one.")
    return path


def say(console: Console, text: str) -> None:
    """Print one line of news."""
    console.print(text, markup=False, highlight=False)


def options() -> Life:
    """Return what the command line says. Raises UsageError for a time that is none."""
    parser = argparse.ArgumentParser(description="Make the model in the box.")
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of data with a MANIFEST.md")
    add("--out", type=Path, default=Path("runs/box/out"), help="for model.gguf and card.md (%(default)s)")
    add("--work", type=Path, default=Path("runs/box"), help="for all that comes before (%(default)s)")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--flops", type=float, default=1.8e15, help="for all stages (%(default).3g)")
    budget.add_argument("--time", help="such as 5h: as many operations as a quiet machine does in it")
    budget.add_argument("--steps", type=int, help="of pretraining; the other stages follow by their shares")
    add("--until", choices=STAGES, default=STAGES[-1], help="stop after this stage")
    add("--remix", action="store_true", help="write the last part of the stream anew, with today's talk")
    add("--start", type=Path, help="the finished base of an earlier life (RUNS/base), to go on from")
    add("--eager", action="store_true", help="do not compile (compiling pays in runs of ten minutes)")
    add("--vocab", type=int, default=8192, help="size of the vocabulary (%(default)s)")
    add("--tiers", default="1,2,4", help="of the prose to read (%(default)s)")
    add("--shards", type=int, default=5, help="how many shards to read (%(default)s)")
    add("--talks", type=int, default=16_000, help="conversations of small talk to make (%(default)s)")
    add("--no-prefer", dest="prefer", action="store_false", help="leave that stage out")
    add("--rounds", type=int, default=30, help="of learning from rewards (%(default)s; 0 leaves it out)")
    add("--context", type=int, default=1024, help="tokens in a row of pretraining (%(default)s)")
    add("--research", type=int, default=box_data.STEPS, help="steps of the talk's demo (%(default)s)")
    add("--window", type=int, default=2560, help="of the model that ships (%(default)s)")
    add("--depth", type=int, default=6, help="layers (%(default)s)")
    add("--width", type=int, default=384, help="(%(default)s)")
    add("--rows", type=int, help="of a step of pretraining (default: follows from the budget)")
    add("--tied", action="store_true", help="one table for tokens in and out")
    add("--threads", type=int, help="of the CPU (default: measured at the start)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    said = parser.parse_args()
    shape = ShapeConfig(
        depth=said.depth, width=said.width, vocab=said.vocab, context=said.context, tied=said.tied
    )
    flops = said.flops
    if said.time is not None:
        flops = kept_flops(said.work / "budget.json", said.time, said.device, said.threads)
    same = ("data", "out", "work", "shards", "talks", "research", "device", "threads", "rows", "steps")
    also = ("eager", "prefer", "rounds", "remix", "until", "window", "start")
    return Life(
        **{name: getattr(said, name) for name in (*same, *also)},
        tiers=box_data.numbers(said.tiers), flops=flops, shape=shape,
    )  # fmt: skip


def kept_flops(path: Path, text: str, device: Any, threads: int | None) -> float:
    """Return the operations that fit into a time here; measured once and kept, so that a run can go on."""
    if path.exists():
        kept = json.loads(path.read_bytes())
        if kept["time"] == text:
            return float(kept["flops"])
    flops = dial.seconds(text) * REACHED * machine.measure(device, "auto", threads).peak_flops
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"time": text, "flops": flops}) + "\n")
    return flops


def main() -> int:
    """Live one life; exit code 0, 130 when stopped (the same command goes on), or that of the error."""
    try:
        live(options(), Console())
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
