"""Runs to which something happens: they say so in a sentence, and end as if it had not (or say how)."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from rich.console import Console  # noqa: E402
from small_runs import Stop, after_step, broken_at, records, settings, write_text  # noqa: E402

from twofold.base import runlog  # noqa: E402
from twofold.base.errors import TwofoldError  # noqa: E402
from twofold.train import Stopped, checkpoint, loop, planning, pretrain, resume  # noqa: E402
from twofold.train.data import Windows  # noqa: E402
from twofold.train.evaluation import HeldOut  # noqa: E402
from twofold.train.folder import read_recipe  # noqa: E402
from twofold.train.guard import GuardConfig  # noqa: E402
from twofold.train.keeper import Keeper  # noqa: E402
from twofold.train.ring import NAMES, RESERVE  # noqa: E402


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    return pretrain(settings(text, tmp_path_factory.mktemp("run") / "a")).folder


def said(capsys):
    return " ".join(capsys.readouterr().out.split())


def wide():
    return Console(width=200)


def poison(monkeypatch, losses):
    """Give some batches, by their number in the data, a loss of their own (and gradients of that kind)."""
    bad = {}
    batch, gradients = Windows.batch, loop.gradients

    def seen(self, step):
        found = batch(self, step)
        if step in losses and self.shuffle:
            bad[found.ids.tobytes()] = losses[step]
        return found

    def spoiled(net, one, *rest):
        loss = gradients(net, one, *rest)
        if one.ids.tobytes() not in bad:
            return loss
        for parameter in net.parameters():
            parameter.grad += bad[one.ids.tobytes()]
        return torch.tensor(bad[one.ids.tobytes()])

    monkeypatch.setattr(Windows, "batch", seen)
    monkeypatch.setattr(loop, "gradients", spoiled)


QUICK = GuardConfig(least=4, patience=2)
NAN = float("nan")


def test_batches_that_are_off_are_skipped_and_said(text, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, {7: NAN, 15: 99.0})
    config = settings(text, tmp_path / "a", guard=QUICK)
    pretrain(config, console=wide())
    notes = said(capsys)
    assert "Step 8: the batch was skipped, as its loss is no number." in notes
    assert "Step 16: the batch was skipped, as its loss of 99.00 is far above the" in notes
    assert len([r for r in records(tmp_path / "a") if r["skipped"]]) == 2
    assert "skipped" not in str(runlog.read(tmp_path / "a" / "metrics.jsonl")[0])
    for step in (8, 12, 17):  # resumed with the memory of losses, to the last bit
        folder = tmp_path / f"b{step}"
        with monkeypatch.context() as patch:
            broken_at(patch, step)
            with pytest.raises(Stop):
                pretrain(settings(text, folder, guard=QUICK, checkpoint_share=0.0))
        resume(folder)
        assert records(folder) == records(tmp_path / "a")


def test_gradients_that_are_no_numbers_change_nothing(text, tmp_path, monkeypatch, capsys):
    gradients = loop.gradients
    taken = []

    def spoiled(net, batch, *rest):
        loss = gradients(net, batch, *rest)
        taken.append(net.token_embd.detach().clone())
        if len(taken) == 10:
            net.output_norm.grad[3] = float("inf")
        return loss

    monkeypatch.setattr(loop, "gradients", spoiled)
    pretrain(settings(text, tmp_path / "a"), console=wide())
    assert "Step 10: the batch was skipped, as its gradient is no number." in said(capsys)
    assert torch.equal(taken[9], taken[10])  # before and after the step
    assert not torch.equal(taken[10], taken[11])


def test_a_run_that_went_wrong_goes_back_and_on_with_other_batches(text, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, dict.fromkeys((8, 9, 10), NAN))
    config = settings(text, tmp_path / "a", guard=QUICK)
    result = pretrain(config, console=wide())
    assert "3 in a row: back to step 6, and on with other batches." in said(capsys)
    assert result.trained.steps == 24
    log = records(tmp_path / "a")
    assert [r["step"] for r in log if r["went_back_from"]] == [6]
    assert [r["step"] for r in log if r["loss_nats"] is not None] == list(range(1, 25))
    # After it, batch 11 follows step 6. Killed anywhere, it comes out the same.
    for number, step in enumerate((8, 10, 7, 13)):
        folder = tmp_path / f"b{number}"
        with monkeypatch.context() as patch:
            broken_at(patch, step)
            with pytest.raises(Stop):
                pretrain(settings(text, folder, guard=QUICK, checkpoint_share=0.02 * (number % 2)))
        resume(folder)
        assert records(folder) == log


def test_a_new_level_of_loss_is_accepted_in_the_end(text, tmp_path, monkeypatch, capsys):
    poison(monkeypatch, dict.fromkeys(range(8, 200), 99.0))
    pretrain(settings(text, tmp_path / "a", guard=QUICK), console=wide())
    notes = said(capsys)
    assert "back to step 6" in notes
    assert "taken as the new level" in notes


def test_a_loss_that_stays_no_number_ends_the_run(text, tmp_path, monkeypatch):
    poison(monkeypatch, dict.fromkeys(range(200), NAN))
    with pytest.raises(TwofoldError, match=r"no longer a number at step 4, with other batches too; try"):
        pretrain(settings(text, tmp_path / "n"))


@pytest.mark.parametrize("damage", ["flip", "truncate"])
def test_a_damaged_checkpoint_is_passed_over(finished, text, tmp_path, monkeypatch, capsys, damage):
    with monkeypatch.context() as patch:
        broken_at(patch, 12)
        with pytest.raises(Stop):
            pretrain(settings(text, tmp_path / "d", checkpoint_share=0.0))
    path = tmp_path / "d" / "checkpoints" / "step-00000010" / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content if damage == "flip" else content[:-100])
    resume(tmp_path / "d", console=wide())
    notes = said(capsys)
    assert "step-00000010 is damaged" in notes
    assert "Going on from step 6; the 6 steps after it were not saved, and done again." in notes
    assert records(tmp_path / "d") == records(finished)


def test_the_ring_loses_no_step(finished, text, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "_ring_may", lambda _: True)  # as if it took no time
        broken_at(patch, 14)
        with pytest.raises(Stop):
            pretrain(settings(text, tmp_path / "r", checkpoint_steps=10_000, checkpoint_share=0.5))
    assert {path.name for path in (tmp_path / "r" / "checkpoints").iterdir()} >= set(NAMES)
    resume(tmp_path / "r", console=wide())
    assert "Going on from step 13; the step after it was not saved, and done again." in said(capsys)
    assert records(tmp_path / "r") == records(finished)
    assert not [path for path in (tmp_path / "r" / "checkpoints").iterdir() if path.name in NAMES]


def test_saving_changes_no_loss(finished, text, tmp_path):
    pretrain(settings(text, tmp_path / "a", checkpoint_steps=1, checkpoint_share=0.5, checkpoint_keep=5))
    assert records(tmp_path / "a") == records(finished)
    assert checkpoint.steps(tmp_path / "a" / "checkpoints") == [20, 21, 22, 23, 24]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["step", "gradients", "evaluation", "samples"])
def test_a_signal_saves_at_once_and_says_how_to_go_on(
    finished, text, tmp_path, monkeypatch, capsys, number, where
):
    def strike():
        os.kill(os.getpid(), number)

    def striking(module, name, at):
        whole, calls = getattr(module, name), []

        def call(*arguments, **named):
            calls.append(1)
            if len(calls) == at:
                strike()
            return whole(*arguments, **named)

        return call

    with monkeypatch.context() as patch:
        if where == "step":
            after_step(patch, 8, strike)
        elif where == "gradients":
            patch.setattr(loop, "gradients", striking(loop, "gradients", 9))
        elif where == "evaluation":
            patch.setattr(HeldOut, "score", striking(HeldOut, "score", 3))
        else:
            patch.setattr(loop, "sample", striking(loop, "sample", 1))
        with pytest.raises(Stopped):
            pretrain(settings(text, tmp_path / "c", checkpoint_steps=10_000), console=wide())
    assert f"Go on with: twofold train --resume {tmp_path / 'c'}" in said(capsys)
    step = {"step": 8, "gradients": 8, "evaluation": 12, "samples": 12}[where]
    assert checkpoint.steps(tmp_path / "c" / "checkpoints")[-1] == step  # the step in progress is given up
    resume(tmp_path / "c")
    assert records(tmp_path / "c") == records(finished)


def test_sigterm_before_the_first_step_says_how_to_go_on(finished, text, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(planning, "step_plan", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            pretrain(settings(text, tmp_path / "c"), console=wide())
    assert "Go on with: twofold train --resume" in said(capsys)
    resume(tmp_path / "c")
    assert records(tmp_path / "c") == records(finished)


def test_a_run_from_before_hashes_and_guards_goes_on(finished, text, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        broken_at(patch, 9)
        with pytest.raises(Stop):
            pretrain(settings(text, tmp_path / "a", checkpoint_share=0.0))
    path = tmp_path / "a" / "checkpoints" / "step-00000006"
    (path / "SHA256SUMS").unlink()
    facts = json.loads((path / "state.json").read_text())
    for name in ("guard", "shift", "went_back", "due", "anchor", "rank"):
        del facts[name]
    (path / "state.json").write_text(json.dumps(facts))
    resume(tmp_path / "a", console=wide())
    notes = said(capsys)
    assert "step-00000006 has no SHA256SUMS, as in old runs; it is used unchecked." in notes
    assert "Going on from step 6; the 3 steps after it were not saved, and done again." in notes
    assert records(tmp_path / "a") == records(finished)


def full_disk(monkeypatch, from_step, to_step, *, kept=False):
    """Let nothing be flushed, appended or made room for between two steps.

    `kept`: what lies on the disk can be overwritten, and the log has room when the reserve is given up.
    """
    now = [0]
    after = loop.Run._step

    def stepped(self, log, stopping):
        now[0] = self.step + 1
        after(self, log, stopping)

    def failing(whole):
        def call(*arguments):
            if from_step <= now[0] < to_step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return whole(*arguments)

        return call

    monkeypatch.setattr(loop.Run, "_step", stepped)
    for name in ("fsync",) if kept else ("fsync", "posix_fallocate", "pwritev"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    log = runlog.RunLog.catch_up

    def behind(self):
        room = kept and not (self.path.parent / "checkpoints" / RESERVE).exists()
        if from_step <= now[0] < to_step and not room:
            self.behind = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.behind
        return log(self)

    monkeypatch.setattr(runlog.RunLog, "catch_up", behind)


def test_a_disk_that_is_full_for_a_while_costs_nothing(finished, text, tmp_path, monkeypatch, capsys):
    full_disk(monkeypatch, 9, 17)
    pretrain(settings(text, tmp_path / "a"), console=wide())
    assert records(tmp_path / "a") == records(finished)
    notes = said(capsys)
    assert "No space left on device" in notes
    assert "works again" in notes


def test_a_disk_that_stays_full_ends_the_run_with_what_was_saved(
    finished, text, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        full_disk(patch, 12, 10_000)
        with pytest.raises(TwofoldError, match=r"All 24 steps are done, but the end could not be saved"):
            pretrain(settings(text, tmp_path / "a"), console=wide())
    assert "No space left on device" in said(capsys)
    kept = checkpoint.steps(tmp_path / "a" / "checkpoints")
    assert kept[-1] in (6, 10)  # the thread may have written the one of step 10 before the disk was full
    resume(tmp_path / "a")
    assert records(tmp_path / "a") == records(finished)


@pytest.mark.parametrize("killed", [True, False])
def test_a_full_disk_loses_no_step_that_has_its_place(finished, text, tmp_path, monkeypatch, capsys, killed):
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "_ring_may", lambda _: True)  # as if it took no time
        full_disk(patch, 9, 10_000, kept=True)
        if killed:
            broken_at(patch, 17)
        with pytest.raises(Stop if killed else TwofoldError):
            pretrain(settings(text, tmp_path / "a"), console=wide())
    notes = said(capsys)
    assert "The disk is full at step 9; the record of steps goes on where room was kept." in notes
    assert "could not be saved (No space left on device); training goes on, and the checkpoint of" in notes
    resume(tmp_path / "a", console=wide())
    told = "16; the step after it was not saved, and done again." if killed else "24."
    assert f"Going on from step {told}" in said(capsys)
    assert records(tmp_path / "a") == records(finished)
    left = sorted(path.name for path in (tmp_path / "a" / "checkpoints").iterdir())
    assert left[-1] == "step-00000024"
    assert not {*NAMES, RESERVE} & {*left}


def test_a_real_limit_on_file_size(finished, text, tmp_path):
    """The kernel refuses to let a file grow, as it does on a full disk; another process has no such limit."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from rich.console import Console
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from twofold.train import resume
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, {resource.RLIM_INFINITY}))
try:
    resume({str(tmp_path / "a")!r}, console=Console(width=200))
except Exception as error:
    print(type(error).__name__, error)
"""
    with pytest.MonkeyPatch.context() as patch:
        broken_at(patch, 7)
        with pytest.raises(Stop):
            pretrain(settings(text, tmp_path / "a", checkpoint_share=0.0))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    notes = " ".join(done.stdout.split())
    assert "File too large" in notes, done.stderr
    assert "but the end could not be saved" in notes
    assert 6 in checkpoint.steps(tmp_path / "a" / "checkpoints")
    assert read_recipe(tmp_path / "a").result == {}
    resume(tmp_path / "a")
    assert records(tmp_path / "a") == records(finished)
