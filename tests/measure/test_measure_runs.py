"""Runs from outside: how far they are, following them as they write, and when they go back."""

import json
import os
import time
from pathlib import Path

import pytest

from twofold.base.errors import UsageError
from twofold.base.runlog import RunLog
from twofold.measure import runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = tmp_path / "runs" / "first"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text('kind = "pretrain"\n[settings]\nmodel = "x"\n[plan]\nsteps = 100\n')
    return tmp_path / "runs"


def test_a_run_says_how_far_it_is(folder: Path) -> None:
    assert runs.all_runs(folder) == []
    with RunLog(folder / "first" / "metrics.jsonl") as log:
        for step in range(3000):
            log.write(step=step, loss_nats=7.0 - step / 1000, text="x" * 100)
        log.write(step=3000, bits_per_byte=1.5)
    (run,) = runs.all_runs(folder)
    assert (run["name"], run["kind"], run["step"], run["steps"]) == ("first", "pretrain", 3000, 100)
    assert run["running"]
    assert run["last"] == {"loss_nats": 7.0 - 2.999, "bits_per_byte": 1.5}
    old = time.time() - 1000
    os.utime(folder / "first" / "metrics.jsonl", (old, old))
    assert not runs.all_runs(folder)[0]["running"]
    (folder / "first" / "recipe.toml").write_text("[broken")
    assert runs.all_runs(folder)[0]["steps"] is None


def test_following_a_run_brings_what_is_new_only(folder: Path) -> None:
    path = folder / "first" / "metrics.jsonl"
    log = RunLog(path)
    log.write(step=1, loss_nats=3.0)
    found, place, anew = runs.records("first", folder=folder)
    assert ([one["step"] for one in found], anew) == ([1], False)
    assert runs.records("first", place, folder=folder) == ([], place, False)
    with open(path, "ab") as file:
        file.write(b'{"step": 2, "loss')  # half a line is not there yet
    assert runs.records("first", place, folder=folder) == ([], place, False)
    with open(path, "ab") as file:
        file.write(b'_nats": 2.5}\n')
    found, place, _ = runs.records("first", place, folder=folder)
    assert found == [{"step": 2, "loss_nats": 2.5}]
    log.back_to(1)
    found, _, anew = runs.records("first", place, folder=folder)
    assert ([one["step"] for one in found], anew) == ([1], True)
    log.close()


def test_thinning_keeps_what_is_rare(folder: Path) -> None:
    lines = []
    for step in range(1000):
        lines.append({"step": step, "loss_nats": 1.0})
        if step % 100 == 0:
            lines += [{"step": step, "bits_per_byte": 1.0}, {"step": step, "samples": []}]
    path = folder / "first" / "metrics.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, _, _ = runs.records("first", most=50, folder=folder)
    steps = [one["step"] for one in found if "loss_nats" in one]
    assert (len(steps), steps[0], steps[-1]) == (50, 0, 999)
    assert sum("samples" in one for one in found) == sum("bits_per_byte" in one for one in found) == 10


@pytest.mark.parametrize("name", ["none", "../first", "", "first/../first", "."])
def test_names_lead_nowhere_else(folder: Path, name: str) -> None:
    (folder / "first" / "metrics.jsonl").write_text("")
    with pytest.raises(UsageError, match="no run"):
        runs.records(name, folder=folder)
