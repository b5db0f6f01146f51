"""Time to nanochat's bits per byte: twofold against nanochat's own trainer, both on this computer's CPU.

nanochat: its tokenizer training and its `scripts.base_train`, unchanged, in float32 (its choice on a CPU)
and in bfloat16 (its switch NANOCHAT_DTYPE), shaped by its dial (`--depth=5`), with the flags of its CPU
example runs/runcpu.sh where they decide speed and shape; evaluation and sampling on the way are switched off.
twofold: `twofold train` of the same depth, width and vocabulary, in its default 16 bits. Same text, same
torch, same machine; the clock is the wall clock from the start of the first process to the end of the last:
imports, compiling (nanochat always does; with an empty cache), learning a vocabulary from the same amount of
text, reading, training, files.

Before the clock, the text is prepared for both: nanochat's loader takes one row out of each document and
drops the rest, which would waste long documents, so documents are cut at ends of paragraphs into pieces of at
most 2,000 bytes; nanochat gets them as the parquet files that it reads, twofold as JSONL.

The saved models are judged after the clock has stopped, on the same held-out pieces, in float32: each piece
from its start, windows side by side, bits per byte of all text (ends of documents do not count). bfloat16
ends nanochat at a poorer score than float32, so each of its runs has a run of twofold beside it, of as many
steps as that score takes. Exits 1 when one of them does not reach it.

    python benchmarks/train_nanochat.py --nanochat ../nanochat [--rounds 1] [--quick]
"""

import argparse
import json
import math
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
import numpy as np
from pairs import figure, table, take_turns
from surprise import nats

from twofold import run
from twofold.corpus.documents import documents
from twofold.parameters import load
from twofold.tokens.specials import END_OF_TEXT

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("TWOFOLD_DATA", HERE.parents[1] / "shared/data")) / "pretrain"
PIECE_BYTES = 2000
JUDGED_BYTES = 400_000
VOCABULARY_BYTES = 5_000_000  # that both learn their vocabulary from
VOCABULARY = 4096
ROW_GROUP = 1024
TOKENIZER = f"--vocab-size={VOCABULARY} --max-chars={VOCABULARY_BYTES}"
# Shape as in runs/runcpu.sh, one layer less; its batch there, 16,384 tokens, would leave 50 steps.
NANOCHAT = (
    "--run=dummy --depth=5 --head-dim=64 --window-pattern=L --max-seq-len=512 --device-batch-size=4"
    " --total-batch-size=2048 --num-iterations=400 --eval-every=-1 --core-metric-every=-1 --sample-every=-1"
)
# What short runs on another text wanted (docs/log.md): a high rate, a short memory, a long decay. In so short
# a run compiling would cost more than it saves.
TWOFOLD = (
    "model.depth=5 model.context=256 batch=8 compute=bfloat16 compiled=false eval_every=0"
    " eval_tokens=4096 sample_every=0 optimizer.muon_lr=0.05 optimizer.muon_momentum=0.9 schedule.warmup=0.02"
    " schedule.decay=0.8"
)
STEPS = {"float32": 180, "bfloat16": 140}  # of twofold, to score as nanochat does in each
HEADER = [
    "what",
    "parameters",
    "in products",
    "tokens read",
    "seconds",
    "of it steps",
    "bits per byte",
    "twofold is times faster",
    "by steps alone",
]


@dataclass(frozen=True)
class Run:
    """One run of a side: `wall_s` of its processes, `steps_s` of its steps but the first, tokens read."""

    wall_s: float
    steps_s: float
    tokens: int


@dataclass(frozen=True)
class Side:
    """How a side did: its runs, and the last one's model: bits per byte, parameters, those in products."""

    name: str
    runs: tuple[Run, ...]
    bits_per_byte: float
    parameters: int
    products: int

    @property
    def wall_s(self) -> float:
        """Return the median of the runs' wall seconds."""
        return statistics.median(run.wall_s for run in self.runs)

    @property
    def steps_s(self) -> float:
        """Return the median of the seconds of the runs' steps."""
        return statistics.median(run.steps_s for run in self.runs)


# --- text


def pieces(text: str, most: int = PIECE_BYTES) -> Iterator[str]:
    """Yield a text in pieces of at most `most` bytes: whole paragraphs, or parts of one that is longer."""
    paragraphs = [part for part in re.split(r"(?<=\n)(?=\S)", text) for part in _parts(part, most)]
    piece, size = [], 0
    for paragraph in paragraphs:
        length = len(paragraph.encode())
        if piece and size + length > most:
            yield "".join(piece)
            piece, size = [], 0
        piece.append(paragraph)
        size += length
    if piece:
        yield "".join(piece)


def _parts(paragraph: str, most: int) -> Iterator[str]:
    """Yield a paragraph, or its words in parts of at most `most` bytes (a word of more stays whole)."""
    part, size = [], 0
    for word in re.findall(r"\s*\S+\s*?|\s+$", paragraph) or [paragraph]:
        length = len(word.encode())
        if part and size + length > most:
            yield "".join(part)
            part, size = [], 0
        part.append(word)
        size += length
    yield "".join(part)


def evenly(items: Sequence[str], size_bytes: int) -> list[str]:
    """Return texts of about `size_bytes` in all, evenly chosen."""
    share = min(1.0, size_bytes / max(1, sum(len(item.encode()) for item in items)))
    return [item for i, item in enumerate(items) if int((i + 1) * share) > int(i * share)]


def write_jsonl(path: Path, texts: Iterable[str]) -> None:
    """Write texts as twofold and the judges read them."""
    with open(path, "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def prepare(train: Path, val: Path, folder: Path, judged_bytes: int = JUDGED_BYTES) -> None:
    """Write train.jsonl and held-out.jsonl, and both as parquet files for nanochat."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    parts = {"train": train, "held-out": val}
    texts = {name: [p for d in documents(path) for p in pieces(d.text)] for name, path in parts.items()}
    texts["held-out"] = evenly(texts["held-out"], judged_bytes)
    shards = folder / "shards"
    shards.mkdir(exist_ok=True)
    for number, (name, some) in enumerate(texts.items()):  # nanochat takes the last file for held-out text
        write_jsonl(folder / f"{name}.jsonl", some)
        one = pyarrow.table({"text": some})
        parquet.write_table(one, shards / f"shard_{number:05d}.parquet", row_group_size=ROW_GROUP)
    size = {name: sum(len(t.encode()) for t in some) for name, some in texts.items()}
    print(f"text: {size['train'] / 1e6:.1f} MB to learn from, {size['held-out'] / 1e6:.2f} MB to judge by")


# --- processes


def timed(command: Sequence[str | Path], place: Path, environment: dict[str, str]) -> tuple[float, str]:
    """Return the wall seconds of a process and what it printed; raises CalledProcessError when it fails."""
    start = time.perf_counter()
    done = subprocess.run(
        list(map(str, command)), cwd=place, env=os.environ | environment, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    if done.returncode:
        print(done.stdout[-3000:], file=sys.stderr)
        done.check_returncode()
    return seconds, done.stdout


class Nanochat:
    """nanochat's trainer in one dtype: a checkout, the packages it needs, a folder for what it makes."""

    def __init__(self, options: argparse.Namespace, folder: Path, dtype: str) -> None:
        self.checkout, self.folder = options.nanochat.resolve(), folder / f"nanochat-{dtype}"
        self.shards, self.texts, self.threads = folder / "shards", folder / "held-out.jsonl", options.threads
        self.steps = [*(["--num-iterations=4"] if options.quick else []), *options.nanochat_flags]
        stubs = folder / "stubs"
        stubs.mkdir(exist_ok=True)
        (stubs / "wandb.py").touch()  # imported, and with --run=dummy not used
        self.environment = {
            "NANOCHAT_BASE_DIR": str(self.folder), "NANOCHAT_DTYPE": dtype, "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (stubs, options.packages.resolve(), self.checkout))),
            "OMP_NUM_THREADS": str(self.threads), "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "compiled"),
        }  # fmt: skip

    def train(self) -> Run:
        """Return how one run of both scripts went, from nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        (self.folder / "base_data_climbmix").symlink_to(self.shards)
        first_s, _ = self._script("scripts.tok_train", TOKENIZER.split())
        second_s, log = self._script("scripts.base_train", [*NANOCHAT.split(), *self.steps])
        (self.folder.parent / f"{self.folder.name}.log").write_text(log)
        return Run(first_s + second_s, sum(steps_s(log)), tokens_read(log))

    def judge(self) -> dict[str, float]:
        """Return the nats of the saved model on the held-out text, and its sizes."""
        command = [sys.executable, HERE / "nanochat_judge.py", self.texts, "--threads", str(self.threads)]
        _, out = timed(command, self.checkout, self.environment | {"NANOCHAT_DTYPE": "float32"})
        found: dict[str, float] = json.loads(out.splitlines()[-1])
        return found

    def _script(self, name: str, flags: list[str]) -> tuple[float, str]:
        return timed([sys.executable, "-m", name, *flags], self.checkout, self.environment)


def steps_s(log: str) -> list[float]:
    """Return the seconds of each step in nanochat's log but the first, which compiles."""
    return [float(ms) / 1000 for ms in re.findall(r"^step \d+/.*? dt: ([\d.]+)ms", log, re.MULTILINE)][1:]


def tokens_read(log: str) -> int:
    """Return the tokens of a run by nanochat's log; raises ValueError when it does not say."""
    found = re.search(r"^Total number of training tokens: ([\d,]+)", log, re.MULTILINE)
    if found is None:
        raise ValueError("nanochat's log does not say how many tokens it reads.")
    return int(found[1].replace(",", ""))


class Twofold:
    """`twofold train` as a user types it."""

    def __init__(self, options: argparse.Namespace, folder: Path, steps: int) -> None:
        self.folder, self.texts = folder / f"twofold-{steps}", folder / "held-out.jsonl"
        self.threads = options.threads
        length = f"steps={4 if options.quick else steps}"
        settings = [f"threads={options.threads}", *TWOFOLD.split(), length, *options.set]
        self.command = [
            sys.executable, "-m", "twofold", "train", folder / "train.jsonl", "--out", self.folder,
            "--vocab", str(VOCABULARY), *(f"--set={one}" for one in settings),
            f"--set=max_bytes={VOCABULARY_BYTES}", "--set=file_type=F32",
        ]  # fmt: skip

    def train(self) -> Run:
        """Return how one run went, from nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        cache = self.folder.with_name("twofold-compiled")
        shutil.rmtree(cache, ignore_errors=True)
        seconds, _ = timed(self.command, self.folder.parent, {"TORCHINDUCTOR_CACHE_DIR": str(cache)})
        with open(self.folder / "metrics.jsonl") as file:
            steps = [record for record in map(json.loads, file) if "loss_nats" in record]
        each = [record["tokens"] / (index + 1) for index, record in enumerate(steps)]
        took = [size / record["tokens_per_s"] for size, record in zip(each, steps, strict=True)]
        return Run(seconds, sum(took[1:]), steps[-1]["tokens"])

    def judge(self) -> dict[str, float]:
        """Return the nats of the model file on the held-out text, and its sizes."""
        path = self.folder / "model.gguf"
        config = load(path).config
        products = config.parameters - (0 if config.tied else config.vocab_size * config.width)
        engine = run.load(path, threads=self.threads)
        start, size = engine.tokenizer.special_id(END_OF_TEXT), engine.context
        total = 0.0
        for document in documents(self.texts):
            ids = [start, *engine.tokenizer.encode(document.text)]
            for at in range(0, len(ids) - 1, size):
                window = np.asarray(ids[at : at + size + 1], np.int32)
                positions = np.arange(len(window) - 1, dtype=np.int32)
                total += sum(nats(engine.forward(window[:-1], 0 * positions, positions), window[1:].tolist()))
        return {"nats": total, "parameters": config.parameters, "products": products}


# --- comparing


def compare(options: argparse.Namespace, folder: Path) -> list[Side]:
    """Return how the sides did, a rival and then its twofold; in turns, and the last round's are judged."""
    prepare(options.data, options.val, folder, JUDGED_BYTES // 20 if options.quick else JUDGED_BYTES)
    size = sum(len(document.text.encode()) for document in documents(folder / "held-out.jsonl"))
    sides: dict[str, Nanochat | Twofold] = {}
    for dtype in options.dtypes:
        sides[f"nanochat {dtype}"] = Nanochat(options, folder, dtype)
        sides[f"twofold, {STEPS[dtype]} steps"] = Twofold(options, folder, STEPS[dtype])
    if not sides:
        sides["twofold"] = Twofold(options, folder, STEPS["float32"])
    runs: dict[str, list[Run]] = {name: [] for name in sides}

    def one(name: str) -> float:
        done = sides[name].train()
        runs[name].append(done)
        print(f"{name}: {done.wall_s:.1f} s, of it {done.steps_s:.1f} s steps", flush=True)
        return done.wall_s

    take_turns({name: lambda name=name: one(name) for name in sides}, options.rounds)  # type: ignore[misc]
    found = []
    for name, side in sides.items():
        judged = side.judge()
        score = judged["nats"] / math.log(2) / size
        sizes = int(judged["parameters"]), int(judged["products"])
        found.append(Side(name, tuple(runs[name]), score, *sizes))
    return found


def row(side: Side, ours: Side | None) -> list[str]:
    """Return the table's row of a side; `ours` is the run of twofold that a rival is compared with."""
    return [
        side.name,
        f"{side.parameters / 1e6:.1f}M",
        f"{side.products / 1e6:.1f}M",
        f"{side.runs[-1].tokens:,}",
        f"{side.wall_s:.1f}",
        f"{side.steps_s:.1f}",
        f"{side.bits_per_byte:.4f}",
        figure(side.wall_s / ours.wall_s) if ours else "-",
        figure(side.steps_s / ours.steps_s) if ours else "-",
    ]


def report(sides: Sequence[Side]) -> int:
    """Print the table and whether each twofold reached the rival before it; return the exit code."""
    pairs = list(zip(sides[::2], sides[1::2], strict=False))
    compared = {rival.name: ours for rival, ours in pairs}
    print("\n" + table(HEADER, [row(side, compared.get(side.name)) for side in sides]) + "\n")
    missed = 0
    for rival, ours in pairs:
        reached = ours.bits_per_byte <= rival.bits_per_byte
        missed += not reached
        verb, sign = ("reached", "≤") if reached else ("did not reach", ">")
        print(f"twofold {verb} {rival.name}: {ours.bits_per_byte:.4f} {sign} {rival.bits_per_byte:.4f}.")
    return 1 if missed else 0


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = os.environ.get("NANOCHAT")
    packages = HERE.parent / os.environ.get("BENCH_VENV", ".venv-bench") / "nanochat"
    parser.add_argument("--data", type=Path, default=DATA / "train-00-of-05.jsonl.zst", help="to learn from")
    parser.add_argument("--val", type=Path, default=DATA / "val.jsonl.zst", help="to judge by")
    parser.add_argument(
        "--nanochat", type=Path, metavar="DIR", default=known and Path(known), help="a checkout of nanochat"
    )
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", default=packages,
        help="where rivals.sh put nanochat's rustbpe and tiktoken (default: %(default)s)",
    )  # fmt: skip
    dtypes = ["float32", "bfloat16"]
    parser.add_argument("--dtypes", nargs="*", default=dtypes, help="nanochat's; with none, twofold alone")
    parser.add_argument("--rounds", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="default: all cores")
    parser.add_argument("--quick", action="store_true", help="four steps each, to see that everything works")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="change twofold's recipe")
    parser.add_argument("--nanochat-flags", nargs="*", default=[], metavar="FLAG", help="more for base_train")
    parser.add_argument("--folder", type=Path, help="keep everything here (default: a temporary folder)")
    return parser.parse_args()


def main() -> None:
    """Train, judge, print."""
    options = parse()
    if options.dtypes and options.nanochat is None:
        print("train_nanochat: skipped: name a checkout of nanochat with --nanochat or in $NANOCHAT.")
        return
    if not options.data.is_file() or not options.val.is_file():
        print(f"train_nanochat: skipped: {options.data} or {options.val} is not there.")
        return
    print(f"machine: {machine.describe()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="twofold-nanochat-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        code = report(compare(options, folder))
    sys.exit(0 if options.quick else code)


if __name__ == "__main__":
    main()
