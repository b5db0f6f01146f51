"""Running a command in the sandbox: what it may see, its limits, its output; and the proof that the walls
stand.

The walls themselves are in _guard.py. Before the first command of this process a short attack is run inside:
it reads a file outside, writes one, asks for the network and signals this process. If any of it works, or the
system lacks what the walls are made of, no command is run at all.
"""

import contextlib
import functools
import importlib.util
import json
import os
import selectors
import site
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.kernel.device import DeviceError

LEAST_LANDLOCK = 6  # signals and abstract sockets are within its reach from here on
LIMITS = {
    "seconds": 60, "cpu_s": 120, "memory_bytes": 2 << 30, "processes": 64, "disk_bytes": 512 << 20,
    "threads": 1024, "open_files": 512, "output_bytes": 64 << 10,
}  # fmt: skip

# What programs need, and nothing that is anybody's: of /etc only what every user of every machine may know.
_HOME = "/user"
_PROGRAMS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/nix/store")
_SYSTEM = (
    "/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/protocols", "/etc/services",
    "/etc/timezone",
    "/sys/devices/system/cpu",
)  # fmt: skip
# Denied on top of sandlock's own list: memory that no limit counts, and what only debuggers need.
_DENIED = (
    "memfd_create", "memfd_secret", "process_vm_readv", "pidfd_getfd", "kcmp", "fanotify_init", "quotactl",
    "acct", "syslog", "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "vhangup", "chroot",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a command ended. ended: exited, or the limit that ended it: time, cpu, memory, disk, processes;
    cancelled. exit: its status where it exited; 128 + n after signal n."""

    ended: str
    exit: int
    output: str
    output_bytes: int
    seconds: float


def refusal() -> str:
    """Return why no command can be run safely on this machine, one sentence; "" when it can."""
    if sys.platform != "linux":
        return f"Commands run only in a sandbox, and on {sys.platform} there is none; use Linux."
    if importlib.util.find_spec("sandlock") is None:
        return "Commands run only in a sandbox, and it needs the extra [os]: run `pip install 'twofold[os]'`."
    import sandlock

    version = sandlock.landlock_abi_version()
    if version < LEAST_LANDLOCK:
        found = "has no Landlock" if version < 1 else f"has Landlock {version}"
        needed = f"Landlock {LEAST_LANDLOCK} (Linux 6.12)"
        return f"Commands run only in a sandbox, which needs {needed}; this system {found}."
    return ""


def run(
    command: str,
    *,
    folder: Path,
    scratch: Path,
    shown_as: Path | None = None,
    readable: Sequence[Path] = (),
    limits: Mapping[str, int] = LIMITS,
    cancelled: Callable[[], bool] = lambda: False,
) -> Ran:
    """Run a shell command in `folder`, which it may change, and sees as `shown_as`.

    Its home and /tmp are in `scratch`.
    Raises DeviceError when it cannot be run safely.
    """
    _prove()
    return _run(command, folder, scratch, shown_as or folder, readable, {**LIMITS, **limits}, cancelled)


def _run(
    command: str,
    folder: Path,
    scratch: Path,
    shown_as: Path,
    readable: Sequence[Path],
    limits: Mapping[str, int],
    cancelled: Callable[[], bool],
) -> Ran:
    for name in ("home", "tmp", "root"):
        (scratch / name).mkdir(parents=True, exist_ok=True)
    reading, writing = os.pipe()
    plan = {
        "command": [_shell(), "-c", command],
        "cwd": str(shown_as),
        "root": str(scratch / "root"),
        "readable": [*_visible(), *map(str, readable)],
        "writable": {"/tmp": str(scratch / "tmp"), _HOME: str(scratch / "home"), str(shown_as): str(folder)},
        "files": {
            "/etc/passwd": f"user:x:{os.getuid()}:{os.getgid()}::{_HOME}:{_shell()}\n",
            "/etc/group": f"user:x:{os.getgid()}:\n",
            "/etc/hosts": "127.0.0.1 localhost sandbox\n",
        },
        "counted": [str(folder), str(scratch)],
        "environment": _environment(),
        "denied": _DENIED,
        "limits": dict(limits),
        "status": writing,
        "parent": os.getpid(),
    }
    began = time.monotonic()
    try:
        guard = subprocess.Popen(
            [sys.executable, "-P", "-m", "twofold.devices._guard"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=[writing],
            env={
                "PYTHONPATH": os.pathsep.join(os.path.abspath(p) for p in sys.path if p),
                "PATH": os.defpath, "LANG": "C.UTF-8",
            },
            start_new_session=True, cwd=scratch,
        )  # fmt: skip
    finally:
        os.close(writing)
    try:
        with guard, os.fdopen(reading, "rb") as status:
            assert guard.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                guard.stdin.write(json.dumps(plan).encode())
                guard.stdin.close()
            deadline = began + limits["seconds"] + 30
            output, count, stopped = _gathered(guard, limits["output_bytes"], deadline, cancelled)
            said = status.read().splitlines()
    finally:
        if guard.poll() is None:
            guard.kill()  # and with it the system ends all that it has started
            guard.wait()
    end: dict[str, Any] = {"ended": "", "exit": None, "trouble": _last_line(output)}
    for line in said:
        end |= json.loads(line or b"{}")
    if stopped:
        end["ended"] = "cancelled"
    elif end["ended"] in ("", "exited") and end["exit"] is None:
        raise DeviceError(f"The sandbox could not be set up, so nothing was run. {_cure(end['trouble'])}")
    return Ran(
        ended=end["ended"], exit=-1 if end["exit"] is None else end["exit"],
        output=output, output_bytes=count, seconds=time.monotonic() - began,
    )  # fmt: skip


def _cure(trouble: str) -> str:
    """Return what went wrong and, where it is known, what to do about it."""
    if any(word in trouble for word in ("namespaces", "mount", "uid_map", "setgroups")):
        return (
            f"This system does not let us have namespaces ({trouble}); on Ubuntu `sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0` allows it, in a container `--privileged` does."
        )
    return trouble


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it says nothing."


def _gathered(
    guard: "subprocess.Popen[bytes]", most: int, deadline: float, cancelled: Callable[[], bool]
) -> tuple[str, int, bool]:
    """Return first and last part of the output, the length of all of it, and whether we stopped it."""
    assert guard.stdout is not None
    head, tail, count, stopped = b"", b"", 0, False
    with selectors.DefaultSelector() as ready:
        ready.register(guard.stdout, selectors.EVENT_READ)
        while True:
            if not stopped and (time.monotonic() > deadline or cancelled()):
                stopped = True
                guard.kill()
            if not ready.select(0.1):
                continue
            piece = os.read(guard.stdout.fileno(), 1 << 16)
            if not piece:
                break
            count += len(piece)
            room = most // 2 - len(head)
            head, tail = head + piece[: max(room, 0)], (tail + piece[max(room, 0) :])[-(most // 2) :]
    left_out = count - len(head) - len(tail)
    middle = f"\n[… {left_out:,} bytes left out …]\n".encode() if left_out else b""
    return (head + middle + tail).decode("utf-8", "replace"), count, stopped


def _visible() -> list[str]:
    """Return what every command may read: programs, this Python and its packages, a little of the system."""
    python = {sys.prefix, sys.base_prefix, *site.getsitepackages()}
    if site.ENABLE_USER_SITE:
        python.add(site.getusersitepackages())
    return sorted(
        {*_PROGRAMS, *_SYSTEM, *(os.path.realpath(p) for p in python), *python} - {"/", str(Path.home())}
    )


def _environment() -> dict[str, str]:
    here = os.path.dirname(os.path.abspath(sys.executable))
    return {
        "PATH": f"{here}:/usr/local/bin:/usr/bin:/bin", "HOME": _HOME, "TMPDIR": "/tmp", "LANG": "C.UTF-8",
        "TERM": "dumb", "USER": "user", "LOGNAME": "user", "SHELL": _shell(), "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg", "MPLCONFIGDIR": _HOME, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2",
        "GIT_CONFIG_NOSYSTEM": "1",
    }  # fmt: skip


@functools.cache
def _shell() -> str:
    return next((shell for shell in ("/bin/bash", "/usr/bin/bash") if os.path.exists(shell)), "/bin/sh")


# A line prints its letter when its wall has a hole; whether the second wrote is seen from outside.
_ATTACK = """
(cat {secret} >/dev/null) 2>/dev/null && echo r
(echo x > {secret}.new) 2>/dev/null
(kill -0 {parent}) 2>/dev/null && echo k
(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo n
(cat /proc/{parent}/environ >/dev/null) 2>/dev/null && echo e
echo done
"""


@functools.cache
def _prove() -> None:
    """See that the walls stand on this machine, once. Raises DeviceError when they do not."""
    if why := refusal():
        raise DeviceError(why)
    with tempfile.TemporaryDirectory(prefix="twofold-proof-") as place, socket.socket() as listener:
        secret = Path(place, "secret")
        secret.write_text("secret")
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        attack = _ATTACK.format(secret=secret, parent=os.getpid(), port=listener.getsockname()[1])
        inside = Path(place, "inside")
        inside.mkdir()
        ran = _run(
            attack, inside, Path(place, "scratch"), inside, (), {**LIMITS, "seconds": 20}, lambda: False
        )
        if ran.output.split() != ["done"] or Path(place, "secret.new").exists():
            raise DeviceError(
                "Commands run only in a sandbox, and on this machine it does not hold: a trial attack from "
                f"inside it got through ({' '.join(ran.output.split())!r}), so no command is run."
            )
