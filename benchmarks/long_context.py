"""Decoding at the end of a long context: twofold against llama.cpp, 8,192 and 32,768 tokens in.

With so many tokens before it, a token costs as much for the cache of keys and values as for the weights, or
more. Both sides fill their cache up to that place, and then decode some tokens at the end, again and again
from the same place, in turns. llama.cpp runs with its flash attention on (which is what its default comes to
on a CPU) and off, each on a cache of its own in float16, its default; the better one counts.

What fills the cache is not measured and does not matter to what is: random tokens on both sides. twofold
reads all of them; llama.cpp would take an hour for some of these places, so its cache is filled with copies
of the keys and values of 512 tokens, each moved to its place (which decodes as fast as after reading them).

    benchmarks/rivals.sh
    python benchmarks/long_context.py --quick
    python benchmarks/long_context.py --shapes 15M
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import machine
from decode_prefill import TYPES
from pairs import figure, median_ratio, table, take_turns
from shapes import SHAPES, VOCAB, model
from workers import Worker, rivals_python

from twofold.parameters import save_gguf

DEPTHS = {"15M": (8192, 32768), "110M": (8192, 32768), "1.1B": (8192,)}
STEPS = {"15M": 32, "110M": 24, "1.1B": 16}  # tokens decoded in a turn
PIECE = 512  # tokens that llama.cpp reads and copies; so much is left at the end of the context, too
LLAMA_CPP = ("llama.cpp, flash attention on", "llama.cpp, off")
SIDES = (*LLAMA_CPP, "twofold")
HEADER = [
    "shape", "weights", "threads", "tokens before", *(f"{name}, tok/s" for name in SIDES),
    "ratio to the better",
]  # fmt: skip


def better(speeds: dict[str, list[float]]) -> str:
    """Return the name of llama.cpp's faster side."""
    return max(LLAMA_CPP, key=lambda name: statistics.median(speeds[name]))


def row(threads: int, depth: int, speeds: dict[str, list[float]]) -> list[str]:
    """Return the cells of a row, without shape and weights."""
    return [
        str(threads),
        f"{depth:,}",
        *(figure(statistics.median(speeds[name])) for name in SIDES),
        figure(median_ratio(speeds["twofold"], speeds[better(speeds)])),
    ]


def copies(depth: int) -> int:
    """Return how many pieces fill the cache up to `depth`."""
    return -(-depth // PIECE)


def measure(
    path: Path, depth: int, steps: int, threads: int, rounds: int, python: Path
) -> dict[str, list[float]]:
    """Return tokens per second of each side, `depth` tokens into the context."""
    before = [(37 * i * i + 101 * i + 11) % VOCAB for i in range(depth)]
    after = [(31 * i + 17) % VOCAB for i in range(steps)]
    arguments = (str(path), "--threads", str(threads), "--context", str(depth + PIECE))
    one_cache = ("--unified", "--sequences", str(copies(depth) + 1))
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                Worker("llama_cpp_worker.py", *arguments, *one_cache, "--flash", flash, python=python)
            )
            for name, flash in zip(LLAMA_CPP, ("on", "off"), strict=True)
        }
        workers["twofold"] = stack.enter_context(Worker("twofold_worker.py", *arguments))
        for name in LLAMA_CPP:
            workers[name].ask("pile_up", ids=before[:PIECE], depth=depth)
        seconds = float(workers["twofold"].ask("fill", ids=before))
        print(f"  twofold reads {depth:,} tokens in {seconds:.1f} s", flush=True)
        for worker in workers.values():
            worker.ask("decode", ids=after, start=depth)  # not counted: the first in this place

        def speed(worker: Worker) -> Callable[[], float]:
            return lambda: steps / float(worker.ask("decode", ids=after, start=depth))

        return take_turns({name: speed(worker) for name, worker in workers.items()}, rounds)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--types", nargs="+", choices=TYPES, default=["Q8_0"], help="types of the weights")
    parser.add_argument(
        "--depths", nargs="+", type=int, help="tokens before (default: 8192 32768, at 1.1B 8192 only)"
    )
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[machine.cores()], help="default: all cores"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side (default %(default)s)")
    parser.add_argument(
        "--python", help="the Python that has llama-cpp-python (default .venv-bench/bin/python)"
    )
    parser.add_argument("--quick", action="store_true", help="15M, 2,048 tokens in: under a minute")
    options = parser.parse_args()
    if options.quick:
        options.shapes, options.depths = ["15M"], [2048]
    return options


def main() -> None:
    """Measure and print the table."""
    options = parse()
    python = rivals_python(options.python)
    print(f"machine: {machine.describe()}", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="twofold-long-") as folder:
        for name in options.shapes:
            depths = options.depths or DEPTHS[name]
            shape = replace(SHAPES[name], context=max(depths) + PIECE)
            for kind in options.types:
                path = Path(folder) / f"{name}-{kind}.gguf"
                save_gguf(model(shape), path, kind)
                for threads in options.threads:
                    for depth in depths:
                        print(f"{name} {kind}, {threads} threads", flush=True)
                        speeds = measure(path, depth, STEPS[name], threads, options.rounds, python)
                        rows.append([name, kind, *row(threads, depth, speeds)])
                        print(f"  {rows[-1]}", flush=True)
                path.unlink()
    print(f"\nMedians of {options.rounds} turns each; ratios are medians of the paired ratios.\n")
    print(table(HEADER, rows))


if __name__ == "__main__":
    main()
