"""Turns run.c into a shared library on first use, and keeps it.

The library is made by the user's own C compiler for the user's own processor, and cached under a name that
hashes the source, the compiler's version, the flags and the processor: a change of any makes a new one.
The cache is `$XDG_CACHE_HOME/twofold` (else ~/.cache/twofold); losing it costs a few seconds.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from twofold.base.errors import TwofoldError

FLAGS = ("-std=gnu11", "-O3", "-shared", "-fPIC", "-DTF_LIBRARY")
NATIVE = ("-march=native",)  # not every compiler knows it; without it the portable build is used


class CompilerError(TwofoldError):
    """There is no C compiler, or it cannot compile our C."""


class Sampling(ctypes.Structure):
    """`Sampling` of run.c."""

    _fields_ = (
        ("temperature", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
        ("repetition_penalty", ctypes.c_float),
        ("top_k", ctypes.c_int),
        ("n_recent", ctypes.c_int),
        ("recent", ctypes.c_void_p),
    )


def source() -> Path:
    """Return where run.c lies."""
    return Path(str(resources.files("twofold.run"))) / "run.c"


def program(code: Path | None = None) -> str:
    """Return run.c (or `code`) as one text, with the headers that lie beside it in their places.

    That is the second of the two files, and what is compiled here, too.
    """
    code = code or source()

    def inline(line: str) -> str:
        name = line.removeprefix('#include "').rstrip().removesuffix('"')
        beside = code.parent / name
        return beside.read_text() if line.startswith('#include "') and beside.is_file() else line

    return "".join(inline(line) for line in code.read_text().splitlines(keepends=True))


def compiler() -> str:
    """Return the C compiler: $CC, cc, gcc or clang. Raises CompilerError when there is none."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (found := shutil.which(name)):
            return found
    raise CompilerError("There is no C compiler: install gcc or clang, or name one in the variable CC.")


def _processor() -> str:
    """Return what tells this processor from another: its kind, and its features where Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    features = {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(features)])


def cache_folder() -> Path:
    """Return the folder of compiled libraries: the user's cache, or a private temporary one."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twofold"
    try:
        base.mkdir(parents=True, exist_ok=True)
        if os.access(base, os.W_OK):
            return base
    except OSError:
        pass
    # A name that another user could have made first must not be trusted: it would be code of theirs.
    return Path(tempfile.mkdtemp(prefix="twofold-"))


def build(folder: Path | None = None, code: Path | None = None) -> Path:
    """Return the shared library of `code` (run.c) for this machine, compiled now unless it already was.

    Raises CompilerError, with the compiler's first line of complaint.
    """
    cc, code = compiler(), code or source()
    text = program(code)
    version = subprocess.run([cc, "--version"], capture_output=True, text=True, check=False).stdout
    key = hashlib.sha256("\0".join([text, cc, version, *FLAGS, _processor()]).encode()).hexdigest()
    folder = folder or cache_folder()
    library = folder / f"{code.stem}-{key[:16]}.so"
    if library.is_file():
        return library
    complaint = ""
    for flags in ((*NATIVE, *FLAGS), FLAGS):
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            out, whole = Path(scratch) / library.name, Path(scratch) / code.name
            whole.write_text(text)
            command = [cc, *flags, str(whole), "-o", str(out), "-lm", "-lpthread"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                out.replace(library)  # two processes may do this at once: each puts a whole file there
                return library
            complaint = next(
                (line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200]
            )
    raise CompilerError(f"The C compiler {cc} cannot compile {code.name}: {complaint.strip()}")


@functools.cache
def functions() -> ctypes.CDLL:
    """Return the library with the types of its functions declared. Raises CompilerError."""
    return declared(build())


def declared(path: Path) -> ctypes.CDLL:
    """Return the shared library of run.c at `path` with the types of its functions declared."""
    library, prompt = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
    # Choosing takes microseconds; to let go of Python's lock for it can cost milliseconds until it is back.
    library.tf_sample = prompt.tf_sample  # type: ignore[attr-defined]
    integer, pointer, text, size = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    for name, result, arguments in (
        ("tf_open", pointer, [text, text, size]),
        ("tf_close", None, [pointer]),
        ("tf_kernel", text, [pointer]),
        ("tf_context", pointer, [pointer, integer, integer, integer, text, size]),
        ("tf_context_free", None, [pointer]),
        ("tf_forward", integer, [pointer, integer, pointer, pointer, pointer, pointer, pointer]),
        ("tf_write", integer, [pointer, integer, *[pointer] * 7, integer, *[pointer] * 4]),
        ("tf_copy", integer, [pointer, integer, integer, integer]),
        ("tf_encode", integer, [pointer, text, integer, integer, integer, pointer, integer]),
        ("tf_sample", integer, [pointer, integer, ctypes.POINTER(Sampling), pointer, pointer]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
