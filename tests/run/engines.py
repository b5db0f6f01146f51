"""What the tests of the run file share: the compiled program, and a model on the disk."""

import functools
import subprocess
import tempfile
from pathlib import Path

from twofold.parameters import Model, save_gguf
from twofold.run import library

STRICT = ("-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror")


@functools.cache
def program() -> Path:
    """Return run.c compiled as the README says, once per process."""
    folder = Path(tempfile.mkdtemp(prefix="twofold-test-"))
    command = [
        library.compiler(),
        "-O2",
        *STRICT,
        str(library.source()),
        "-o",
        str(folder / "run"),
        "-lm",
        "-lpthread",
    ]
    subprocess.run(command, check=True)
    return folder / "run"


def run(path: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    """Return what the program did with a model file and options."""
    return subprocess.run(
        [program(), path, *arguments], input=stdin.encode(), capture_output=True, check=False
    )


def saved(model: Model, folder: Path, kind: str = "F32") -> Path:
    """Return a GGUF file of the model."""
    path = folder / f"{kind}.gguf"
    save_gguf(model, path, kind)
    return path
