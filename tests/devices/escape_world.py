"""A small world with things worth stealing, and attempts to get at them from inside and outside of the
sandbox."""

import contextlib
import ctypes
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from escape_attempts import PRELUDE, Attempt

from twofold.devices import _sandbox
from twofold.kernel.device import DeviceError

SECRET = "SECRET-7f3a"
_BROKEN = (
    "SyntaxError",
    "NameError",
    "AttributeError",
    "TypeError",
    "ImportError",
    "KeyError",
    "ModuleNotFound",
)
_VICTIM = """
import ctypes, os, signal, sys, time
secret = ctypes.create_string_buffer(b"SECRET-in-memory")
kept = open(sys.argv[2])
hits = open(sys.argv[3], "ab", 0)
signal.signal(signal.SIGUSR1, lambda *_: hits.write(b"x"))
print(ctypes.addressof(secret), kept.fileno(), flush=True)
while True: time.sleep(60)
"""


_ONE_BY_ONE = """
for number, code in enumerate(CODES):
    W['inside'] += '/%d' % number
    os.mkdir(W['inside'])
    if (child := os.fork()) == 0:
        os.chdir(W['inside'])
        os.dup2(os.open('out', os.O_CREAT | os.O_WRONLY), 1)
        try: exec(code)
        except SystemExit: pass
        except BaseException as error: print(type(error).__name__, error)
        sys.stdout.flush(); os._exit(0)
    os.waitpid(child, 0)
    lines = open(W['inside'] + '/out').read().split('\\n')
    print(number, [line for line in lines if line][-1:], flush=True)
    W['inside'] = os.path.dirname(W['inside'])
"""


@dataclass(frozen=True)
class Outcome:
    """control: whether it gets out without a sandbox. inside: blocked, ESCAPED, or broken; how: by what."""

    control: bool
    inside: str
    how: str


class World:
    """Everything that attempts aim at, made by and for the user that runs this."""

    def __init__(self, root: Path, programs: Path | None = None) -> None:
        self.root, self.programs = root, programs or root / "programs"
        self.programs.mkdir(exist_ok=True)
        self.outside, self.home = root / "outside", root / "home"
        for folder in (self.outside, self.home / ".ssh"):
            folder.mkdir(parents=True)
        self.secret, self.victim_file = self.outside / "secret", self.outside / "victim"
        for path in (self.secret, self.home / ".ssh/id_ed25519", root / "journal.db"):
            path.write_text(SECRET)
        program = self.outside / "program"
        program.write_text("#!/bin/sh\necho ran\n")
        program.chmod(0o755)
        self.hits = root / "hits"
        self.hits.touch()
        self._close = contextlib.ExitStack()
        self._listen()
        self._victim_starts()
        self._shared()
        self.leaked = os.open(self.secret, os.O_RDONLY)
        os.set_inheritable(self.leaked, True)
        self._close.callback(os.close, self.leaked)
        os.environ["TWOFOLD_TEST_KEY"] = SECRET
        self._close.callback(os.environ.pop, "TWOFOLD_TEST_KEY", None)

    def close(self) -> None:
        """End all of it."""
        self._close.close()

    def _listen(self) -> None:
        self.heard = 0
        mark = secrets.token_hex(4)
        self.names: dict[str, Any] = {"abstract": f"twofold-{mark}", "abstract_datagram": f"twofold-{mark}-d"}
        self.names["interfaces"] = [name for _, name in socket.if_nameindex() if name != "lo"]
        self.names |= {"unix": str(self.root / "s"), "unix_datagram": str(self.root / "d")}
        wanted = [
            ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("", 0)),
            ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0)),
            ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            ("", socket.AF_UNIX, socket.SOCK_STREAM, self.names["unix"]),
            ("", socket.AF_UNIX, socket.SOCK_DGRAM, self.names["unix_datagram"]),
            ("", socket.AF_UNIX, socket.SOCK_STREAM, "\0" + self.names["abstract"]),
            ("", socket.AF_UNIX, socket.SOCK_DGRAM, "\0" + self.names["abstract_datagram"]),
        ]
        for name, family, kind, address in wanted:
            self.names.setdefault(name, 0)
            with contextlib.suppress(OSError):
                one = self._close.enter_context(socket.socket(family, kind))
                one.bind(address)
                if kind == socket.SOCK_STREAM:
                    with contextlib.suppress(OSError, AttributeError):
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
                    one.listen()
                if name:
                    self.names[name] = one.getsockname()[1]
                threading.Thread(target=self._hear, args=(one, kind), daemon=True).start()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            self.names["address_of_machine"] = "127.0.0.1"
            with contextlib.suppress(OSError):
                probe.connect(("192.0.2.1", 9))  # sends nothing; asks which address would be used
                self.names["address_of_machine"] = probe.getsockname()[0]

    def _hear(self, one: socket.socket, kind: int) -> None:
        with contextlib.suppress(OSError):
            while True:
                if kind == socket.SOCK_STREAM:
                    one.accept()[0].close()
                else:
                    one.recv(100)
                self.heard += 1

    def _victim_starts(self) -> None:
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, SECRET, str(self.secret), str(self.hits)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert victim.stdout is not None
        self._close.callback(victim.stdout.close)
        self._close.callback(victim.wait)
        self._close.callback(victim.kill)
        address, descriptor = victim.stdout.readline().split()
        self.victim = victim
        self.names |= {"victim": victim.pid, "address": int(address), "descriptor": int(descriptor)}

    def _shared(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        key = secrets.randbelow(1 << 30) + 1
        shared = libc.shmget(key, 4096, 0o1600)
        self._close.callback(libc.shmctl, shared, 0, None)
        name = f"twofold-test-{secrets.token_hex(4)}"
        with contextlib.suppress(OSError):
            Path("/dev/shm", name).write_text(SECRET)
            self._close.callback(Path("/dev/shm", name).unlink, True)
        made = libc.syscall(248, b"user", b"twofold-test", b"x", 1, -4)
        if made >= 0:
            self._close.callback(libc.syscall, 250, 3, made)  # revoke
        master, terminal = os.openpty()
        self._close.callback(os.close, master)
        self._close.callback(os.close, terminal)
        firsts = {
            "sys": (
                "/sys/kernel/mm/transparent_hugepage/enabled",
                "/sys/kernel/profiling",
                "/sys/power/state",
            ),
            "cgroup": ("/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs"),
            "disk": ("/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda", "/dev/mmcblk0"),
        }
        for name_of, paths in firsts.items():
            self.names[name_of] = next((p for p in paths if os.path.exists(p)), paths[0])
        self.names |= {
            "shm_key": key, "shm_name": name, "terminal": os.ttyname(terminal), "secret": str(self.secret),
            "harness": os.getpid(), "outside": str(self.outside), "victim_file": str(self.victim_file),
            "journal": str(self.root / "journal.db"),
            "home": str(self.home), "program": str(self.outside / "program"), "root": str(self.root),
            "packages": os.path.dirname(contextlib.__file__), "setuid": str(self.programs / "setuid_id"),
        }  # fmt: skip

    def _state(self) -> tuple[object, ...]:
        """Return what must stay as it is."""
        files = sorted(
            (str(p), p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_size, p.lstat().st_mtime_ns)
            for p in [*self.outside.rglob("*"), *self.home.rglob("*")]
        )
        return (*files, self.heard, self.hits.stat().st_size, self.victim.poll())

    def _restore(self) -> None:
        for path in self.outside.iterdir():
            if path.name not in ("secret", "program"):
                path.unlink()
        self.secret.write_text(SECRET)
        self.victim_file.write_text("the victim's text")
        self.victim_file.chmod(0o644)

    def _file(self, attempt: Attempt, inside: Path | None = None) -> Path:
        inside = inside or Path(tempfile.mkdtemp(prefix="inside-", dir=self.root))
        world = {**self.names, "inside": str(inside)}
        (inside / "attack.py").write_text(f"{PRELUDE}\nW = json.loads({json.dumps(world)!r})\n{attempt.code}")
        return inside

    def control(self, attempt: Attempt) -> bool:
        """Return whether the attempt succeeds where only the system and this user's rights can stop it."""
        self._restore()
        before, inside = self._state(), self._file(attempt)

        child = os.fork()
        if child == 0:
            self._try_here(inside)
        output, end = "", time.monotonic() + 90
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.02)
        if attempt.mark:
            time.sleep(1.5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        output = (inside / "out").read_text(errors="replace")
        succeeded = (
            "GOT" in output
            or self._state() != before
            or bool(attempt.mark and (inside / attempt.mark).exists())
        )
        _gone(inside)
        return succeeded

    @staticmethod
    def _try_here(inside: Path) -> NoReturn:
        try:
            os.setsid()
            os.chdir(inside)
            for number in (1, 2):
                os.dup2(os.open("out", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
            for kind, most in (  # against a mistake in the attempts
                (resource.RLIMIT_CPU, 10), (resource.RLIMIT_FSIZE, 200 << 20), (resource.RLIMIT_AS, 2 << 30),
            ):  # fmt: skip
                resource.setrlimit(kind, (most, most))
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 2048))
            exec(compile((inside / "attack.py").read_text(), "attack.py", "exec"), {"__name__": "__main__"})
        except BaseException as error:
            os.write(1, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(0)

    def inside(self, attempt: Attempt) -> tuple[str, str]:
        """Return what becomes of the attempt in the sandbox: blocked, ESCAPED or broken; and how."""
        self._restore()
        before, inside = self._state(), self._file(attempt)
        try:
            ran = _sandbox.run(
                f"exec '{sys.executable}' attack.py", folder=inside, scratch=Path(f"{inside}-scratch"),
                readable=[self.programs], limits=attempt.limits,
            )  # fmt: skip
        except DeviceError as error:
            return "refused", str(error)
        if attempt.mark:
            time.sleep(1.5)
        lines = [line for line in ran.output.strip().splitlines() if line.strip()]
        how = lines[-1][:100] if lines else f"exit {ran.exit}"
        if ran.ended != "exited":
            how = f"ended: {ran.ended}"
        effect = self._state() != before or (attempt.mark and (inside / attempt.mark).exists())
        _gone(inside)
        _gone(Path(f"{inside}-scratch"))
        if "GOT" in ran.output or effect:
            return "ESCAPED", how + (" (seen from outside)" if effect else "")
        return ("broken", how) if how.startswith(_BROKEN) else ("blocked", how)

    def inside_at_once(self, attempts: Sequence[Attempt]) -> dict[str, str]:
        """Return name -> "blocked: how", or what else it came to, of attempts made in one sandbox."""
        self._restore()
        before, inside = self._state(), Path(tempfile.mkdtemp(prefix="inside-", dir=self.root))
        codes = [attempt.code for attempt in attempts]
        named = {**self.names, "inside": str(inside)}
        (inside / "attack.py").write_text(f"{PRELUDE}\nW = {named!r}\nCODES = {codes!r}\n{_ONE_BY_ONE}")
        ran = _sandbox.run(
            f"exec '{sys.executable}' attack.py", folder=inside, scratch=Path(f"{inside}-scratch"),
            readable=[self.programs], limits={"seconds": 240, "cpu_s": 240},
        )  # fmt: skip
        time.sleep(1.5)
        found = {}
        for line in ran.output.splitlines():
            number, _, how = line.partition(" ")
            attempt = attempts[int(number)]
            verdict = "ESCAPED" if "GOT" in how else "broken" if how[2:].startswith(_BROKEN) else "blocked"
            found[attempt.name] = f"{verdict}: {how}"
        if self._state() != before:
            found["all together"] = "ESCAPED: something outside is not as it was"
        _gone(inside)
        return found

    def outcomes(self, attempts: Sequence[Attempt]) -> dict[str, Outcome]:
        """Return what becomes of attempts with and without the sandbox, in which they are made together."""
        controls = {attempt.name: self.control(attempt) for attempt in attempts}
        together = [attempt for attempt in attempts if not attempt.alone]
        found = self.inside_at_once(together) if together else {}
        if len(found) != len(together):
            found = {}  # one by one, to see whose doing it is
        for attempt in attempts:
            if attempt.name not in found:
                found[attempt.name] = ": ".join(self.inside(attempt))
        return {name: Outcome(controls[name], *found[name].split(": ", 1)) for name in controls}


def _gone(path: Path) -> None:
    subprocess.run(["chmod", "-R", "u+rwX", "--", str(path)], capture_output=True, check=False)
    subprocess.run(["rm", "-rf", "--", str(path)], check=False)


@contextlib.contextmanager
def world(programs: Path | None = None) -> Iterator[World]:
    """Yield a world, and end it."""
    with tempfile.TemporaryDirectory(prefix="twofold-world-", ignore_cleanup_errors=True) as place:
        made = World(Path(place), programs)
        try:
            yield made
        finally:
            made.close()
