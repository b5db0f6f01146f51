"""What machine this is, and how fast it can read memory: the frame in which a benchmark's figures are read.

Not covered: clock speeds, temperatures and what else runs on the machine; that is why every comparison
alternates the two sides within one run and reports the median of the paired ratios.
"""

import os
import platform
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Instruction sets that decide the speed of int8 and bf16 products, as Linux names them.
NOTABLE_FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "neon", "asimddp")


def describe_cpu(cpuinfo: str, cores: int) -> str:
    """Return one line on the processor from the text of /proc/cpuinfo: "MODEL, N cores, FLAGS"."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    notable = [flag for flag in NOTABLE_FLAGS if flag in flags]
    name = fields.get("model name") or platform.processor() or platform.machine()
    parts = [name, f"{cores} core{'s' * (cores != 1)}", *([" ".join(notable)] if notable else [])]
    return ", ".join(parts)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> str:
    """Return one line on this machine: processor, cores, memory, kernel and load."""
    cpuinfo = Path("/proc/cpuinfo")
    cpu = describe_cpu(cpuinfo.read_text() if cpuinfo.exists() else "", cores())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.machine()}"
    return f"{cpu}; {memory:.0f} GiB memory; {system}; load {load:.1f} at the start"


def compile_c(source: Path, output: Path, *flags: str) -> Path:
    """Return `output`, compiled from `source` for this very processor; raises CalledProcessError."""
    compiler = os.environ.get("CC", "cc")
    subprocess.run(
        [compiler, "-O3", "-march=native", *flags, str(source), "-o", str(output), "-lm"], check=True
    )
    return output


class Bandwidth:
    """Measures the speed of reading memory, by the program bandwidth.c, which it compiles once."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="twofold-bandwidth-")
        self._program = compile_c(HERE / "bandwidth.c", Path(self._folder.name) / "bandwidth", "-pthread")

    def __call__(self, size_bytes: int, threads: int, seconds: float = 0.5) -> float:
        """Return bytes per second when `threads` threads read `size_bytes` bytes over and over."""
        command = [str(self._program), str(size_bytes), str(threads), str(seconds)]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
