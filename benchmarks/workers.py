"""Rivals in processes of their own: each side runs in its own Python and answers requests, one JSON line
each.

While one side is measured the other is stopped (SIGSTOP), so that threads which spin for a while after their
work, as those of OpenMP do, cannot take time from it.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).resolve().parent
RIVALS = HERE.parent / ".venv-bench" / "bin" / "python"


def rivals_python(given: str | None = None) -> Path:
    """Return the Python in which llama-cpp-python is installed; exits with a sentence when there is none."""
    python = Path(given) if given else RIVALS
    if not python.exists():
        sys.exit(
            f"{python} does not exist: run benchmarks/rivals.sh first, which builds the rivals (long, once)."
        )
    return python


def rivals_program(name: str, folder: str | None = None) -> Path:
    """Return a program of llama.cpp; exits with a sentence when it is not there."""
    program = (Path(folder) if folder else RIVALS.parent) / name
    if not program.exists():
        sys.exit(
            f"{program} does not exist: run benchmarks/rivals.sh, which builds llama.cpp's programs too."
        )
    return program


class Worker:
    """A side of a comparison: `ask` sends a request and returns the answer. A context manager."""

    def __init__(self, script: str, *arguments: str, python: Path | None = None) -> None:
        command = [str(python or sys.executable), str(HERE / script), *arguments]
        self._command = " ".join(command)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._stopped = False

    def ask(self, request: str, **details: Any) -> Any:
        """Return the answer; the process runs only meanwhile. Raises RuntimeError when it dies."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._signal(stop=False)
        print(json.dumps({"request": request, **details}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._command} died at the request {request}")
        self._signal(stop=True)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise RuntimeError(f"{self._command} said {answer!r} to the request {request}") from error

    def _signal(self, *, stop: bool) -> None:
        if stop != self._stopped:
            os.kill(self._process.pid, signal.SIGSTOP if stop else signal.SIGCONT)
            self._stopped = stop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._signal(stop=False)
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()


def serve(requests: dict[str, Any]) -> None:
    """Answer the requests on standard input until it ends: `requests` maps each name to a function."""
    for line in sys.stdin:
        details = json.loads(line)
        answer = requests[details.pop("request")](**details)
        print(json.dumps(answer), flush=True)
