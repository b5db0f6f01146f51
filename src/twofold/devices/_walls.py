"""What a command of the sandbox cannot get past, as the system offers it: namespaces, capabilities, limits.

`apart` starts a process that has a root folder of its own, in which there is only what it was given, and that
can change only what it may; process ids, network, messages and host name of its own; and no capability, nor a
way back to one. A user who is not root gets the right to set this up from a user namespace.

With sandlock alone a command could still change permissions, owners and dates of files it cannot open, and
learn that they exist: Landlock does not speak of those. Where there is nothing there is nothing to change.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
# numbers of system calls that the C library has no function for
_CALLS = {"x86_64": {"clone": 56, "pivot_root": 155}, "aarch64": {"clone": 220, "pivot_root": 41}}
_MOUNT_SETATTR = 442  # on every machine
_NEW_ALL = (
    0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
)  # mounts, host, messages, pids, network
_NEW_USER = 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_READ_ONLY, _NO_SETUID, _NO_DEVICES = 1, 2, 4  # MOUNT_ATTR_*
_RECURSIVE, _DETACH, _HERE = 0x8000, 2, -100
_SHARED_BYTES = 64 << 20

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 1, 24, 28
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _CLEAR_ALL = 38, 47, 4
_NO_WAY_BACK = (
    0b101111  # NOROOT, NO_SETUID_FIXUP, both locked, KEEP_CAPS locked: root is a user like any other
)
_CAPABILITY_VERSION = 0x20080522  # capset(2), version 3


def _must(done: int, what: str) -> int:
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return done


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    done = _LIBC.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _must(done, f"mount {target}")


def _restrict(target: str, attributes: int) -> None:
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    done = _LIBC.syscall(
        _MOUNT_SETATTR, _HERE, target.encode(), _RECURSIVE, wanted, ctypes.c_size_t(ctypes.sizeof(wanted))
    )
    _must(done, f"mount_setattr {target}")


def apart(work: Callable[[], None]) -> int:
    """Return the id of a new process in namespaces of its own, in which `work` runs and which ends after it.

    It ends when this process does, and with it everything that it has started. Raises OSError where the
    system does not allow it.
    """
    numbers = _CALLS[platform.machine()]
    flags = _NEW_ALL | (_NEW_USER if os.geteuid() else 0) | signal.SIGCHLD
    reading, writing = os.pipe()
    uid, gid = os.geteuid(), os.getegid()
    ctypes.pythonapi.PyOS_BeforeFork()
    process = _LIBC.syscall(numbers["clone"], ctypes.c_ulong(flags), None, None, None, None)
    if process == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        _work_as_first(work, reading, writing)
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    os.close(reading)
    try:
        if process < 0:
            raise OSError(number, f"namespaces: {os.strerror(number)}")
        if flags & _NEW_USER:
            Path(f"/proc/{process}/setgroups").write_text("deny")
            Path(f"/proc/{process}/uid_map").write_text(f"{uid} {uid} 1")
            Path(f"/proc/{process}/gid_map").write_text(f"{gid} {gid} 1")
        os.write(writing, b"x")
    finally:
        os.close(writing)
    return int(process)


def _work_as_first(work: Callable[[], None], reading: int, writing: int) -> None:
    status = 1
    try:
        os.close(writing)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.read(reading, 1):  # nothing comes when the one who started us has given up, or has ended
            os.close(reading)
            work()
            status = 0
    finally:
        os._exit(status)


def furnish(
    root: str, readable: Sequence[str], writable: Mapping[str, str], files: Mapping[str, str]
) -> None:
    """Make an empty folder the root folder, with what may be read, and what may be changed, in it.

    writable: path in there -> folder out here. files: path -> a text to be read there. Raises OSError.
    """
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    shown: dict[str, bool] = {}  # path -> whether it may be changed
    for path in sorted({*readable, *writable}):
        above = max((other for other in shown if path.startswith(f"{other}/")), key=len, default=None)
        if path in writable:
            _bind(writable[path], root + path, _NO_SETUID | _NO_DEVICES)
        elif above is not None and not shown[above]:
            continue  # there already
        elif os.path.islink(path):
            Path(root + path).parent.mkdir(parents=True, exist_ok=True)
            os.symlink(os.readlink(path), root + path)
            continue
        elif os.path.exists(path):
            _bind(path, root + path, _READ_ONLY | _NO_SETUID | _NO_DEVICES)
        else:
            continue
        shown[path] = path in writable
    for path, text in files.items():
        Path(root + path).parent.mkdir(parents=True, exist_ok=True)
        Path(root + path).write_text(text)
    for name in ("null", "zero", "full", "random", "urandom"):
        _bind(f"/dev/{name}", f"{root}/dev/{name}", _NO_SETUID)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"{root}/dev/{name}")
    os.mkdir(f"{root}/dev/shm")
    _mount(
        "tmpfs",
        f"{root}/dev/shm",
        "tmpfs",
        _MS_NOSUID | _MS_NODEV | _MS_NOEXEC,
        f"mode=1777,size={_SHARED_BYTES}",
    )
    os.mkdir(f"{root}/proc")
    with contextlib.suppress(OSError):  # a container may deny it; then there is none
        _mount("proc", f"{root}/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "subset=pid")
    os.chdir(root)
    _must(_LIBC.syscall(_CALLS[platform.machine()]["pivot_root"], b".", b"."), "pivot_root")
    _must(_LIBC.umount2(b".", _DETACH), "umount the old root")
    os.chdir("/")
    _mount(
        "none", "/", None, 32 | 1 | _MS_BIND | _MS_NOSUID | _MS_NODEV
    )  # the root itself: read-only from now on
    _LIBC.sethostname(b"sandbox", 7)


def _bind(source: str, target: str, attributes: int) -> None:
    place = Path(target)
    if os.path.isdir(source):
        place.mkdir(parents=True, exist_ok=True)
    elif not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount(source, target, None, _MS_BIND | _MS_REC)
    _restrict(target, attributes)


def give_up_capabilities() -> None:
    """Leave this process and all that it starts without capabilities, whoever they run as."""
    _must(_LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    _must(_LIBC.prctl(_PR_SET_SECUREBITS, _NO_WAY_BACK, 0, 0, 0), "secure bits")
    for capability in range(64):
        if _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            break  # past the last one
    _must(_LIBC.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0), "ambient capabilities")
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _must(_LIBC.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def limit(limits: Mapping[str, int]) -> None:
    """Set what one process may use at most."""
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits["disk_bytes"]),
        (resource.RLIMIT_NOFILE, limits["open_files"]),
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_NPROC, limits["threads"]),  # root is not bound by it, and is counted from outside
        (resource.RLIMIT_MEMLOCK, 1 << 16),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
