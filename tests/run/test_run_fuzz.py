"""Replays the fuzzers' inputs under ASan and UBSan: what once broke run.c, or reached far, stays fine.

The inputs lie in tests/fuzz/corpus; `make soak` looks for new ones (tests/soak/fuzz_run.py). Seeds made here,
and seeds with bytes changed, are replayed too.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"
GOLDEN = FUZZ.parent / "golden" / "model.gguf"


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeds")
    subprocess.run([sys.executable, FUZZ / "seeds.py", folder], check=True)
    return folder


@pytest.fixture(scope="module", params=["gguf", "prompt"])
def replay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("replay") / request.param
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no gcc or clang")
    flags = [
        "-std=gnu11",
        "-g",
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-DREPLAY",
    ]
    command = [compiler, *flags, f"-DFUZZ_{request.param.upper()}", str(FUZZ / "fuzz_run.c"), "-o", str(out)]
    done = subprocess.run([*command, "-lm", "-lpthread"], capture_output=True, text=True, check=False)
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip("the compiler comes without its sanitizers")
    assert done.returncode == 0, done.stderr
    return request.param, out


def run(program: Path, inputs: list[Path]) -> None:
    environment = {
        **os.environ,
        "TWOFOLD_FUZZ_MODEL": str(GOLDEN),
        "ASAN_OPTIONS": "allocator_may_return_null=1",
    }
    done = subprocess.run([program, *inputs], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout == f"{len(inputs)} inputs\n"


def test_corpus(replay: tuple[str, Path]) -> None:
    kind, program = replay
    inputs = sorted((FUZZ / "corpus" / kind).iterdir())
    assert len(inputs) > 20
    run(program, inputs)


def test_seeds_and_damaged_seeds(replay: tuple[str, Path], seeds: Path, tmp_path: Path) -> None:
    kind, program = replay
    originals = sorted((seeds / kind).iterdir())
    inputs = list(originals)
    random = np.random.default_rng(0)
    for number in range(200):
        data = bytearray(originals[number % len(originals)].read_bytes())
        for at in random.integers(0, len(data), 1 + number % 4):
            data[int(at)] = int(random.choice([0, 1, 127, 128, 255, random.integers(256)]))
        if number % 5 == 0:
            del data[int(random.integers(0, len(data))) :]
        path = tmp_path / str(number)
        path.write_bytes(bytes(data))
        inputs.append(path)
    run(program, inputs)
