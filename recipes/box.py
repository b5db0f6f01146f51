"""The model in the box: its whole life, from a folder of data to the file that ships inside the package.

    python recipes/box.py --data ../shared/data --time 60m --out src/twofold/box

prepares the data (box_data.py), trains a tokenizer, pretrains within the time, tunes the model to take
turns, measures it, lets it speak, and writes `model.gguf` (Q8_0) and `card.md`. All that comes before lies
in --work (`data/`, `corpus/`, `talk/`, `base/`, `tuned/`): what is finished there is used again and what
was interrupted goes on. So the same command after a crash or Ctrl-C carries on. To begin anew, remove the
folder.

The result is very small and makes things up. It is there so that the first command after installing is a
conversation, offline, with a model whose whole making can be read and repeated.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import box_data
from rich.console import Console

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.files import sha256, write_text
from twofold.corpus import Corpus, prepare, prepare_conversations
from twofold.corpus.formats.jsonl import records
from twofold.corpus.opening import open_bytes
from twofold.measure.bits_per_byte import bits_per_byte
from twofold.parameters import load, save_gguf
from twofold.run import Engine, Sampler
from twofold.run import load as open_engine
from twofold.train import FinetuneConfig, PretrainConfig, finetune, pretrain, resume
from twofold.train.dial import ShapeConfig, seconds
from twofold.train.export import spell
from twofold.train.folder import read_recipe

TUNING_SHARE = 0.25  # of the time; the rest, less what preparing took, is for pretraining
MEASURING_S = 40.0  # put aside for scores, samples and files
MOST_BYTES = 15_000_000
QUESTIONS = (
    ("Hello!",),
    ("Who are you?", "Do you make mistakes?"),
    ("What is 3 + 4?",),
    ("What is the capital of France?",),
    ("What is the opposite of hot?", "Thank you!"),
    ("Tell me a story about a fox.",),
    ("My favourite colour is green.", "What is my favourite colour?"),
    ("What is a lantern?",),
    ("What is the weather today?",),
)
LIMITS = [
    "It is very small and makes things up: fluent, friendly and often wrong. Believe nothing it says.",
    "It knows English only, nothing of today, and nothing about you but what you write to it.",
    "It read old books, whose views of people are often those of their time.",
    "Most of its conversations were made by a program, so it is at home in little more than those forms.",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Life:
    """What one life is told; see the options of the command."""

    data: Path
    out: Path
    work: Path
    time_s: float
    vocab: int
    tiers: int
    shards: int
    talks: int
    epochs: float
    device: Any
    threads: int | None
    prepare: bool
    shape: ShapeConfig


def get_ready(life: Life, console: Console) -> tuple[box_data.BoxData, Corpus, Corpus]:
    """Return the data, the tokenised prose and the tokenised conversations, made now or found."""
    began = time.monotonic()
    made = box_data.build(
        life.data, life.work / "data", tiers=life.tiers, shards=life.shards, talks=life.talks
    )
    say(console, f"Data ready after {time.monotonic() - began:.0f} s. Preparing the corpus …")
    prose = prepare(made.text, life.work / "corpus", vocab_size=life.vocab)
    longest = life.shape.context
    talk = prepare_conversations(
        made.talk, life.work / "talk", tokenizer=prose.tokenizer, max_tokens=longest, val_fraction=0.01
    )
    spent = time.monotonic() - began
    say(
        console,
        f"{len(prose.train):,} tokens of prose, {talk.documents:,} conversations, after {spent:.0f} s.",
    )
    return made, prose, talk


def live(life: Life, console: Console) -> Path:
    """Return the finished model file. Raises TwofoldError, among them UsageError when it became too large."""
    began = time.monotonic()
    made, prose, talk = get_ready(life, console)
    tune_s = TUNING_SHARE * life.time_s
    spent = time.monotonic() - began
    base = read_books(life, prose, life.time_s - tune_s - MEASURING_S - spent, console)
    tuned = take_turns(life, base, talk, tune_s, console)
    measured = scores(base, life.work / "data/text/val.jsonl.zst")
    say(console, f"Bits per byte on held-out prose: {json.dumps(measured)}")
    model = load(tuned)
    rounded = life.work / "rounded.gguf"  # what will be shipped, but for the card, is what shall speak on it
    save_gguf(model, rounded, "Q8_0")
    model = dataclasses.replace(
        model, card=card(life, model.card, made.credits, measured, [*samples(rounded)])
    )
    path = life.out / "model.gguf"
    save_gguf(model, path, "Q8_0")
    write_text(life.out / "card.md", page(load(path).card))
    size = path.stat().st_size
    say(console, f"{path}: {size / 1e6:.2f} MB, after {(time.monotonic() - began) / 60:.1f} minutes.")
    if size > MOST_BYTES:
        most = f"{MOST_BYTES / 1e6:.0f} MB"
        raise UsageError(f"{path} is larger than the {most} the package allows; train a smaller one.")
    return path


def read_books(life: Life, corpus: Corpus, left_s: float, console: Console) -> Path:
    """Return the run folder of the base model: found finished, gone on with, or trained now."""
    folder = life.work / "base"
    if (folder / "model.gguf").exists():
        return folder
    if (folder / "recipe.toml").exists():
        return resume(folder, console=console).folder
    config = PretrainConfig(
        corpus=corpus.folder,
        out=folder,
        name="twofold-box-base",
        license="MIT",
        time=f"{max(20.0, left_s):.0f}s",
        device=life.device,
        threads=life.threads,
        model=life.shape,
    )
    return pretrain(config, console=console).folder


def take_turns(life: Life, base: Path, talk: Corpus, seconds_: float, console: Console) -> Path:
    """Return the file of the model that takes turns: found finished, gone on with, or tuned now."""
    folder = life.work / "tuned"
    if (folder / "model.gguf").exists():
        return folder / "model.gguf"
    if (folder / "recipe.toml").exists():
        return resume(folder, console=console).model
    config = FinetuneConfig(
        model=base,
        corpus=talk.folder,
        out=folder,
        name="twofold-box",
        epochs=life.epochs,
        time=f"{max(20.0, seconds_):.0f}s",
        device=life.device,
        threads=life.threads,
        file_type="F32",
    )
    return finetune(config, console=console).model


def scores(base: Path, val: Path, limit_bytes: int = 60_000) -> dict[str, float]:
    """Return the base model's bits per byte on whole titles it never read: by source, and `all` together.

    `all` weighs each source by its share of the held-out text.
    """
    texts: dict[str, list[str]] = {}
    with open_bytes(val) as stream:
        for _, row in records(stream, str(val)):
            texts.setdefault(row["source"], []).append(row["text"])
    engine = open_engine(base / "model.gguf")
    found: dict[str, float] = {}
    for source, some in sorted(texts.items()):
        found[source] = bits_per_byte(engine, some, limit_bytes=limit_bytes).bits_per_byte
    sizes = {source: sum(len(text.encode()) for text in some) for source, some in texts.items()}
    found["all"] = sum(found[source] * size for source, size in sizes.items()) / sum(sizes.values())
    return {source: round(value, 4) for source, value in found.items()}


def samples(path: Path) -> Iterator[dict[str, str]]:
    """Return what the model answers to QUESTIONS, first try, unedited."""
    engine = open_engine(path)
    for questions in QUESTIONS:
        messages: list[dict[str, str]] = []
        for question in questions:
            messages.append({"role": "user", "content": question})
            messages.append({"role": "assistant", "content": answer(engine, messages)})
        *before, last = messages
        prompt = "\n".join(f"{'>' if m['role'] == 'user' else '<'} {m['content']}" for m in before)
        yield {"prompt": f"{prompt}\n< ", "text": last["content"]}


def answer(engine: Engine, messages: list[dict[str, str]]) -> str:
    """Return the model's next answer, sampled with a fixed seed."""
    ids = engine.tokenizer.chat(messages, add_generation_prompt=True)
    return "".join(
        engine.stream(ids, max_tokens=200, sampler=Sampler(temperature=0.5, top_p=0.9, seed=1))
    ).strip()


def card(
    life: Life,
    tuned: dict[str, Any],
    credits: list[dict[str, str]],
    measured: dict[str, float],
    spoken: list[dict[str, str]],
) -> dict[str, Any]:
    """Return the card of the model in the box: the tuned model's, with its data, scores and samples."""
    held_out = [
        {"name": "bits per byte (before tuning)", "value": value, "split": f"held-out titles, {source}"}
        for source, value in measured.items()
    ]
    return {
        "name": "twofold-box",
        "summary": "The model in the box of twofold: a very small language model that chats a little, "
        "offline, and makes things up.",
        "license": "MIT",
        "languages": ["en"],
        "limits": LIMITS,
        "data": [
            {"name": one["title"], "license": one["licence"], "url": one["source"], "used": one["used"]}
            for one in credits
        ],
        "scores": [*held_out, *tuned.get("scores", [])],
        "samples": spoken,
        "training": {stage: read_recipe(life.work / stage).result for stage in ("base", "tuned")},
        "recipe": how_to_repeat(life),
        "notes": ["Made by recipes/box.py; the same command with the same data makes one like it again."],
    }


def how_to_repeat(life: Life) -> dict[str, Any]:
    """Return the settings of this life, its plans and the hashes of its data; no paths of this machine."""
    files = [*sorted((life.work / "data/text").iterdir()), *sorted((life.work / "data/talk").iterdir())]
    settings = {
        field.name: getattr(life, field.name)
        for field in dataclasses.fields(life)
        if field.name not in ("data", "out", "work", "prepare", "shape")
    }
    return {
        "script": "recipes/box.py",
        "settings": {**settings, **dataclasses.asdict(life.shape)},
        "data_sha256": {path.name: sha256(path) for path in files},
        "plans": {stage: read_recipe(life.work / stage).plan for stage in ("base", "tuned")},
    }


def page(card: dict[str, Any]) -> str:
    """Return the card as Markdown. The loss curve stays with the run, so its picture is left out."""
    return spell(card).replace("## Loss\n\n![Loss over steps](loss.svg)\n\n", "")


def say(console: Console, text: str) -> None:
    """Print one line of news."""
    console.print(text, markup=False, highlight=False)


def options() -> Life:
    """Return what the command line says. Raises UsageError for a time that is none."""
    parser = argparse.ArgumentParser(description="Make the model in the box.")
    parser.add_argument("--data", type=Path, required=True, help="folder of data with a MANIFEST.md")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/box/out"), help="for model.gguf and card.md (%(default)s)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/box"), help="for all that comes before (%(default)s)"
    )
    parser.add_argument("--time", default="60m", help="for the whole life (%(default)s)")
    parser.add_argument("--vocab", type=int, default=4096, help="size of the vocabulary (%(default)s)")
    parser.add_argument("--tiers", type=int, default=2, help="read prose of tiers 1 to this (%(default)s)")
    parser.add_argument("--shards", type=int, default=5, help="how many shards to read (%(default)s)")
    parser.add_argument("--talks", type=int, default=16_000, help="conversations to make (%(default)s)")
    parser.add_argument(
        "--epochs", type=float, default=6.0, help="times to read the conversations (%(default)s)"
    )
    parser.add_argument(
        "--context", type=int, default=512, help="longest conversation in tokens (%(default)s)"
    )
    parser.add_argument("--depth", type=int, help="layers (default: the time decides)")
    parser.add_argument("--width", type=int, help="width (default: follows from depth)")
    parser.add_argument("--tied", action="store_true", help="one table for tokens in and out")
    parser.add_argument("--threads", type=int, help="of the CPU (default: measured at the start)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--prepare", action="store_true", help="only prepare the data, and stop")
    said = parser.parse_args()
    shape = ShapeConfig(
        depth=said.depth, width=said.width, vocab=said.vocab, context=said.context, tied=said.tied
    )
    return Life(
        data=said.data,
        out=said.out,
        work=said.work,
        time_s=seconds(said.time),
        vocab=said.vocab,
        tiers=said.tiers,
        shards=said.shards,
        talks=said.talks,
        epochs=said.epochs,
        device=said.device,
        threads=said.threads,
        prepare=said.prepare,
        shape=shape,
    )


def main() -> int:
    """Live one life; exit code 0, 130 when stopped (the same command goes on), or that of the error."""
    try:
        life, console = options(), Console()
        get_ready(life, console) if life.prepare else live(life, console)
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
