"""Ten thousand requests, and clients that leave, dawdle or send 100 MB: the server's memory stays flat.

    python tests/soak/serve_leaks.py [--requests 10000]

A server of its own process answers a tiny random model: good requests of every family, refused ones, streams
that are left in the middle, all from eight clients at once; and rude clients, among which a good one must be
answered as before: bodies of 100 MB (with a length, and in chunks), heads and bodies that never end, streams
that nobody reads. After a tenth of the requests and one round of rude clients, when caches are full, its
memory is noted, and again after the rest and two more rounds. Then nothing may be running or waiting, the
memory may have grown by 8 MB at most, and no files or threads may be left open. Prints a table. Exit code 1
if anything was not so. Takes a few minutes.
"""

import argparse
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "parameters"))
from tiny_models import random_model

from twofold import parameters

USER = [{"role": "user", "content": "Who are you?"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": USER, "max_tokens": 8, "stream": True}),
    (
        "/v1/chat/completions",
        {"messages": USER, "max_tokens": 8, "n": 2, "logprobs": True, "top_logprobs": 8},
    ),
    (
        "/v1/chat/completions",
        {"messages": USER, "tools": [TOOL], "tool_choice": "required", "max_tokens": 40},
    ),
    ("/v1/completions", {"prompt": "Once", "max_tokens": 8, "echo": True, "logprobs": 1}),
    ("/v1/responses", {"input": "Who are you?", "max_output_tokens": 8}),
    ("/v1/embeddings", {"input": ["Who", "are you?"]}),
    ("/v1/messages", {"messages": USER, "max_tokens": 8, "stream": True}),
    ("/api/chat", {"model": "small", "messages": USER, "format": SCHEMA, "options": {"num_predict": 40}}),
    ("/api/generate", {"model": "small", "prompt": "Who?", "options": {"num_predict": 8}}),
    ("/v1/chat/completions", {"messages": "nobody"}),
    ("/v1/messages", {"messages": USER}),
]
LONG = {
    "type": "json_schema",
    "json_schema": {"name": "long", "schema": {"type": "string", "minLength": 9999}},
}
ENDLESS = {"messages": USER, "stream": True, "response_format": LONG}


class Server:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.address = (httpx.URL(url).host, httpx.URL(url).port or 80)

    def holds(self) -> tuple[float, int, int]:
        """Return its memory in MB, its open files and its threads."""
        folder = Path(f"/proc/{self.process.pid}")
        resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return resident / 1e6, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir()))

    def busy(self) -> float:
        """Return how many requests are running or waiting."""
        text = httpx.get(f"{self.url}/metrics").text
        values = re.findall(r'figure="(?:running|waiting)".*} ([\d.e+]+)', text)
        return sum(map(float, values))


@contextmanager
def started(model: Path) -> Iterator[Server]:
    """Serve `model` for the length of a block."""
    command = [sys.executable, "-m", "twofold", "serve", str(model), "--port", "0", "-t", "1"]
    command += ["--set", "patience_s=3", "--set", "grace_s=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found, "the server did not start"
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield Server(process, found[0])
        finally:
            process.terminate()
            process.wait(20)


def main() -> None:
    """Ask, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    rows, faults = [], []
    with TemporaryDirectory() as name:
        path = Path(name) / "small.gguf"
        parameters.save_gguf(random_model("qwen3", context=1024), path, "F32")
        with started(path) as server:
            begun = time.monotonic()
            ask(server, options.requests // 10, faults)
            rude(server, faults)
            first = note(server, rows, f"after {options.requests // 10:,} requests and rude clients")
            ask(server, options.requests - options.requests // 10, faults)
            note(server, rows, f"after {options.requests:,} requests")
            rude(server, faults)
            rude(server, faults)
            last = note(server, rows, "after two more rounds of rude ones")
            if server.busy():
                faults.append(f"{server.busy():g} requests are still running or waiting")
            seconds = time.monotonic() - begun
    if last[0] > first[0] + 8:
        faults.append(f"the memory grew from {first[0]:.0f} to {last[0]:.0f} MB")
    if last[1] > first[1] + 4 or last[2] > first[2] + 8:
        faults.append(f"files and threads grew from {first[1:]} to {last[1:]}")
    table = Table("", "memory, MB", "open files", "threads", box=None)
    for label, (memory, files, threads) in rows:
        table.add_row(label, f"{memory:.1f}", str(files), str(threads))
    console = Console(width=110)
    console.print(table)
    for fault in faults:
        console.print(fault, markup=False)
    console.print(f"{options.requests / seconds:.0f} requests/s, {len(faults)} faults.")
    sys.exit(bool(faults))


def note(server: Server, rows: list[Any], label: str) -> tuple[float, int, int]:
    """Note what the server holds once it is at rest."""
    end = time.monotonic() + 20
    while server.busy() and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1.0)
    rows.append((label, server.holds()))
    return server.holds()


def ask(server: Server, count: int, faults: list[str]) -> None:
    """Ask so many requests from eight clients; every eleventh stream is left in the middle."""
    asked = itertools.islice(itertools.cycle(enumerate(ASKED)), count)
    lock = threading.Lock()

    def client() -> None:
        with httpx.Client(base_url=server.url, timeout=120) as http:
            while True:
                with lock:
                    number, (path, body) = next(asked, (0, ("", {})))
                if not path:
                    return
                answer = http.post(path, json=body)
                wanted = 400 if number >= len(ASKED) - 2 else 200
                if answer.status_code != wanted:
                    faults.append(f"{path}: status {answer.status_code}: {answer.text[:200]}")
                if number == 0:
                    leave(server)

    with ThreadPoolExecutor(8) as pool:
        for one in [pool.submit(client) for _ in range(8)]:
            one.result()


def leave(server: Server) -> None:
    """Begin a long stream, and go."""
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=ENDLESS, timeout=120) as answer:
        for _, _ in zip(range(3), answer.iter_lines(), strict=False):
            pass


def rude(server: Server, faults: list[str]) -> None:
    """Let clients misbehave, all at once; a good one must be served meanwhile."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    body = json.dumps({**ENDLESS, "n": 8}).encode()
    sent = [
        head + b"Content-Length: 100000000\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n",
        head[:30],
        head + b"Content-Length: 10\r\n\r\n{",
        head + b"Content-Length: %d\r\n\r\n" % len(body) + body,
    ]

    def misbehave(number: int) -> None:
        with socket.create_connection(server.address, timeout=60) as wire:
            wire.sendall(sent[number])
            chunk = b"x" * 65536 if number == 0 else b"10000\r\n" + b"x" * 65536 + b"\r\n"
            try:
                for _ in range(1526 if number < 2 else 0):  # 100 MB
                    wire.sendall(chunk)
                if number == 4:
                    time.sleep(8)  # and reads nothing
                while wire.recv(65536):
                    pass
            except OSError:
                return  # hung up on

    with ThreadPoolExecutor(16) as pool:
        leaving = [pool.submit(misbehave, number % len(sent)) for number in range(15)]
        for _ in range(20):
            good = httpx.post(f"{server.url}/v1/chat/completions", json=ASKED[1][1], timeout=60)
            if good.status_code != 200:
                faults.append(f"among rude clients a good one got {good.status_code}: {good.text[:200]}")
        for one in leaving:
            one.result()


if __name__ == "__main__":
    main()
