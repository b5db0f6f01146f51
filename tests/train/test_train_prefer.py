"""Preference runs: a model learns to prefer, a judge to judge, the gold reward ends them, and they resume."""

import json
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pairs_made import fresh, lines, settings, write  # noqa: E402
from small_runs import Stop, broken_at  # noqa: E402

from twofold.base import runlog  # noqa: E402
from twofold.base.errors import BadFileError, UsageError  # noqa: E402
from twofold.corpus.pairs import pairs  # noqa: E402
from twofold.measure.judge import Judge  # noqa: E402
from twofold.parameters import load  # noqa: E402
from twofold.run import load as open_engine  # noqa: E402
from twofold.train import prefer, rehearsal, resume  # noqa: E402
from twofold.train.folder import read_recipe  # noqa: E402
from twofold.train.gold import PICTURE, read_curves  # noqa: E402
from twofold.train.optimiser import OptimizerConfig  # noqa: E402
from twofold.train.preference import PairScore  # noqa: E402

FAST = OptimizerConfig(muon_lr=0.02, embedding_lr=0.02, head_lr=0.02, norm_lr=0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return fresh(tmp_path_factory.mktemp("fresh") / "fresh.gguf")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", lines(60))


@pytest.fixture(scope="module")
def judge(model, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("judge") / "judge"
    return prefer(settings(model, data, out, reward=True, optimizer=FAST, steps=30))


def records(folder):
    """Return what must be equal of each record, whenever it ran."""
    found = runlog.read(folder / "metrics.jsonl")
    left_out = ("tokens_per_s", "utilisation")
    return [{k: v for k, v in one.items() if not k.endswith("_s") and k not in left_out} for one in found]


def test_the_judge_knows_the_better_answer_and_is_an_ordinary_model(judge):
    assert judge.score.accuracy == 1.0
    card = load(judge.model).card
    assert card["tags"] == ["reward-model"]
    engine = Judge(open_engine(judge.model, threads=1, sequences=3))
    held_out = list(pairs(judge.folder / "pairs" / "val.jsonl"))
    asked = [(one.messages, one.chosen["content"]) for one in held_out]
    better = engine.rewards(asked)
    worse = engine.rewards([(one.messages, one.rejected["content"]) for one in held_out])
    assert all(b > w for b, w in zip(better, worse, strict=True))
    first = runlog.read(judge.folder / "metrics.jsonl")[0]
    assert first["val_loss_nats"] == pytest.approx(np.log(2), abs=1e-6)  # good and bad begin alike


def test_a_model_learns_to_prefer_and_the_gold_reward_sees_it(model, data, judge, tmp_path):
    how = dict(judge=str(judge.model), optimizer=FAST, compare=True)
    result = prefer(settings(model, data, tmp_path / "run", **how))
    facts = read_recipe(result.folder).result
    assert facts["pair_accuracy"] > 0.9
    won = facts["wins"]
    assert 0 <= won["low"] <= won["rate"] <= won["high"] <= 1
    assert 1 <= won["prompts"] <= 6
    assert [row["name"] for row in facts["changes"]] == ["comparisons (bits per pair)", "general text"]
    assert facts["changes"][0]["after"] < facts["changes"][0]["before"]
    scored = [PairScore.read(one) for one in runlog.read(result.folder / "metrics.jsonl")]
    points = [one.gold for one in scored if one is not None]
    assert points[0].kl_nats == pytest.approx(0, abs=1e-5)
    assert points[0].reward == pytest.approx(0, abs=1e-6)
    assert points[-1].kl_nats > 0.1
    gold, (along, best) = read_curves(result.folder)
    assert gold == "model"
    assert [point.reward for point in along.points] == [point.reward for point in points]
    assert [point.name for point in best.points] == ["n=1", "n=2", "n=4"]
    assert (result.folder / PICTURE).read_bytes().startswith(b"\x89PNG")
    assert "win rate over the model before" in (result.folder / "card.md").read_text()


def test_pairs_kept_back_make_a_judge_that_the_run_never_learns_from(model, data, tmp_path):
    result = prefer(settings(model, data, tmp_path / "run", keep_back=0.5, optimizer=FAST))
    inner = result.folder / "judge"
    kept = {json.dumps(one.messages) for one in pairs(result.folder / "pairs" / "judge.jsonl")}
    assert read_recipe(inner).settings["data"] == [str(result.folder / "pairs" / "judge.jsonl")]
    assert (inner / "model.gguf").is_file()
    about = json.loads((result.folder / "pairs" / "about.json").read_text())
    assert about["judge"] == len(kept)
    assert about["train"] + about["val"] + about["judge"] == 60
    assert read_recipe(result.folder).result["gold"].startswith("a judge of")


def test_it_ends_where_the_gold_reward_turns_and_keeps_those_weights(
    model, data, judge, tmp_path, monkeypatch
):
    from twofold.train.gold import GoldReward

    worth = iter([0.0, 1.0, 3.0, 2.0, 2.5, 2.9, 9.0])

    def measure(self, net):
        return self.start(None) + next(worth), np.zeros(len(self.gold.problems))

    monkeypatch.setattr(GoldReward, "start", lambda self, path: np.zeros(len(self.gold.problems)))
    monkeypatch.setattr(GoldReward, "measure", measure)
    how = dict(judge=str(judge.model), patience=3, steps=40)
    result = prefer(settings(model, data, tmp_path / "run", **how))
    assert result.trained.steps == 25  # evaluations at 0, 5, 10 (the best), 15, 20, 25
    assert read_recipe(result.folder).result["best_step"] == 10
    assert result.score.gold.reward == 3.0
    state = result.folder / "checkpoints" / "step-00000010"
    assert state.is_dir()
    again = load(result.model).tensors["blk.0.ffn_up.weight"]
    from twofold.train.checkpoint import load as load_state

    kept = load_state(state).tensors["model.blk.0.ffn_up.weight"].numpy()
    assert np.abs(again - kept).max() < 0.02 * np.abs(kept).max()  # Q8_0


@pytest.mark.parametrize("change", [{}, {"reward": True}, {"lora": 2, "rehearse": 0.5}])
def test_a_killed_run_ends_as_one_left_alone(model, data, tmp_path, monkeypatch, change):
    monkeypatch.setattr(rehearsal, "questions", lambda: [[f"what {n}"] for n in range(12)])
    monkeypatch.setattr(rehearsal, "LONGEST", 8)
    how = dict(file_type="F32", keep_back=0.4, steps=12, eval_every=4, **change)
    whole = prefer(settings(model, data, tmp_path / "whole", **how))
    with monkeypatch.context() as patch:
        broken_at(patch, 7)
        with pytest.raises(Stop):
            prefer(settings(model, data, tmp_path / "killed", **how))
        if not change.get("reward"):  # the judge's own run was the first to die
            assert not (tmp_path / "killed" / "pairs" / "reference.npz").exists()
            with pytest.raises(Stop):
                resume(tmp_path / "killed")
    again = resume(tmp_path / "killed")
    assert records(again.folder) == records(whole.folder)
    ours, theirs = load(again.model).tensors, load(whole.model).tensors
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert (again.folder / "overoptimisation.json").read_text() == (
        whole.folder / "overoptimisation.json"
    ).read_text()


def test_the_reference_is_computed_once(model, data, tmp_path, monkeypatch):

    module, calls = sys.modules["twofold.train.prefer"], []
    real = module.reference
    monkeypatch.setattr(module, "reference", lambda *a: calls.append(1) or real(*a))
    with monkeypatch.context() as patch:
        broken_at(patch, 3)
        with pytest.raises(Stop):
            prefer(settings(model, data, tmp_path / "run", steps=5))
    resume(tmp_path / "run")
    assert len(calls) == 2  # of the pairs to learn from, and of those held out


def test_a_task_gives_gold_rewards_too(model, data, tmp_path):
    how = dict(judge="arithmetic", steps=4, eval_every=2, gold_prompts=3, best_of=2)
    result = prefer(settings(model, data, tmp_path / "run", **how))
    gold, curves = read_curves(result.folder)
    assert (gold, len(curves)) == ("arithmetic", 2)


def test_bad_pairs_and_settings_are_said_before_anything_is_learned(model, data, judge, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "rejected": "b"}\n{broken\n' + data.read_text())
    with pytest.raises(BadFileError, match=r"(?s)2 lines .*line 1: no answer .*line 2: not JSON"):
        prefer(settings(model, bad, tmp_path / "a"))
    result = prefer(settings(model, bad, tmp_path / "b", bad_lines="skip", steps=2))
    assert result.trained.steps == 2
    with pytest.raises(UsageError, match="is no reward model"):
        prefer(settings(model, data, tmp_path / "c", judge=str(model)))
    with pytest.raises(UsageError, match="There is no judge"):
        prefer(settings(model, data, tmp_path / "d", judge=str(tmp_path / "none.gguf")))
    with pytest.raises(UsageError, match="no model"):
        prefer(settings(tmp_path / "none.gguf", data, tmp_path / "e"))
    for wrong in (dict(beta=0.0), dict(keep_back=1.0), dict(best_of=0), dict(layout="shards")):
        with pytest.raises(ValueError, match=r" is | are "):
            settings(model, data, tmp_path / "f", **wrong)
