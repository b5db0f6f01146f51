"""A program of its own that runs a command in the sandbox and sees that it keeps within its limits.

Three walls stand behind each other. The innermost is sandlock: Landlock, seccomp, and a supervisor for what
those two cannot say. Around it are namespaces, in which there is nothing but what the command was given, and
no capabilities (_walls.py). This process stands outside of both and counts what all processes of the command
use together, which the system's limits do not; when it is too much, when the command is over, or when twofold
itself ends, the first process of the namespaces is ended, and the system ends all others with it, at once.

The plan comes as JSON on standard input; the end goes as JSON to the descriptor that the plan names. Output
of the command goes to standard output and error.
"""

import contextlib
import ctypes
import json
import math
import os
import signal
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.devices import _walls

_LOOK_S = 0.05  # between two looks at what is used
_LOOK_AT_DISK_S = 0.2
_MOST_FILES = 200_000
_PER_FILE = 512  # what a file takes of the disk for its name and dates, about
_PER_SOCKET = 1 << 19  # what can wait in a socket, which is counted nowhere else
_PER_PIPE = 1 << 16
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_PR_SET_PDEATHSIG = 1


@dataclass
class Usage:
    """What all processes of a command use together."""

    threads: int = 0
    memory_bytes: int = 0
    cpu_s: float = 0.0
    deleted_bytes: int = 0  # in files that are still open and have no name any more


def descendants(root: int) -> Iterator[tuple[int, list[str]]]:
    """Yield process id and /proc/PID/stat (its fields from the state on) of all that `root` has started."""
    pending = _children(root)
    while pending:
        process = pending.pop()
        with contextlib.suppress(OSError):
            yield (
                process,
                Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split(),
            )
            pending += _children(process)


def _children(process: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{process}/task/{task}/children").read_text().split())
    return found


def used(first: int) -> Usage:
    """Return what everything below the first process uses now."""
    found = Usage()
    opened: dict[tuple[int, int], os.stat_result] = {}
    for process, fields in descendants(first):
        found.cpu_s += sum(map(int, fields[11:15])) / _TICK  # its own, and of children it has waited for
        found.threads += int(fields[17])
        with contextlib.suppress(OSError, ValueError):
            found.memory_bytes += _memory(process)
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{process}/fd"):
                with contextlib.suppress(OSError):
                    state = os.stat(f"/proc/{process}/fd/{name}")
                    opened[state.st_dev, state.st_ino] = state
    for state in opened.values():
        if stat.S_ISREG(state.st_mode) and not state.st_nlink:
            found.deleted_bytes += state.st_blocks * 512
        elif stat.S_ISSOCK(state.st_mode):
            found.memory_bytes += _PER_SOCKET
        elif stat.S_ISFIFO(state.st_mode):
            found.memory_bytes += _PER_PIPE
    return found


def _memory(process: int) -> int:
    # Proportional where the system says it, so that what processes share counts once.
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE


def taken(folders: list[str]) -> float:
    """Return how many bytes of disk the files below these folders take.

    Infinite where they cannot be counted: too many, too deep, or in a folder that was closed to us.
    """
    total, count = 0, 0
    pending = list(folders)
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        state = entry.stat(follow_symlinks=False)
                        total += state.st_blocks * 512 + _PER_FILE
                        count += 1
                        if stat.S_ISDIR(state.st_mode):
                            pending.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            return math.inf
        if count > _MOST_FILES:
            return math.inf
    return total


def watch(first: int, limits: Mapping[str, int], folders: list[str], before: float) -> str:
    """Return why the first process ended, once it has: exited, or the limit for which it was ended."""
    began = last_look = time.monotonic()
    disk = cpu_s = pause = 0.0
    while os.waitpid(first, os.WNOHANG)[0] == 0:
        time.sleep(max(_LOOK_S, pause))
        now, use = time.monotonic(), used(first)
        if now - last_look > _LOOK_AT_DISK_S:
            disk = taken(folders) - before
            last_look = time.monotonic()
        pause = time.monotonic() - now  # a look that takes long does not keep a processor busy
        cpu_s = max(cpu_s, use.cpu_s)
        passed = [
            name
            for name, past in (
                ("time", now - began > limits["seconds"]),
                ("cpu", cpu_s > limits["cpu_s"]),
                ("memory", use.memory_bytes > limits["memory_bytes"]),
                ("disk", disk + use.deleted_bytes > limits["disk_bytes"]),
                ("processes", use.threads > limits["threads"]),
            )
            if past
        ]
        if passed:
            os.kill(first, signal.SIGKILL)
            os.waitpid(first, 0)
            return passed[0]
    return "exited" if taken(folders) - before <= limits["disk_bytes"] else "disk"


def inside(plan: Mapping[str, Any]) -> None:
    """Run the command, as the first process of new namespaces; tell its end to the descriptor `status`."""
    end: dict[str, Any] = {"exit": None, "trouble": ""}
    try:
        _walls.furnish(plan["root"], plan["readable"], plan["writable"], plan["files"])
        _walls.limit(plan["limits"])
        _walls.give_up_capabilities()
        end["exit"] = _sandlocked(plan)
    except Exception as error:
        end["trouble"] = f"{type(error).__name__}: {error}"
    os.write(plan["status"], json.dumps(end).encode())


def _sandlocked(plan: Mapping[str, Any]) -> int:
    from sandlock import Sandbox, StdioMode

    limits = plan["limits"]
    writable = [*plan["writable"], "/dev/shm", "/dev/null", "/dev/zero", "/dev/full"]
    sandbox = Sandbox(
        fs_readable=["/"], fs_writable=writable, cwd=plan["cwd"], name="sandbox",
        clean_env=True, env=plan["environment"], extra_deny_syscalls=plan["denied"],
        max_memory=limits["memory_bytes"], max_processes=limits["processes"],
    )  # fmt: skip
    with sandbox.popen(
        plan["command"], stdin=StdioMode.NULL, stdout=StdioMode.INHERIT, stderr=StdioMode.INHERIT
    ) as process:
        result = process.wait()
    if result.error:
        raise RuntimeError(result.error)
    by = result.signal if result.signal > 0 else signal.SIGKILL if result.exit_code < 0 else 0
    return 128 + by if by else int(result.exit_code)


def main() -> int:
    """Run the plan on standard input."""
    plan = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.set_inheritable(plan["status"], False)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != plan["parent"]:
        return 1  # it ended before we could ask to be told
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.nice(5)
    import sandlock  # noqa: F401 - while its files can be seen

    before = taken(plan["counted"])
    try:
        if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
            raise OSError(
                "this kernel does not tell which processes a process has started (CONFIG_PROC_CHILDREN)"
            )
        first = _walls.apart(lambda: inside(plan))
    except OSError as error:
        os.write(plan["status"], json.dumps({"exit": None, "trouble": f"OSError: {error}"}).encode())
        return 1
    ended = watch(first, plan["limits"], plan["counted"], before)
    os.write(plan["status"], b"\n" + json.dumps({"ended": ended}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
