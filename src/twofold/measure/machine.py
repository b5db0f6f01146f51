"""What this machine can do at most: read bytes, multiply and add, hold a model in memory.

The measuring is done by machine.c, which is compiled on first use and kept, as run.c is. Bandwidths are those
of the best pass over so many bytes; peaks those of the best of several short runs.

Not covered: disks, GPUs, the memory of another socket.
"""

import bisect
import contextlib
import ctypes
import functools
import math
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from twofold.base.errors import TwofoldError
from twofold.run import library

MEGA = 1_000_000
SIZES_MB = (2, 4, 8, 16, 24, 32, 64, 128, 256, 512)  # caches end somewhere among them
MOST_THREADS = 256  # of machine.c
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Speed:
    """What so many threads do: multiply-adds per second of int8 and float32, bytes per second by size.

    `bandwidth`: (bytes that are read again and again, bytes per second), by increasing bytes.
    """

    threads: int
    int8: float
    float32: float
    bandwidth: tuple[tuple[int, float], ...]

    @property
    def memory(self) -> float:
        """Bytes per second from memory: of the most bytes that were tried."""
        return self.bandwidth[-1][1]

    def bandwidth_of(self, bytes_: float) -> float:
        """Return bytes per second for so many bytes, between the measured ones by their logarithms."""
        return interpolated(self.bandwidth, bytes_)


@dataclass(frozen=True)
class Machine:
    """A machine: its processor, its cores and memory in bytes, the instructions, and what it does at most.

    `one`: what one thread does, `all`: what the threads do that were asked for.
    """

    processor: str
    cores: int
    memory_bytes: int
    available_bytes: int
    int8_instruction: str
    float32_instruction: str
    one: Speed
    all: Speed


def measure(threads: int, *, sizes: Iterable[int] = (), seconds: float = 0.1, most_mb: int = 512) -> Machine:
    """Return what this machine does with one and with `threads` threads; each figure takes about `seconds`.

    `sizes`: bytes to measure the bandwidth of, beside SIZES_MB up to `most_mb`. Raises TwofoldError when
    there is not enough memory or no more threads, CompilerError without a C compiler.
    """
    available = available_bytes()
    limit = min(most_mb * MEGA, available // 4)
    wanted = sorted({min(max(size, 1 << 16), limit) for size in (*sizes, *(mb * MEGA for mb in SIZES_MB))})

    def speed(count: int, sizes_: Iterable[int]) -> Speed:
        return Speed(
            threads=count,
            int8=_value("tm_peak", 1, count, seconds),
            float32=_value("tm_peak", 0, count, seconds),
            bandwidth=tuple((size, bandwidth(size, count, seconds)) for size in sizes_),
        )

    every = speed(threads, wanted)
    one = every if threads == 1 else speed(1, sorted({*(min(size, limit) for size in sizes), limit}))
    return Machine(
        processor=processor(),
        cores=cores(),
        memory_bytes=total_bytes(),
        available_bytes=available,
        int8_instruction=functions().tm_name(1).decode(),
        float32_instruction=functions().tm_name(0).decode(),
        one=one,
        all=every,
    )


def bandwidth(size_bytes: int, threads: int, seconds: float = 0.1) -> float:
    """Return the bytes per second that so many threads read of `size_bytes` again and again; the best pass.

    Raises TwofoldError when there is not enough memory or no more threads, CompilerError.
    """
    return _value("tm_bandwidth", max(size_bytes, 1 << 16), threads, seconds)


def interpolated(points: tuple[tuple[int, float], ...], at: float) -> float:
    """Return the y at `at` of points (x, y) by increasing x: straight between logarithms, level outside."""
    index = bisect.bisect_left(points, at, key=lambda point: point[0])
    if index == 0 or index == len(points):
        return points[min(index, len(points) - 1)][1]
    (x0, y0), (x1, y1) = points[index - 1], points[index]
    share = math.log(at / x0) / math.log(x1 / x0)
    return math.exp(math.log(y0) * (1 - share) + math.log(y1) * share)


@functools.cache
def functions() -> ctypes.CDLL:
    """Return machine.c's library with the types of its functions declared. Raises CompilerError."""
    found = ctypes.CDLL(str(library.build(code=source())))
    found.tm_bandwidth.restype = found.tm_peak.restype = ctypes.c_double
    found.tm_bandwidth.argtypes = [ctypes.c_size_t, ctypes.c_int, ctypes.c_double]
    found.tm_peak.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_double]
    found.tm_name.restype, found.tm_name.argtypes = ctypes.c_char_p, [ctypes.c_int]
    return found


def source() -> Path:
    """Return where machine.c lies."""
    return Path(str(resources.files("twofold.measure"))) / "machine.c"


def _value(name: str, what: int, threads: int, seconds: float) -> float:
    value = float(getattr(functions(), name)(what, threads, seconds))
    if value > 0:
        return value
    raise TwofoldError(
        "There is not enough memory to measure its speed: close other programs."
        if value == -1
        else f"The system does not run {threads} threads: ask for fewer with --threads."
    )


# --- what the system says


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name as the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def cache_bytes() -> int:
    """Return the size of the first core's largest cache, in bytes; 0 where the system does not say."""
    sizes = [0]
    for path in _CACHES.glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):  # "480M", "48K"
            text = path.read_text().strip()
            sizes.append(int(text[:-1]) << {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0))
    return max(sizes)


def total_bytes() -> int:
    """Return how much memory there is, in bytes; less than the machine has where a container sets a limit."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _container_limit() or 1 << 62)


def available_bytes() -> int:
    """Return how much memory a new program can have, in bytes: what is free or can be freed."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        free = total_bytes()  # the system does not say
    limit = _container_limit()
    return free if limit is None else min(free, max(0, limit - _container_use()))


def _container_limit() -> int | None:
    """Return the memory that this container may use, in bytes; None where there is no limit."""
    try:
        return int((_CONTROL_GROUP / "memory.max").read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def _container_use() -> int:
    """Return the memory that this container uses and cannot give back, in bytes."""
    try:
        used = int((_CONTROL_GROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CONTROL_GROUP / "memory.stat").read_text().splitlines())
        return max(0, used - int(stat.get("inactive_file", 0)) - int(stat.get("active_file", 0)))
    except (OSError, ValueError):
        return 0
