"""Quality beside llama.cpp on the same files: the same greedy ids, and what quantisation costs in perplexity.

    greedy       both continue the same prompts: in F32 with the same 512 ids or more. In other types each
                 rounds in its own way; there it is told how many ids are the same until the first difference,
                 where the choices differ along twofold's ids, and how many of these places are near ties
                 (parity.py says what that is)
    perplexity   of held-out text through both engines: the same ids, cut into windows of the model's context,
                 fed at once, with logits of every token. Told is the change against F32 in the same engine,
                 with its standard error over the windows (paired, so that the text cancels out)

Exits 1 when ids in F32 differ, when Q8_0 changes the perplexity by more than 0.1 %, or when Q4_0 costs more
than in llama.cpp (by more than two standard errors). As a further row llama.cpp quantises the model itself:
its Q4_0 files keep the table of tokens in another type than twofold's.

The model should have float weights, as `twofold train ... --set file_type=F32` leaves them. Any file that
twofold reads will do; what was Q8_0 already loses nothing by Q8_0, of course.

    benchmarks/rivals.sh
    python benchmarks/quality.py --model runs/mine/model.gguf
"""

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import machine
import numpy as np
import numpy.typing as npt
from pairs import figure, table
from parity import greedy, judge, relative_error
from surprise import nats
from workers import HERE, Worker, rivals_python

from twofold import run
from twofold.parameters import load, save_gguf
from twofold.tokens.specials import END_OF_TEXT

GOLDEN = HERE.parent / "tests" / "golden" / "model.gguf"
BOX = HERE.parent / "src" / "twofold" / "box" / "model.gguf"
DATA = Path(os.environ.get("TWOFOLD_DATA", HERE.parents[1] / "shared/data")) / "pretrain/val.jsonl.zst"
PROMPTS = (
    "The cat sat on",
    "Once upon a time there was",
    "The dog looked at the hill.",
    "It was warm",
    "A hen, a goat and an owl",
    "Good day!",
)  # plain text, which both the golden model and the one in the box have seen
GREEDY_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")
TYPES = ("F32", "Q8_0", "Q4_0")
WANTED_IDS = 512
MOST_Q8_CHANGE = 0.001
LLAMA_CPP_Q4_0 = 2  # its number for such files
GREEDY_HEADER = [
    "model", "weights", "ids", "different ones", "the same", "choices that differ", "of them near ties",
    "logits differ by",
]  # fmt: skip
HEADER = ["engine", "weights", "file, MiB", "perplexity", "change against F32, %", "standard error, %"]

Floats = npt.NDArray[np.float64]
Windows = list[list[int]]


# --- the same ids


@dataclass
class Agreement:
    """How far both engines write the same."""

    model: str
    type: str
    ids: int = 0
    same: int = 0  # of them, up to the first difference after each prompt
    wrong: int = 0
    ties: int = 0
    error: float = 0.0
    seen: set[int] = field(default_factory=set)

    def cells(self) -> list[str]:
        """Return the row of the table."""
        return [
            self.model, self.type, str(self.ids), str(len(self.seen)), str(self.same),
            str(self.wrong + self.ties), str(self.ties), f"{self.error:.1e}",
        ]  # fmt: skip


def plan(context: int) -> list[tuple[str, int]]:
    """Return prompts, and how many ids to write after each: as few as possible, WANTED_IDS or more in all."""
    room = context - max(len(prompt.encode()) for prompt in PROMPTS)
    needed = -(-WANTED_IDS // room)
    if needed > len(PROMPTS):
        sys.exit(f"A context of {context} tokens is too short: {needed} prompts would be needed.")
    return [(prompt, -(-WANTED_IDS // needed)) for prompt in PROMPTS[:needed]]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many ids two lists begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def agreement(name: str, path: Path, kind: str, python: Path) -> Agreement:
    """Return how far both engines agree on what follows the prompts."""
    engine = run.load(path, threads=1)
    found = Agreement(name, kind)
    arguments = (str(path), "--context", str(engine.context), "--exact")
    with Worker("llama_cpp_worker.py", *arguments, python=python) as rival:
        for text, count in plan(engine.context):
            prompt = engine.tokenizer.encode(text)
            ours, logits = greedy(engine, prompt, count)
            theirs = rival.ask("greedy", ids=prompt, count=count)
            along = np.asarray(rival.ask("logits_along", ids=prompt + ours[:-1]), np.float32)
            along = along[len(prompt) - 1 :]
            wrong, ties = judge(logits, along)
            found.ids, found.same = found.ids + count, found.same + common(ours, theirs)
            found.wrong, found.ties = found.wrong + len(wrong), found.ties + len(ties)
            found.error = max(found.error, relative_error(logits, along))
            found.seen |= set(ours)
    return found


# --- perplexity


@dataclass(frozen=True)
class Side:
    """An engine with a file: `nats` [windows] and `tokens` [windows] that it was asked to predict."""

    engine: str
    type: str
    file_bytes: int
    nats: Floats
    tokens: Floats

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens that would be as hard to guess."""
        return math.exp(self.nats.sum() / self.tokens.sum())


def change(side: Side, base: Side) -> tuple[float, float]:
    """Return by what share the perplexity is higher than in `base`, and the standard error of that."""
    more, tokens = side.nats - base.nats, base.tokens
    mean = more.sum() / tokens.sum()
    error = math.sqrt(np.square(more - mean * tokens).sum()) / tokens.sum()
    return math.expm1(mean), error


def windows(documents: Iterable[Sequence[int]], context: int, tokens: int) -> Windows:
    """Return windows of ids, side by side in each document, evenly chosen from all until they have `tokens`.

    Each has a token more than the context: the last one is only predicted.
    """
    found = [list(ids[at : at + context + 1]) for ids in documents for at in range(0, len(ids) - 1, context)]
    enough = min(1.0, tokens / max(1, sum(len(window) - 1 for window in found)))
    return [window for i, window in enumerate(found) if math.floor((i + 1) * enough) > math.floor(i * enough)]


def read(path: Path, engine: run.Engine) -> list[list[int]]:
    """Return the ids of the documents of a file, each after what parts documents in training."""
    from twofold.corpus.documents import documents

    tokenizer = engine.tokenizer
    parted = END_OF_TEXT in tokenizer.vocabulary.tokens
    start = [tokenizer.special_id(END_OF_TEXT)] if parted else []
    return [start + tokenizer.encode(document.text) for document in documents(path)]


def ours(path: Path, kind: str, text: Windows, context: int) -> Side:
    """Return what twofold makes of the text."""
    engine = run.load(path, context=context, threads=1)
    sums = []
    for ids in text:
        count = len(ids) - 1
        sums.append(sum(nats(engine.forward(ids[:-1], [0] * count, range(count)), ids[1:])))
    return side("twofold", path, kind, sums, text)


def theirs(path: Path, kind: str, text: Windows, context: int, python: Path, note: str = "") -> Side:
    """Return what llama.cpp makes of the text."""
    arguments = (str(path), "--context", str(context), "--threads", "1")
    with Worker("llama_cpp_worker.py", *arguments, python=python) as rival:
        sums = [sum(rival.ask("nats", ids=ids)) for ids in text]
    return side("llama.cpp" + note, path, kind, sums, text)


def side(engine: str, path: Path, kind: str, sums: list[float], text: Windows) -> Side:
    """Return a side from its sums of nats, one for each window, and say it."""
    tokens = np.array([len(ids) - 1 for ids in text], np.float64)
    found = Side(engine, kind, path.stat().st_size, np.array(sums), tokens)
    print(f"  {engine} {kind}: {found.perplexity:.4f}", flush=True)
    return found


def cells(side: Side, base: Side) -> list[str]:
    """Return a side's row of the table; `base` is its engine in F32."""
    share, error = change(side, base)
    row = [side.engine, side.type, figure(side.file_bytes / 2**20), f"{side.perplexity:.4f}"]
    return [*row, *([f"{100 * share:+.3f}", f"{100 * error:.3f}"] if side is not base else ["-", "-"])]


def misses(ours: dict[str, Side], theirs: dict[str, Side]) -> list[str]:
    """Return a sentence for each target that was missed: both engines' sides by type."""
    found = []
    share, _ = change(ours["Q8_0"], ours["F32"])
    if abs(share) > MOST_Q8_CHANGE:
        found.append(f"Q8_0 changes the perplexity by {share:+.2%}; {MOST_Q8_CHANGE:.1%} is the target.")
    more, error = change(ours["Q4_0"], theirs["Q4_0"])
    if more > 2 * error:
        found.append(f"Q4_0 has {more:+.3%} more perplexity than in llama.cpp (standard error {error:.3%}).")
    return found


# --- both


def compare_ids(models: dict[str, Path], types: Sequence[str], folder: Path, python: Path) -> list[str]:
    """Print how far both engines write the same; return what is wrong."""
    found = []
    for name, model in models.items():
        for kind in types:
            path = folder / f"{name}-{kind}.gguf"
            save_gguf(load(model), path, kind)
            found.append(agreement(name, path, kind, python))
            path.unlink()
    print("\n" + table(GREEDY_HEADER, [f.cells() for f in found]) + "\n", flush=True)
    return [
        f"{f.model}: in F32 only {f.same} of {f.ids} ids are the same."
        for f in found
        if f.type == "F32" and f.same < f.ids
    ]


def compare_perplexity(model: Path, data: Path, tokens: int, folder: Path, python: Path) -> list[str]:
    """Print the perplexities; return what is wrong."""
    paths = {kind: folder / f"{kind}.gguf" for kind in TYPES}
    for kind, path in paths.items():
        save_gguf(load(model), path, kind)
    engine = run.load(paths["F32"])
    context = engine.context
    documents = read(data, engine)
    text = windows(documents, context, tokens)
    print(f"{len(documents)} documents; {len(text)} windows of at most {context} tokens", flush=True)
    us = {kind: ours(path, kind, text, context) for kind, path in paths.items()}
    them = {kind: theirs(path, kind, text, context, python) for kind, path in paths.items()}
    quantised = folder / "quantised.gguf"
    with Worker("llama_cpp_worker.py", str(paths["F32"]), python=python) as rival:
        rival.ask("quantise", source=str(paths["F32"]), target=str(quantised), file_type=LLAMA_CPP_Q4_0)
    alone = theirs(quantised, "Q4_0", text, context, python, ", its own file")
    rows = [cells(side, us["F32"]) for side in us.values()]
    rows += [cells(side, them["F32"]) for side in (*them.values(), alone)]
    print("\n" + table(HEADER, rows) + "\n")
    more, error = change(us["Q4_0"], them["Q4_0"])
    print(f"Q4_0 in twofold against llama.cpp, same file: {more:+.3%}, standard error {error:.3%}.")
    return misses(us, them)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", type=Path, default=BOX, help="a trained model beside the golden one (default %(default)s)"
    )
    parser.add_argument(
        "--data", type=Path, default=DATA, help="held-out text for the perplexity (default: %(default)s)"
    )
    parser.add_argument("--tokens", type=int, default=150_000, help="to predict, about (default %(default)s)")
    parser.add_argument(
        "--python", help="the Python that has llama-cpp-python (default .venv-bench/bin/python)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="F32 and Q4_0 only, 5,000 tokens: to see that everything works"
    )
    return parser.parse_args()


def main() -> None:
    """Compare, print; exit 1 when a target is missed."""
    options = parse()
    python = rivals_python(options.python)
    print(f"machine: {machine.describe()}", flush=True)
    types = ("F32", "Q4_0") if options.quick else GREEDY_TYPES
    models = {"golden": GOLDEN, options.model.parent.name or "model": options.model}
    with tempfile.TemporaryDirectory(prefix="twofold-quality-") as name:
        folder = Path(name)
        problems = compare_ids(models, types, folder, python)
        if options.data.is_file():
            tokens = 5000 if options.quick else options.tokens
            missed = compare_perplexity(options.model, options.data, tokens, folder, python)
            problems += [] if options.quick else missed
        else:
            print(f"No perplexity: {options.data} is not there; name a text with --data.")
    print("\n".join(problems) or "All targets are met.")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
