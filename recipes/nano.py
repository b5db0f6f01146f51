"""Nano: every stage of a language model's life in about a minute, on data it makes itself.

    python recipes/nano.py --out runs/nano

makes tales and conversations, trains a tokenizer, pretrains a tiny model, tunes it to take turns, writes
the two files (model.gguf and run.c), compiles the second with the C compiler, and says hello. It is the
shortest way to see the whole path, and a check that it holds. The model has read nothing, so what it says
makes little sense.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

from box_tales import ANIMALS, tale
from box_talk import made
from rich.console import Console

from twofold.base.errors import TwofoldError
from twofold.base.files import write_text
from twofold.corpus import prepare, prepare_conversations
from twofold.run import library
from twofold.run.library import compiler
from twofold.train import FinetuneConfig, PretrainConfig, finetune, pretrain
from twofold.train.dial import ShapeConfig


def make_data(folder: Path, tales: int, talks: int, seed: int = 0) -> tuple[Path, Path]:
    """Return a file of made-up tales and one of made-up conversations, JSON Lines in `folder`."""
    rng = random.Random(seed)
    texts = [tale(rng, *rng.sample(ANIMALS, 2)) for _ in range(tales)]
    text, talk = folder / "tales.jsonl", folder / "talks.jsonl"
    write_text(text, "".join(json.dumps({"text": one}) + "\n" for one in texts))
    write_text(talk, "".join(json.dumps({"messages": one}) + "\n" for one in made(talks, seed)))
    return text, talk


def live(
    out: Path, *, steps: int = 150, tales: int = 3000, talks: int = 3000, console: Console | None = None
) -> str:
    """Return what the model answers to "Hello!" when the compiled run.c runs it; all files lie in `out`."""
    say = console.print if console else lambda text: None
    say("1. Data: tales and conversations, made by a program.")
    text, talk = make_data(out / "data", tales, talks)

    say("2. Tokenizer and corpus: text becomes numbers.")
    corpus = prepare(text, out / "corpus", vocab_size=1024)
    chats = prepare_conversations(talk, out / "talk", tokenizer=corpus.tokenizer, max_tokens=256)

    say("3. Pretraining: the model learns to guess the next token.")
    shape = ShapeConfig(depth=2, width=128, context=256)
    plan = PretrainConfig(
        corpus=corpus.folder, out=out / "base", name="nano", steps=steps, batch=8, threads=1, model=shape
    )
    base = pretrain(plan, console=console)

    say("4. Finetuning: it learns to take turns.")
    tune = FinetuneConfig(
        model=base.folder,
        corpus=chats.folder,
        out=out / "chat",
        name="nano-chat",
        steps=steps,
        batch=8,
        threads=1,
    )
    chat = finetune(tune, console=console)

    say("5. Two files: model.gguf and run.c.")
    model, program = out / "model.gguf", out / "run.c"
    shutil.copyfile(chat.model, model)
    program.write_text(library.program())

    say("6. The C compiler and a first question.")
    run = out / "run"
    subprocess.run(
        [compiler(), "-O3", "-std=c11", str(program), "-o", str(run), "-lm", "-lpthread"], check=True
    )
    command = [str(run), str(model), "-n", "40", "--temp", "0"]
    spoken = subprocess.run(command, check=True, input=b"Hello!\n", capture_output=True, timeout=60)
    answer = spoken.stdout.decode("utf-8", "replace").replace("> ", "").strip()
    say("> Hello!")
    say(f"< {answer}")
    return answer


def main() -> int:
    """Live one short life; exit code 0, or that of the error."""
    parser = argparse.ArgumentParser(description="Every stage in about a minute.")
    parser.add_argument("--out", type=Path, default=Path("runs/nano"), help="an empty folder (%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=150, help="of pretraining and of finetuning (%(default)s)"
    )
    options = parser.parse_args()
    try:
        live(options.out, steps=options.steps, console=Console())
    except TwofoldError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
