"""The golden model: torch, numpy, run.c's program and run.c's library say one and the same text.

In float32 the ids are equal. Quantised weights change the logits; by how much at most is stated here, as a
share of the logits' own spread, measured at every position of the golden text.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import run as program

from twofold import run
from twofold.parameters import load, save_gguf

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
MODEL = GOLDEN / "model.gguf"
# Root mean square of the difference, over the deviation of the float32 logits. Measured:
# 0.0019, 0.00024, 0.0055, 0.054.
TOLERANCE = {"BF16": 0.004, "F16": 0.0005, "Q8_0": 0.01, "Q4_0": 0.1}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return dict(json.loads((GOLDEN / "golden.json").read_text()))


def all_ids(golden: dict[str, Any]) -> list[int]:
    return [*golden["prompt_ids"], *golden["ids"]]


def feed(path: Path, ids: list[int], backend: str = "c") -> np.ndarray:
    engine = run.load(path, backend=backend, threads=2)  # type: ignore[arg-type]
    return engine.forward(ids, [0] * len(ids), range(len(ids)))


def test_it_is_small_and_in_float32(golden: dict[str, Any]) -> None:
    assert MODEL.stat().st_size < 1_000_000
    model = load(MODEL)
    assert {model.tensors[name].dtype for name in model.tensors} == {np.dtype(np.float32)}
    assert len(set(golden["ids"])) > 10  # a text, not one token for ever
    assert model.tokenizer.encode(golden["prompt"]) == golden["prompt_ids"]
    assert model.tokenizer.decode(golden["ids"]) == golden["text"]


@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_library_and_numpy(backend: str, golden: dict[str, Any]) -> None:
    engine = run.load(MODEL, backend=backend)  # type: ignore[arg-type]
    made = [step.id for step in engine.generate(golden["prompt_ids"], max_tokens=len(golden["ids"]))]
    assert made == golden["ids"]


def test_program(golden: dict[str, Any]) -> None:
    done = program(MODEL, "-p", golden["prompt"], "-n", str(len(golden["ids"])), "--temp", "0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == golden["prompt"] + golden["text"] + "\n"


def test_torch(golden: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    from twofold.train.export import from_model

    net = from_model(load(MODEL)).eval()
    ids = list(golden["prompt_ids"])
    with torch.no_grad():
        for _ in golden["ids"]:
            ids.append(int(net.logits(torch.tensor([ids]))[0, -1].argmax()))
        logits = net.logits(torch.tensor([ids]))[0].numpy()
    assert ids == all_ids(golden)
    ours = feed(MODEL, ids)
    assert np.abs(ours - logits).max() / np.abs(logits).max() < 1e-5


@pytest.mark.parametrize("kind", TOLERANCE)
def test_fewer_bits_stay_within_their_tolerance(kind: str, golden: dict[str, Any], tmp_path: Path) -> None:
    save_gguf(load(MODEL), tmp_path / "model.gguf", kind)
    ids = all_ids(golden)
    exact, rounded = feed(MODEL, ids), feed(tmp_path / "model.gguf", ids)
    error = float(np.sqrt(((rounded - exact) ** 2).mean()) / exact.std())
    assert error < TOLERANCE[kind]
    assert error > TOLERANCE[kind] / 20  # it was rounded
    twin = feed(tmp_path / "model.gguf", ids, backend="numpy")
    assert float(np.sqrt(((twin - exact) ** 2).mean()) / exact.std()) < TOLERANCE[kind]  # so does numpy
