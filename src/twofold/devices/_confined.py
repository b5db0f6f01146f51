"""Parsers of foreign bytes run apart: in a process of their own, with little time and memory.

A PDF can keep its reader busy for hours, and a drawing can ask for a gigabyte; neither must take the kernel
along. The process is this Python, started anew with nothing but a function's name and the bytes; it may use
so many seconds of processor, so much memory, and write no files. It is not a sandbox against a parser that
has been taken over: for code there is the sandbox of devices/terminal.py.
"""

import json
import subprocess
import sys
from typing import Any

from twofold.base.errors import TwofoldError

_PROGRAM = """
import json, sys
order = json.loads(sys.stdin.buffer.readline())
sys.path[:] = order["path"]
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (order["seconds"], order["seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, ValueError, OSError):
    pass
import importlib
data = sys.stdin.buffer.read()
sys.stdout, out = sys.stderr, sys.stdout.buffer
module, _, name = order["function"].rpartition(".")
try:
    result = getattr(importlib.import_module(module), name)(data, **order["arguments"])
except MemoryError:
    result = {"error": "it needs too much memory"}
if isinstance(result, bytes):
    out.write(b"\\0" + result)
else:
    out.write(json.dumps(result).encode())
"""
_MEMORY = 2 << 30


class ConfinedError(TwofoldError):
    """The work was not done in time, needed too much memory, or broke its process; a few words say which."""


def run(function: str, data: bytes, *, seconds: int = 20, memory: int = _MEMORY, **arguments: Any) -> Any:
    """Return what a function of ours returns for `data`: bytes, or what JSON can hold.

    `function`: its dotted name; it takes bytes and the arguments. Raises ConfinedError.
    """
    order = {
        "path": sys.path, "function": function, "seconds": seconds, "memory": memory, "arguments": arguments,
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", _PROGRAM],
            input=json.dumps(order).encode() + b"\n" + data,
            capture_output=True,
            timeout=seconds * 3 + 10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConfinedError("it takes too long") from None
    except OSError as error:
        raise ConfinedError(f"no process can be started for it ({error.strerror})") from None
    if done.returncode:
        late = -done.returncode in (24, 9)  # SIGXCPU, SIGKILL
        raise ConfinedError("it takes too long" if late else "its reader breaks down over it")
    if done.stdout[:1] == b"\0":
        return done.stdout[1:]
    return json.loads(done.stdout)
