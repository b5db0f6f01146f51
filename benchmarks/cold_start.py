"""Cold start and peak memory: run.c as a program against llama.cpp's programs, on three shapes with random
weights.

Cold start: from the start of the process to the first byte of the answer on its standard output, with a short
prompt. The process is cold (nothing of it is kept running), the file is warm (in the page cache, as it is for
whoever asks twice). Peak memory: the most that the process has resident while it reads a prompt of 512 tokens
and writes 16; the pages of the mapped file that it has touched count, for both.

llama.cpp has two programs that take a prompt from the command line. `llama-cli` is the one its users are told
to take; in this version it starts a server inside itself and talks to that. `llama-completion` is the lean
one, and without its warm-up run the leanest. All get the same text as the same tokens: llama-cli, which knows
only conversations, by a template that adds nothing. What is printed of a prompt does not count as answer.

    benchmarks/rivals.sh
    python benchmarks/cold_start.py --quick
    python benchmarks/cold_start.py
"""

import argparse
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import machine
from decode_prefill import TYPES
from pairs import figure, median_ratio, table, take_turns
from shapes import SHAPES, model
from workers import rivals_program

from twofold.parameters import save_gguf
from twofold.run import library

PROMPT = "Once upon a time"  # the random models have a token for each byte
LONG_PROMPT = (PROMPT + ", ") * 40
LONG = 512
FEW, SOME = 4, 16  # tokens to write; more than one, because llama-completion may lose the last when it ends
PLAIN = "{% for message in messages %}{{ message.content }}{% endfor %}"
RIVALS = ("llama-cli", "llama-completion", "llama-completion --no-warmup")
SIDES = (*RIVALS, "twofold")
HEADER = [
    "shape", "weights", "threads", *(f"{name}, ms to the first token" for name in SIDES),
    "times faster than llama-cli", "than the fastest of them",
]  # fmt: skip
MEMORY_HEADER = [
    "shape", "weights", "file, MiB", *(f"{name}, MiB at most" for name in (*RIVALS[:2], "twofold")),
    *(f"{name}, share of the file" for name in (*RIVALS[:2], "twofold")),
]  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What first_byte.c says of one process: seconds to the first byte of the answer, and peak memory."""

    first_s: float
    peak_bytes: int


class Programs:
    """The programs to compare, and the one that watches them; run.c and the watcher are compiled here."""

    def __init__(self, folder: Path, bin_folder: str | None) -> None:
        self.watcher = machine.compile_c(machine.HERE / "first_byte.c", folder / "first_byte")
        self.twofold = machine.compile_c(library.source(), folder / "run", "-pthread")
        self.rivals = {
            name: rivals_program(name, bin_folder) for name in {side.split()[0] for side in RIVALS}
        }

    def command(self, side: str, path: Path, prompt: str, tokens: int, threads: int) -> list[str]:
        """Return the command line of a side."""
        asked = ["-p", prompt, "-n", str(tokens), "-t", str(threads), "--temp", "0"]
        if side == "twofold":
            return [str(self.twofold), str(path), *asked]
        name, *extra = side.split()
        alone = ["-st", "--chat-template", PLAIN] if name == "llama-cli" else ["-no-cnv"]
        return [str(self.rivals[name]), "-m", str(path), *asked, *alone, *extra]

    def run(self, command: list[str], mark: str) -> Run:
        """Return how a command did; its answer begins behind `mark`.

        llama-completion may, one time in hundreds, lose all of its answer when it ends: then it runs again.
        """
        for tries_left in (2, 1, 0):
            done = subprocess.run([str(self.watcher), mark, *command], stdout=subprocess.PIPE, text=True)
            if done.returncode == 0 or not tries_left:
                break
        done.check_returncode()
        return report(done.stdout)

    def cold_start(self, side: str, path: Path, threads: int) -> float:
        """Return the seconds to the first byte of a side's answer."""
        mark = PROMPT + "\n" * (side == "llama-cli")  # which shows the prompt on a line of its own
        return self.run(self.command(side, path, PROMPT, FEW, threads), mark).first_s

    def peak(self, side: str, path: Path, threads: int) -> int:
        """Return the most bytes that a side has resident, reading a long prompt and writing a little."""
        command = self.command(side, path, LONG_PROMPT[:LONG], SOME, threads)
        return self.run(command, "").peak_bytes


def report(line: str) -> Run:
    """Return what first_byte.c printed."""
    first, _, peak = line.split()
    return Run(float(first), int(peak))


def row(threads: int, seconds: Mapping[str, list[float]]) -> list[str]:
    """Return the cells of a row of the first table, without shape and weights, from each side's seconds."""
    ratios = {name: median_ratio(seconds[name], seconds["twofold"]) for name in RIVALS}
    return [
        str(threads),
        *(figure(1000 * statistics.median(seconds[name])) for name in SIDES),
        figure(ratios["llama-cli"]),
        figure(min(ratios.values())),
    ]


def memory_row(file_bytes: int, peaks: Mapping[str, int]) -> list[str]:
    """Return the cells of a row of the second table, without shape and weights."""
    sizes = [file_bytes, *peaks.values()]
    return [
        *(figure(size / 2**20) for size in sizes),
        *(figure(peak / file_bytes) for peak in peaks.values()),
    ]


def measure(programs: Programs, path: Path, options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """Return a file's rows of the first table, one for each number of threads, and its row of the second."""
    os.sync()  # or the file would be written to the disk while the clock runs
    rows = []
    for threads in options.threads:

        def cold(side: str, threads: int = threads) -> Callable[[], float]:
            return lambda: programs.cold_start(side, path, threads)

        sides = {side: cold(side) for side in SIDES}
        for start in sides.values():  # the programs themselves come into the page cache
            start()
        rows.append(row(threads, take_turns(sides, options.rounds)))
    most = max(options.threads)
    peaks = {side: programs.peak(side, path, most) for side in (*RIVALS[:2], "twofold")}
    return rows, memory_row(path.stat().st_size, peaks)


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
    parser.add_argument("--rounds", type=int, default=7, help="turns of each side (default %(default)s)")
    parser.add_argument(
        "--bin", metavar="DIR", help="where llama.cpp's programs are (default .venv-bench/bin)"
    )
    parser.add_argument("--quick", action="store_true", help="15M in Q8_0 only: some seconds")
    options = parser.parse_args()
    if options.quick:
        options.shapes, options.types = ["15M"], ["Q8_0"]
    options.threads = options.threads or ([1, 2] if machine.cores() > 1 else [1])
    return options


def main() -> None:
    """Measure and print both tables."""
    options = parse()
    print(f"machine: {machine.describe()}", flush=True)
    rows, memory = [], []
    with tempfile.TemporaryDirectory(prefix="twofold-cold-") as name:
        programs = Programs(Path(name), options.bin)
        for shape in options.shapes:
            for kind in options.types:
                path = Path(name) / f"{shape}-{kind}.gguf"
                save_gguf(model(SHAPES[shape]), path, kind)
                starts, peak = measure(programs, path, options)
                path.unlink()
                rows += [[shape, kind, *cells] for cells in starts]
                memory.append([shape, kind, *peak])
                print(f"  {shape} {kind}: {starts}, {peak}", flush=True)
    print(f"\nCold start: medians of {options.rounds} turns each; the ratios are medians of paired ratios.\n")
    print(table(HEADER, rows))
    print(f"\nPeak memory, {LONG} tokens read and {SOME} written on {max(options.threads)} threads.\n")
    print(table(MEMORY_HEADER, memory))


if __name__ == "__main__":
    main()
