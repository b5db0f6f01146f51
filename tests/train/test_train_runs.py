"""Whole runs on a small text: they learn, resume to the last bit, keep their time, leave their files."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_runs import Stop, after_step, broken_at, records, settings, write_text  # noqa: E402
from tiny_models import random_model  # noqa: E402

from twofold.base.errors import BadFileError, UsageError  # noqa: E402
from twofold.parameters import load, save_gguf  # noqa: E402
from twofold.run.reference import Reference  # noqa: E402
from twofold.train import (  # noqa: E402
    FinetuneConfig,
    Stopped,
    finetune,
    loop,
    planning,
    pretrain,
    resume,
)
from twofold.train.appointment import read_decisions  # noqa: E402
from twofold.train.dial import ShapeConfig  # noqa: E402
from twofold.train.folder import read_recipe  # noqa: E402
from twofold.train.parent import open_parent  # noqa: E402


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module")
def finished(text, tmp_path_factory):
    return pretrain(settings(text, tmp_path_factory.mktemp("run") / "a"))


def test_a_run_leaves_its_files_and_learns(finished):
    folder = finished.folder
    for name in (
        "model.gguf",
        "run.c",
        "tokenizer.json",
        "card.md",
        "loss.svg",
        "recipe.toml",
        "metrics.jsonl",
    ):
        assert (folder / name).stat().st_size > 0, name
    losses = [r["loss_nats"] for r in records(folder) if r["loss_nats"] is not None]
    assert len(losses) == 24
    assert losses[0] > 5.5
    assert losses[-1] < 3.5
    scores = [r["bits_per_byte"] for r in records(folder) if r["bits_per_byte"] is not None]
    assert scores[-1] < 0.6 * scores[0]
    assert finished.score.bits_per_byte == pytest.approx(scores[-1], rel=0.1)
    card = (folder / "card.md").read_text()
    assert "loss.svg" in card
    assert "the cat" in card
    assert str(folder) not in card
    assert (folder / "loss.svg").read_text().count("<polyline") == 2
    model = load(folder / "model.gguf")
    assert model.card["scores"][0]["name"] == "bits per byte"
    assert str(folder.parent) not in json.dumps(model.card)
    recipe = read_recipe(folder)
    assert recipe.result["steps"] == 24
    assert recipe.plan["muon_lr"] > 0
    assert all(len(source["sha256"]) == 64 for source in recipe.data)


def test_the_model_file_says_what_torch_says(text, tmp_path):
    result = pretrain(settings(text, tmp_path / "f32", file_type="F32"))
    model = load(result.model)
    net = loop.Transformer(model.config)
    with torch.no_grad():
        state = open_parent(result.folder).tensors
        for name, parameter in net.named().items():
            parameter.copy_(torch.tensor(state[name]))
    ids = model.tokenizer.encode("the small dog sees the old tree")
    n = len(ids)
    expected = Reference(model, context=64).forward(ids, [0] * n, range(n), [True] * n)
    with torch.no_grad():
        found = net.logits(torch.tensor([ids]))[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert (found.argmax(1) == expected.argmax(1)).all()


@pytest.mark.parametrize("step", [3, 7, 15, 20])
def test_a_killed_run_resumes_to_the_last_bit(finished, text, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch:
        broken_at(patch, step)
        with pytest.raises(Stop):
            pretrain(settings(text, tmp_path / "b"))
    result = resume(tmp_path / "b")
    assert records(tmp_path / "b") == records(finished.folder)
    ours, theirs = open_parent(result.folder).tensors, open_parent(finished.folder).tensors
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_run_goes_on_from_a_finished_one(finished, text, tmp_path, monkeypatch):
    how = {"start": finished.folder, "model": ShapeConfig(context=32), "batch": 8}
    with monkeypatch.context() as patch:
        broken_at(patch, 7)
        with pytest.raises(Stop):
            pretrain(settings(text, tmp_path / "on", **how))
    on = resume(tmp_path / "on")
    losses = [r["loss_nats"] for r in records(on.folder) if r["loss_nats"] is not None]
    before = [r["loss_nats"] for r in records(finished.folder) if r["loss_nats"] is not None]
    assert len(losses) == 24
    assert losses[0] < before[len(before) // 2]  # it begins with what was learned
    assert on.score.bits_per_byte < finished.score.bits_per_byte
    old, new = load(finished.model), load(on.model)
    assert new.config == old.config  # rows are shorter than its window, which stays
    assert new.tokenizer.vocabulary == old.tokenizer.vocabulary
    assert new.card["parents"] == [{"name": "a"}]
    assert new.card["data"] == 2 * old.card["data"]


def test_longer_rows_teach_a_longer_window(finished, text, tmp_path):
    how = {"start": finished.folder, "model": ShapeConfig(context=128), "batch": 2, "steps": 2}
    wide = load(pretrain(settings(text, tmp_path / "wide", **how)).model)
    assert wide.config == dataclasses.replace(load(finished.model).config, context=128)


def test_a_run_goes_on_from_a_downloaded_model_of_another_family(text, tmp_path):
    theirs = random_model("llama")
    save_gguf(theirs, tmp_path / "theirs.gguf", "F32")
    how = {"start": tmp_path / "theirs.gguf", "model": ShapeConfig(context=32), "steps": 4}
    on = load(pretrain(settings(text, tmp_path / "on", **how)).model)
    assert on.config == theirs.config
    assert on.tokenizer.vocabulary == theirs.tokenizer.vocabulary
    assert f"of {theirs.config.parameters:,} parameters" in on.card["summary"]


def test_a_family_that_is_not_trained_here_is_refused_before_anything_is_made(text, tmp_path):
    save_gguf(random_model("gemma3"), tmp_path / "theirs.gguf", "F32")
    with pytest.raises(BadFileError, match="gemma3 cannot be trained further here"):
        pretrain(settings(text, tmp_path / "on", start=tmp_path / "theirs.gguf"))
    assert not (tmp_path / "on").exists()


def test_a_finished_run_resumed_changes_nothing(finished):
    before = records(finished.folder)
    again = resume(finished.folder)
    assert records(finished.folder) == before
    assert again.score == finished.score


def test_ctrl_c_saves_and_says_how_to_go_on(finished, text, tmp_path, monkeypatch, capsys):
    from rich.console import Console

    with monkeypatch.context() as patch:
        after_step(patch, 8, lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(Stopped):
            pretrain(settings(text, tmp_path / "c"), console=Console(width=200))
    assert f"twofold train --resume {tmp_path / 'c'}" in capsys.readouterr().out
    assert (tmp_path / "c" / "checkpoints" / "step-00000008").is_dir()
    resume(tmp_path / "c")
    assert records(tmp_path / "c") == records(finished.folder)


def test_only_two_checkpoints_are_kept_and_half_written_ones_are_ignored(finished):
    folder = finished.folder / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["step-00000020", "step-00000024"]
    (folder / "step-00000099").mkdir()
    assert resume(finished.folder).trained.steps == 24
    (folder / "step-00000099").rmdir()


def test_gradient_accumulation_gives_the_same_step(finished, text, tmp_path, monkeypatch):
    monkeypatch.setattr("twofold.train.machine.CPU_MICRO_TOKENS", 64)
    result = pretrain(settings(text, tmp_path / "e"))
    assert result.plan.micro_rows == 1
    ours = [r["loss_nats"] for r in records(tmp_path / "e") if r["loss_nats"] is not None]
    whole = [r["loss_nats"] for r in records(finished.folder) if r["loss_nats"] is not None]
    np.testing.assert_allclose(ours, whole, rtol=1e-3)


def slow_clock(monkeypatch, seconds):
    """Make each step seem to take so long, and reading the text no time at all; nothing waits."""
    monkeypatch.setattr(loop.Run, "elapsed_s", property(lambda run: run.step * seconds))
    plan = planning.plan
    monkeypatch.setattr(planning, "plan", lambda config, corpus, *, began=None: plan(config, corpus))


def timed(text, out, **changes):
    config = settings(text, out, steps=None, time="20s", batch=8, eval_every=50, sample_every=0, **changes)
    return config


def test_a_run_that_would_come_too_late_ends_sooner_and_replays_that(text, tmp_path, monkeypatch):
    def fixed(*_, **__):
        return loop_pace

    from twofold.train.machine import Pace

    loop_pace = Pace(0.2, 0.0, 1e-5, 1)  # the plan believes in steps of 0.2 s
    monkeypatch.setattr("twofold.train.machine.pace", fixed)
    slow_clock(monkeypatch, 0.5)  # and they take 0.5 s
    result = pretrain(timed(text, tmp_path / "a"))
    decisions = read_decisions(tmp_path / "a")
    assert decisions
    assert result.trained.steps == decisions[-1]["steps"] < result.plan.steps
    assert result.trained.steps * 0.5 == pytest.approx(result.plan.budget_s, abs=1.5)
    last = [r["lr_scale"] for r in records(tmp_path / "a") if r["lr_scale"] is not None][-1]
    assert last < 0.25
    assert read_recipe(tmp_path / "a").decisions == decisions

    # The same run, killed after the decision but before a checkpoint knew of it, on a machine now fast.
    with monkeypatch.context() as patch:
        broken_at(patch, decisions[0]["step"] + 1)
        with pytest.raises(Stop):
            pretrain(timed(text, tmp_path / "b", checkpoint_steps=10_000, checkpoint_share=0.0))
    known = read_decisions(tmp_path / "b")
    assert len(known) == 1
    slow_clock(monkeypatch, 0.0001)
    monkeypatch.setattr("twofold.train.appointment.IDLE", 0.0)
    resume(tmp_path / "b")
    assert read_decisions(tmp_path / "b") == known
    scales = [r["lr_scale"] for r in records(tmp_path / "b") if r["lr_scale"] is not None]
    assert len(scales) == known[0]["steps"]


def test_a_run_with_time_left_goes_on(text, tmp_path, monkeypatch):
    from twofold.train.machine import Pace

    monkeypatch.setattr("twofold.train.machine.pace", lambda *_, **__: Pace(1.0, 0.0, 1e-5, 1))
    slow_clock(monkeypatch, 0.5)
    result = pretrain(timed(text, tmp_path / "a"))
    assert result.trained.steps > result.plan.steps
    assert result.trained.steps * 0.5 < result.plan.budget_s * 1.1


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    with open(path, "w") as file:
        for number in range(60):
            answer = ("the dog runs", "a tree")[number % 2]
            question = ("dog?", "tree?")[number % 2]
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def tuning(finished, chats, out, **changes):
    given = dict(
        model=finished.folder, data=(str(chats),), out=out, steps=120, batch=4, threads=1,
        compute="float32", checkpoint_steps=7, prompts=("dog?",), val_fraction=0.1,
    )  # fmt: skip
    return FinetuneConfig(**{**given, **changes})


def test_finetuning_teaches_to_answer(finished, chats, tmp_path):
    result = finetune(tuning(finished, chats, tmp_path / "t"))
    scores = [r["bits_per_byte"] for r in records(result.folder) if r["bits_per_byte"] is not None]
    assert scores[-1] < 0.3 * scores[0]
    model = load(result.model)
    vocabulary = model.tokenizer.vocabulary
    assert vocabulary.tokens[vocabulary.eos_id] == "<|im_end|>"
    assert model.card["parents"][0]["name"] == "a"
    assert {source["name"] for source in model.card["data"]} >= {"chats.jsonl", "00.txt"}
    ids = model.tokenizer.chat([{"role": "user", "content": "tree?"}], add_generation_prompt=True)
    answer = []
    for _ in range(12):
        n = len(ids)
        logits = Reference(model, context=64).forward(ids, [0] * n, range(n), [False] * (n - 1) + [True])
        token = int(logits[0].argmax())
        if token == vocabulary.eos_id:
            break
        answer.append(token)
        ids = [*ids, token]
    assert model.tokenizer.decode(answer) == "a tree"


def test_finetuning_resumes_to_the_last_bit(finished, chats, tmp_path, monkeypatch):
    finetune(tuning(finished, chats, tmp_path / "a"))
    with monkeypatch.context() as patch:
        broken_at(patch, 17)
        with pytest.raises(Stop):
            finetune(tuning(finished, chats, tmp_path / "b"))
    resume(tmp_path / "b")
    assert records(tmp_path / "b") == records(tmp_path / "a")


def test_what_cannot_be_done_is_said(finished, text, chats, tmp_path):
    with pytest.raises(UsageError, match="already holds a run"):
        pretrain(settings(text, finished.folder))
    with pytest.raises(UsageError, match="not the folder of a run"):
        resume(tmp_path)
    with pytest.raises(UsageError, match="no model"):
        finetune(tuning(finished, chats, tmp_path / "x", model=tmp_path / "none"))
    with pytest.raises(UsageError, match="Give either"):
        pretrain(settings(text, tmp_path / "y", data=()))
    with pytest.raises(UsageError, match="window"):
        finetune(tuning(finished, chats, tmp_path / "u", context=128))
    with pytest.raises(UsageError, match="--time"):
        pretrain(settings(text, tmp_path / "z", time="soon"))
    assert not (tmp_path / "z").exists()
    (tmp_path / "w").mkdir()
    with pytest.raises(UsageError, match="not finished"):
        finetune(tuning(finished, chats, tmp_path / "v", model=tmp_path / "w"))


def test_without_torch_one_sentence():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from twofold.cli.main import main\n"
        "main(['train', 'somewhere'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'twofold[train]'" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
