"""How many tokens does a server give to many clients at once, and how long does each wait?

    python benchmarks/serving.py [--shape 15M | --model FILE.gguf] [--clients 1 8 32] [--threads 2] [--quick]

`twofold serve` and llama-server with the same GGUF file, as many threads and as many places as there are
clients. Each client asks again and again (OpenAI's streaming completions, a prompt of 64 tokens of its own,
128 tokens to write, temperature 0.8, top-k 40), all at once. The sides take turns; while one is measured the
other is stopped (SIGSTOP). Throughput: tokens of all clients per second, median of the paired ratios. First:
from asking to the first piece of text. Between: from a token to the next, which is nothing for tokens that
come in one piece.

Shared prefix: prompts that begin with the same 1,000 tokens, one after the other; the time to the first piece
of the first (cold), and of those that follow (warm).
"""

import argparse
import asyncio
import dataclasses
import itertools
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from machine import describe
from pairs import figure, median_ratio, table
from shapes import SHAPES, model
from workers import rivals_program

from twofold.parameters import load, save_gguf

SAYS = re.compile(rb'"text": ?"[^"]')  # a piece that says something
MADE = re.compile(rb'"completion_tokens": ?(\d+)')
CONTEXT, PROMPT, WRITE, PREFIX = 2048, 64, 128, 1000


class Server:
    """A server of one model in a process of its own. A context manager."""

    def __init__(self, command: list[str], port: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the server is)
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)
        self.port = port

    async def ready(self) -> None:
        """Wait until it answers."""
        for _ in range(600):
            try:
                if len(await ask(self.port, [1, 2, 3], 2)) > 1:
                    return
            except (OSError, RuntimeError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.2)
            if self._process.poll() is not None:
                break
        self._log.seek(0)
        sys.exit("The server did not come up:\n" + self._log.read().decode(errors="replace")[-2000:])

    def run(self, go: bool) -> None:
        """Let it run, or stop it."""
        self._process.send_signal(signal.SIGCONT if go else signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(True)
        self._process.terminate()
        self._process.wait()


async def ask(port: int, ids: list[int], write: int) -> list[float]:
    """Return when the request was sent and when each token of the answer came. Raises RuntimeError."""
    body = json.dumps(
        {
            "prompt": ids, "max_tokens": write, "stream": True, "temperature": 0.8, "top_k": 40,
            "top_p": 1.0, "min_p": 0.0, "seed": ids[0], "stream_options": {"include_usage": True},
        }
    ).encode()  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    made, times = 0, [time.perf_counter()]
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError((status + await reader.read(2000)).decode(errors="replace"))
    while await reader.readline() not in (b"\r\n", b""):
        pass
    while size := int(await reader.readline() or b"0", 16):
        events = await reader.readexactly(size + 2)
        now = time.perf_counter()
        times += [now] * len(SAYS.findall(events))
        if found := MADE.search(events):
            made = int(found[1])
    writer.close()
    # Of tokens that came in one piece all but one are put beside the last: which piece does not matter here.
    return times + times[-1:] * (made + 1 - len(times))


@dataclasses.dataclass
class Load:
    """What a round of many clients came to: tokens per second, and waits in seconds."""

    rate: float
    first: list[float]
    between: list[float]


async def load_of(server: Server, clients: int, rounds: int, seed: int) -> Load:
    """Return what it is like when so many clients ask so many times each."""
    chance, first, between, made = random.Random(seed), [], [], 0

    async def client() -> None:
        nonlocal made
        for _ in range(rounds):
            times = await ask(server.port, chance.choices(range(258, 31000), k=PROMPT), WRITE)
            first.append(times[1] - times[0])
            between.extend(b - a for a, b in itertools.pairwise(times[1:]))
            made += len(times) - 1

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(made / (time.perf_counter() - start), first, between)


async def shared_prefix(server: Server, seed: int) -> tuple[float, float]:
    """Return the seconds to the first piece when the prefix is new, and the median when it is known."""
    chance = random.Random(seed)
    prefix = chance.choices(range(258, 31000), k=PREFIX)
    waits = []
    for _ in range(6):
        times = await ask(server.port, prefix + chance.choices(range(258, 31000), k=16), 4)
        waits.append(times[1] - times[0])
    return waits[0], statistics.median(waits[1:])


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def servers(file: Path, clients: int, options: argparse.Namespace) -> dict[str, Server]:
    """Return both servers, started."""
    threads = options.threads
    ours, theirs = free_port(), free_port()
    context = min(CONTEXT, load(file).config.context)
    twofold = [sys.executable, "-m", "twofold", "serve", str(file), "--port", str(ours)]
    twofold += ["--threads", str(threads), "--slots", str(clients), "--context", str(context)]
    rival = [str(rivals_program("llama-server", options.programs)), "-m", str(file), "--port", str(theirs)]
    rival += ["-t", str(threads), "-tb", str(threads), "-np", str(clients), "-c", str(context * clients)]
    rival += ["--no-webui", *options.rival.split()]
    return {"twofold": Server(twofold, ours), "llama-server": Server(rival, theirs)}


async def compare(file: Path, clients: int, options: argparse.Namespace) -> tuple[list[object], list[object]]:
    """Return a row on many clients and one on the shared prefix."""
    both = servers(file, clients, options)
    found: dict[str, list[Load]] = {name: [] for name in both}
    prefix: dict[str, list[tuple[float, float]]] = {name: [] for name in both}
    with both["twofold"], both["llama-server"]:
        for server in both.values():
            await server.ready()
            await load_of(server, clients, 1, 0)
            server.run(False)
        for turn in range(options.rounds):
            names = list(both)[:: -1 if turn % 2 else 1]
            for name in names:
                both[name].run(True)
                found[name].append(await load_of(both[name], clients, options.asks, turn + 1))
                prefix[name].append(await shared_prefix(both[name], turn + 1))
                both[name].run(False)
    rates = [[load.rate for load in found[name]] for name in both]
    row: list[object] = [clients, *(figure(statistics.median(r)) for r in rates)]
    row.append(f"{median_ratio(*rates):.2f}")
    for waits in ("first", "between"):
        for name in both:
            every = sorted(wait for load in found[name] for wait in getattr(load, waits))
            middle, last = every[len(every) // 2], every[int(len(every) * 0.99)]
            row.append(f"{figure(1e3 * middle)} / {figure(1e3 * last)}")
    warm = [figure(1e3 * statistics.median(t[1] for t in prefix[name])) for name in both]
    share = [f"{100 * statistics.median(t[1] / t[0] for t in prefix[name]):.0f} %" for name in both]
    return row, [clients, *warm, *share]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(SHAPES), default="15M")
    parser.add_argument("--model", type=Path, help="a GGUF file with a vocabulary of 32,000 or more")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--asks", type=int, default=3, help="of each client in a round")
    parser.add_argument("--programs", help="the folder of llama-server")
    crash = "such as --rival=--no-repack where its kernels for AMX crash, as on some virtual machines"
    parser.add_argument("--rival", default="", help=f"more options of llama-server, in one text, {crash}")
    parser.add_argument("--quick", action="store_true", help="one round")
    options = parser.parse_args()
    options.rounds = 1 if options.quick else options.rounds
    print(describe() + (f"; llama-server with {options.rival}" if options.rival else ""))
    rows, shared = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = options.model
        if file is None:
            file = Path(folder) / "model.gguf"
            save_gguf(model(dataclasses.replace(SHAPES[options.shape], context=CONTEXT)), file, "Q8_0")
        for clients in options.clients:
            row, more = asyncio.run(compare(file, clients, options))
            rows.append(row)
            shared.append(more)
    sides = ["twofold", "llama-server"]
    header = ["clients", *(f"{side}, tokens/s" for side in sides), "ratio"]
    header += [f"{what}, {side}: ms, median / p99" for what in ("first", "between") for side in sides]
    print(table(header, rows))
    header = ["places", *(f"{side}, warm: ms" for side in sides), *(f"{side}, warm / cold" for side in sides)]
    print(table(header, shared))


if __name__ == "__main__":
    main()
