"""Several processes train one model: the losses of one process, any number resumes, one may be lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_runs import records, settings, write_text  # noqa: E402

from twofold.parameters import load  # noqa: E402
from twofold.train import checkpoint, pretrain, shards  # noqa: E402
from twofold.train.parent import open_parent  # noqa: E402
from twofold.train.sharding import span  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def alone(text, tmp_path_factory):
    return pretrain(settings(text, tmp_path_factory.mktemp("run") / "a")).folder


@pytest.fixture(scope="module")
def several(text, tmp_path_factory):
    """Return what came of a few runs of several processes, by name: exit codes, what was said, the folder."""
    folder = tmp_path_factory.mktemp("several")

    def run(name, processes, layout="auto", **more):
        return {
            "out": str(folder / name),
            "text": str(text),
            "processes": processes,
            "layout": layout,
            **more,
        }

    specs = {
        "copies": run("copies", 2, "copies"),
        "four": run("four", 4, "shards", stop=[2, 14]),
        "four, then one": run("four", 1, resume=True),
        "one": run("one", 1, "shards", stop=[0, 14]),
        "one, then four": run("one", 4, resume=True),
        "lost": run("lost", 2, "shards", kill=[1, 14]),
        "lost, then two": run("lost", 2, resume=True),
        "lost part": run("lostpart", 4, "shards", kill=[2, 14], settings={"checkpoint_steps": 10_000}),
        "lost part, then one": run("lostpart", 1, resume=True),
        "lost copy": run("lostcopy", 2, "copies", kill=[1, 14], settings={"checkpoint_steps": 10_000}),
        "lost copy, then one": run("lostcopy", 1, resume=True),
        "uneven": run("uneven", 3),
    }
    environment = {**os.environ, "TWOFOLD_TIMEOUT_S": "20"}
    command = [sys.executable, str(HERE / "several.py"), json.dumps(list(specs.values()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return {
        name: {**result, "out": Path(spec["out"])}
        for (name, spec), result in zip(specs.items(), results, strict=True)
    }


def losses(folder, key="loss_nats"):
    return [r[key] for r in records(folder) if r[key] is not None]


@pytest.mark.parametrize(
    "name",
    [
        "copies", "four, then one", "one, then four", "lost, then two", "lost part, then one",
        "lost copy, then one",
    ],
)  # fmt: skip
def test_the_losses_are_those_of_one_process(alone, several, name):
    result = several[name]
    assert set(result["codes"]) == {0}, result["said"]
    for key in ("loss_nats", "gradient_norm", "bits_per_byte"):
        np.testing.assert_allclose(losses(result["out"], key), losses(alone, key), rtol=1e-4)
    assert [r["step"] for r in records(result["out"])] == [r["step"] for r in records(alone)]
    ours, theirs = open_parent(result["out"]).tensors, open_parent(alone).tensors
    for tensor_name, tensor in theirs.items():
        np.testing.assert_allclose(ours[tensor_name], tensor, rtol=1e-3, atol=1e-4)
    assert load(result["out"] / "model.gguf").config == load(alone / "model.gguf").config


def test_only_the_first_process_speaks(several):
    first, second = several["copies"]["said"]
    assert "bits per byte" in first
    assert second == ""


@pytest.mark.parametrize("name", ["four", "one"])
def test_a_signal_to_one_process_stops_all_after_the_step(several, name):
    result = several[name]
    assert set(result["codes"]) == {130}, result["said"]
    assert "Go on with: twofold train --resume" in result["said"][0]


def test_shards_are_read_by_any_number(several):
    assert "Going on from step 14." in several["four, then one"]["said"][0]
    assert "Going on from step 13." in several["one, then four"]["said"][0]  # alone, the step is given up


def test_the_files_of_four_are_hashed_and_torchs_own(several):
    path = several["lost, then two"]["out"] / "checkpoints" / "step-00000024"
    assert shards.written_together(path)
    names = {line.split()[1] for line in (path / "SHA256SUMS").read_text().splitlines()}
    assert names == {".metadata", "__0_0.distcp", "__1_0.distcp", "state.json"}
    state = checkpoint.load(path)
    assert state.tensors["model.token_embd.weight"].shape == (320, 32)


@pytest.mark.parametrize("name", ["lost", "lost copy"])
def test_the_loss_of_a_process_ends_the_others_in_a_sentence(several, name):
    result = several[name]
    assert result["codes"] == [1, -9], result["said"]
    first = result["said"][0]
    assert "error: Process 1 of 2: another one was lost, so this one stopped after step 13; go on" in first
    assert "Traceback" not in first


@pytest.mark.parametrize("name", ["lost copy, then one", "lost part, then one"])
def test_a_lost_process_loses_at_most_the_last_steps(several, name):
    # The step before was saved, or, as writing takes its share of time, one earlier; there is no checkpoint.
    said = several[name]["said"][0]
    assert "Going on from step 1" in said
    assert not [*(several[name]["out"] / "checkpoints").glob("ring-*")], "the run is done"


def test_a_batch_that_cannot_be_shared_is_said(several):
    result = several["uneven"]
    assert set(result["codes"]) == {1}
    assert "4 rows cannot be shared equally by 3 processes" in result["said"][0]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 320])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_spans_are_torchs_chunks(rows, size):
    whole = torch.arange(rows)
    chunks = [chunk.tolist() for chunk in whole.chunk(size)]
    ours = [whole[span(rows, rank, size)].tolist() for rank in range(size)]
    assert ours == chunks + [[]] * (size - len(chunks))


def test_torchrun_and_the_command_line(text, tmp_path):
    options = ["model.width=32", "model.context=64", "batch=2", "steps=4", "threads=1", "compute=float32"]
    options = [part for option in options for part in ("--set", option)]
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train = ["-m", "twofold", "train", str(text), "--depth", "1", "--vocab", "320", "--out", "out"]
    with subprocess.Popen(
        [*start, *train, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1] / "src")])},
    ) as launcher:  # fmt: skip
        try:
            out, errors = launcher.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            launcher.terminate()  # it ends its processes then; if it were killed, they would stay
            raise
    assert launcher.returncode == 0, errors
    assert out.count("out/model.gguf") == 2  # said once: its size, and how to use it
    assert load(tmp_path / "out" / "model.gguf").card["scores"]
