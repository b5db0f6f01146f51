"""Every kernel of run.c that this processor can run, from one portable build: they must agree.

The build for this very processor leaves out what it will not need; a compiler without -march=native puts all
of them in, and the variable TWOFOLD_KERNEL chooses.
"""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from engines import saved
from tiny_models import random_model

from twofold.run import Engine, backends, library, load

KERNELS = ("amx", "avx512vnni", "avx2", "dotprod", "portable")
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_0", "Q4_K", "Q5_K", "Q6_K")
WIDE = {"width": 256, "heads": 4, "kv_heads": 2, "head_dim": 64, "ffn": 512, "layers": 2}


@functools.cache
def portable() -> ctypes.CDLL:
    """Return run.c compiled without regard to this processor, once per process."""
    out = Path(tempfile.mkdtemp(prefix="twofold-test-")) / "portable.so"
    command = [library.compiler(), *library.FLAGS, str(library.source()), "-o", str(out), "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    return library.declared(out)


def engine(path: Path, kernel: str, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return an engine whose products are those of `kernel`; skips when the processor lacks it."""
    monkeypatch.setenv("TWOFOLD_KERNEL", kernel)
    monkeypatch.setattr(library, "functions", portable)
    made = load(path, backend="c", threads=2)
    assert isinstance(made.runner, backends.CBackend)
    if made.runner.kernel != kernel:
        pytest.skip(f"this processor has no {kernel}")
    return made


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("kind", KINDS)
def test_kernels_agree(kind: str, kernel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(random_model("qwen3", **WIDE), tmp_path, kind)
    ids = np.random.default_rng(0).integers(0, 300, 20).tolist()
    native = load(path, backend="c")
    expected = native.forward(ids, [0] * 20, range(20))
    got = engine(path, kernel, monkeypatch).forward(ids, [0] * 20, range(20))
    # The integers are the same, but a last bit of a float may round an input to the next of its 255 steps.
    size = np.abs(expected).max()
    assert np.abs(got - expected).max() < (1e-5 if kind == "F32" else 3e-2) * size
    assert np.abs(got - expected).mean() < (1e-6 if kind == "F32" else 5e-3) * size


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("F32", "F16", "BF16")])
def test_tiles_give_the_same_bits(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(random_model("qwen3", **{**WIDE, "ffn": 768}), tmp_path, kind)
    ids = np.random.default_rng(0).integers(0, 300, 90).tolist()
    made = [engine(path, kernel, monkeypatch) for kernel in ("amx", "avx512vnni")]
    for length in (9, 16, 17, 90):
        tiles, vectors = (e.forward(ids[:length], [0] * length, range(length)) for e in made)
        np.testing.assert_array_equal(tiles, vectors)


def test_an_unknown_kernel_is_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(random_model("qwen3"), tmp_path)
    monkeypatch.setenv("TWOFOLD_KERNEL", "abacus")
    made = load(path, backend="c")
    assert isinstance(made.runner, backends.CBackend)
    assert made.runner.kernel in KERNELS


@pytest.mark.parametrize("flags", [("-mno-avx512f", "-mavx2", "-mfma", "-mf16c"), ("-mno-avx", "-msse2")])
def test_other_processors_builds(flags: tuple[str, ...], tmp_path: Path) -> None:  # a laptop, and one of 2003
    if library.platform.machine() != "x86_64":
        pytest.skip("these flags are for x86")
    out = tmp_path / "run"
    command = [library.compiler(), "-O1", *flags, str(library.source()), "-o", str(out), "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    path = saved(random_model("llama"), tmp_path, "Q8_0")
    said = [
        subprocess.run(
            [str(out), str(path), "-p", "The cat", "-n", "20", "--temp", "0"],
            env={"TWOFOLD_KERNEL": kernel},
            capture_output=True,
            check=True,
        ).stdout
        for kernel in ("avx2", "portable")
    ]
    assert said[0] == said[1] != b""


@pytest.mark.parametrize("cpu", ["cortex-a72", "max"])  # a Raspberry Pi 4, and an Arm with dot products
@pytest.mark.parametrize("compiler", ["aarch64-linux-gnu-gcc", "clang --target=aarch64-linux-gnu"])
def test_arm(compiler: str, cpu: str, tmp_path: Path) -> None:
    emulator, needed = shutil.which("qemu-aarch64"), ("aarch64-linux-gnu-gcc", compiler.split()[0])
    if not emulator or not all(map(shutil.which, needed)):
        pytest.skip(f"needs {compiler} and qemu-aarch64")
    out = tmp_path / "run"
    flags = ["-O1", "-static", "-Wall", "-Werror"]
    if compiler != needed[0] and cpu == "max":  # before version 16 clang has them for whole files alone
        flags.append("-march=armv8.2-a+dotprod")
    command = [*compiler.split(), *flags, str(library.source()), "-o", str(out), "-lm", "-lpthread"]
    subprocess.run(command, check=True)
    path = saved(random_model("qwen3"), tmp_path, "Q8_0")
    options = [str(path), "-p", "The cat", "-n", "20", "--temp", "0"]
    arm = subprocess.run([emulator, "-cpu", cpu, str(out), *options], capture_output=True, check=True)
    model = load(path, backend="c")
    made = [step.id for step in model.generate(model.tokenizer.encode("The cat"), max_tokens=20)]
    text = b"The cat" + model.tokenizer.decode_bytes(made)
    assert arm.stdout.startswith(text[:12])
