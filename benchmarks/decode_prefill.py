"""Decode, prefill and batch: twofold against llama.cpp, and llama2.c, on three shapes with random weights.

Each pair takes turns within one run on the same GGUF file: decode = tokens fed one by one into an empty
context, prefill = 512 tokens at once, both of one sequence; batch = several sequences decoded together from
empty contexts, one token of each per step, tokens of all per second. Nothing is sampled while the clock runs.
Reported are medians, the median of the paired ratios, and the share of the read bandwidth that decoding uses:
each token reads all matrices once, and the ceiling is how fast so many bytes can be read again and again on
so many threads, measured in the same rounds.

llama2.c runs its own float32 file with the same weights; it has no prefill (it feeds a prompt token by
token) and no batch.

    benchmarks/rivals.sh
    python benchmarks/decode_prefill.py --quick
    python benchmarks/decode_prefill.py --llama2c ../llama2.c
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import machine
from pairs import figure, median_ratio, table, take_turns
from shapes import CONTEXT, SHAPES, VOCAB, Shape, model, write_llama2c
from workers import Worker, rivals_python

from twofold.parameters import gguf, save_gguf

PREFILL = 512
LEAST_SECONDS = 0.25  # a turn lasts that long at least: what is asked is asked again until then
BATCH_STEPS = 64  # at most; as many as tokens are decoded alone where that is fewer
TYPES = ("Q8_0", "Q4_0", "F16")
HEADER = [
    "shape", "weights", "threads", "llama.cpp decode tok/s", "twofold decode tok/s", "ratio",
    "share of bandwidth, llama.cpp", "twofold", "llama.cpp prefill 512", "twofold prefill 512", "ratio",
    "llama.cpp batch", "twofold batch", "ratio", "llama2.c decode tok/s", "ratio",
]  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What is measured: how many turns each, with which rivals."""

    rounds: int
    batch: int  # sequences decoded together
    threads: tuple[int, ...]
    python: Path
    llama2c: "Llama2c | None"
    bandwidth: machine.Bandwidth


class Llama2c:
    """llama2.c, compiled here from a checkout, run on its own float32 file."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.tokenizer = checkout / "tokenizer.bin"
        self.program = machine.compile_c(
            checkout / "run.c", folder / "llama2c", "-Ofast", "-fopenmp", "-w"
        )  # as its Makefile does

    def decode(self, path: Path, tokens: int, threads: int) -> float:
        """Return tokens per second, as llama2.c itself reports them."""
        command = [str(self.program), str(path), "-t", "0", "-n", str(tokens), "-z", str(self.tokenizer)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, check=True, capture_output=True, env=environment)
        return tokens_per_second(done.stderr.decode(errors="replace"))


def tokens_per_second(report: str) -> float:
    """Return the speed in llama2.c's report; raises ValueError when there is none."""
    found = re.search(r"achieved tok/s: ([0-9.]+)", report)
    if not found:
        raise ValueError(f"llama2.c reported no speed: {report[:200]!r}")
    return float(found[1])


def bytes_per_token(path: Path, tied: bool) -> int:
    """Return the bytes of weights that decoding one token reads: all, but a row of an untied embedding."""
    tensors = gguf.read(path).tensors
    return sum(t.data.nbytes for name, t in tensors.items() if tied or name != "token_embd.weight")


def pair(path: Path, threads: int, sequences: int, python: Path, stack: ExitStack) -> dict[str, Worker]:
    """Return both engines with the model open, and warm."""
    arguments = [str(path), "--threads", str(threads), "--context", str(CONTEXT)]
    arguments += ["--sequences", str(sequences)]
    workers = {
        "llama.cpp": stack.enter_context(Worker("llama_cpp_worker.py", *arguments, python=python)),
        "twofold": stack.enter_context(Worker("twofold_worker.py", *arguments)),
    }
    for worker in workers.values():  # the first run reads the file, packs weights, starts threads
        worker.ask("batch", ids=[list(range(8))] * sequences)
    return workers


def measure(shape: Shape, path: Path, threads: int, settings: Settings, floats: Path | None) -> list[str]:
    """Return the cells of one row of the table, without shape and weights."""
    decode_ids = [(31 * i + 17) % VOCAB for i in range(shape.decode_tokens)]
    prefill_ids = [(37 * i + 11) % VOCAB for i in range(PREFILL)]
    batch_ids = [
        [(token + 1009 * number) % VOCAB for token in decode_ids[:BATCH_STEPS]]
        for number in range(settings.batch)
    ]
    size = bytes_per_token(path, shape.tied)

    def speed(worker: Worker, request: str, ids: list[Any], tokens: int) -> Callable[[], float]:
        return lambda: repeated(lambda: float(worker.ask(request, ids=ids)), tokens)

    with ExitStack() as stack:
        workers = pair(path, threads, 1, settings.python, stack)
        sides = {name: speed(side, "decode", decode_ids, len(decode_ids)) for name, side in workers.items()}
        sides["bandwidth"] = lambda: settings.bandwidth(size, threads, 0.3)
        if settings.llama2c and floats:
            rival = settings.llama2c
            sides["llama2.c"] = lambda: rival.decode(floats, shape.decode_tokens, threads)
        decode = take_turns(sides, settings.rounds)
        sides = {name: speed(side, "prefill", prefill_ids, PREFILL) for name, side in workers.items()}
        prefill = take_turns(sides, settings.rounds)
    with ExitStack() as stack:  # processes of their own: a context for several sequences is another one
        workers = pair(path, threads, settings.batch, settings.python, stack)
        count = settings.batch * len(batch_ids[0])
        sides = {name: speed(side, "batch", batch_ids, count) for name, side in workers.items()}
        batch = take_turns(sides, settings.rounds)
    return row(threads, decode, prefill, batch, size)


def repeated(run: Callable[[], float], tokens: int) -> float:
    """Return tokens per second of a run of `tokens` tokens, which returns its seconds; short runs repeat."""
    runs = seconds = 0.0
    while seconds < LEAST_SECONDS:
        seconds += run()
        runs += 1
    return runs * tokens / seconds


def row(
    threads: int,
    decode: dict[str, list[float]],
    prefill: dict[str, list[float]],
    batch: dict[str, list[float]],
    size: int,
) -> list[str]:
    """Return cells from speeds: tokens per second by side; of the bandwidths, bytes/s, the best counts."""

    def against(speeds: dict[str, list[float]], rival: str = "llama.cpp") -> list[str]:
        return [
            figure(statistics.median(speeds[rival])),
            figure(statistics.median(speeds["twofold"])),
            figure(median_ratio(speeds["twofold"], speeds[rival])),
        ]

    shares = [
        figure(size * statistics.median(decode[name]) / max(decode["bandwidth"]))
        for name in ("llama.cpp", "twofold")
    ]
    cells = [str(threads), *against(decode), *shares, *against(prefill), *against(batch)]
    if "llama2.c" in decode:
        speed, _, ratio = against(decode, "llama2.c")
        return [*cells, speed, ratio]
    return [*cells, "-", "-"]


def measure_shape(shape: Shape, types: list[str], settings: Settings, folder: Path) -> list[list[str]]:
    """Return the rows of one shape: a file for each type of weights, then each number of threads."""
    rows = []
    floats = folder / f"{shape.name}.bin" if settings.llama2c else None
    if floats:
        write_llama2c(shape, floats)
    for kind in types:
        path = folder / f"{shape.name}-{kind}.gguf"
        print(f"writing {path.name}", flush=True)
        save_gguf(model(shape), path, kind)
        for threads in settings.threads:
            cells = measure(shape, path, threads, settings, floats if kind == "Q8_0" else None)
            rows.append([shape.name, kind, *cells])
            print("  " + ", ".join(f"{h} {c}" for h, c in zip(HEADER[2:], cells, strict=True)), flush=True)
        path.unlink()
    if floats:
        floats.unlink()
    return rows


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=list(TYPES), help="types of the weights")
    parser.add_argument(
        "--threads", nargs="+", type=int, help="default: 1 and 2, or 1 where there is one core"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default %(default)s)")
    parser.add_argument(
        "--batch", type=int, default=8, help="sequences decoded together (default %(default)s)"
    )
    parser.add_argument(
        "--llama2c",
        type=Path,
        metavar="DIR",
        default=os.environ.get("LLAMA2C"),
        help="a checkout of llama2.c (default: $LLAMA2C); left out otherwise",
    )
    parser.add_argument(
        "--python", help="the Python that has llama-cpp-python (default .venv-bench/bin/python)"
    )
    parser.add_argument("--quick", action="store_true", help="15M in Q8_0 only, 3 rounds: under a minute")
    options = parser.parse_args()
    if options.quick:
        options.shapes, options.types, options.rounds = ["15M"], ["Q8_0"], min(options.rounds, 3)
    options.threads = options.threads or ([1, 2] if machine.cores() > 1 else [1])
    return options


def main() -> None:
    """Measure and print the table."""
    options = parse()
    print(f"machine: {machine.describe()}")
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as name:
        folder = Path(name)
        settings = Settings(
            rounds=options.rounds,
            batch=options.batch,
            threads=tuple(options.threads),
            python=rivals_python(options.python),
            llama2c=Llama2c(options.llama2c, folder) if options.llama2c else None,
            bandwidth=machine.Bandwidth(),
        )
        rows = [
            row
            for shape in options.shapes
            for row in measure_shape(SHAPES[shape], options.types, settings, folder)
        ]
    print(f"\nMedians of {options.rounds} turns each; ratios are medians of the paired ratios.")
    print(f"Batch: {options.batch} sequences together, tokens of all per second.\n")
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
