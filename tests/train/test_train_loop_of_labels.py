"""The loop from the command line: a correction, a tune, a promotion that has to be won, and the way back."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from small_runs import settings, write_text  # noqa: E402

from twofold.cli.commands import promote  # noqa: E402
from twofold.cli.main import main  # noqa: E402
from twofold.kernel.labels import Labels  # noqa: E402
from twofold.measure.compare import Row  # noqa: E402
from twofold.run import box, default  # noqa: E402
from twofold.train import pretrain, rehearsal  # noqa: E402

FAST = ["--set", "threads=1", "--set", "compute=float32", "--set", "batch=2"]


@pytest.fixture
def twofold(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(rehearsal, "questions", lambda: [[f"what {n}"] for n in range(30)])

    def run(*arguments):
        capsys.readouterr()
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as leave:
            code = leave.code or 0
        said = capsys.readouterr()
        return code, " ".join((said.out + said.err).split())

    return run


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    text = write_text(tmp_path_factory.mktemp("text"))
    return pretrain(settings(text, tmp_path_factory.mktemp("run") / "base", steps=60))


def test_a_correction_is_learned_promoted_and_taken_back(twofold, base):
    assert "no labels to learn from yet" in twofold("tune")[1]
    default.promote(base.model, "base", {})
    before = default.path()
    Labels().fix([{"role": "user", "content": "dog?"}], "tree", "the dog runs", {"name": "base"})
    steps = ["--set", "steps=60", "--set", "patience=0", "--set", "val_fraction=0.3"]
    code, said = twofold("tune", *FAST, *steps)
    assert code == 0, said
    assert "labels" in said
    assert "own answers" in said
    assert "general text" in said
    assert "twofold promote runs/base-tuned" in said
    code, said = twofold("promote", "base-tuned", "--margin", "0.5", "-t", "1")
    assert code == 0, said
    assert default.path() != before
    (entry,) = [entry for entry in default.promoted() if entry.name == "base-tuned"]
    assert {row["name"] for row in entry.about["rows"]} == {"labels", "own answers", "general text"}
    assert "is the default already" in twofold("promote", "base-tuned")[1]
    assert "instead of base-tuned" in twofold("rollback")[1]
    assert default.path() == before
    twofold("rollback")
    assert default.path() == box.path()


def test_a_model_that_does_not_win_stays_out(twofold, base, tmp_path):
    default.promote(base.model, "base", {})
    answers = {"messages": [{"role": "user", "content": "dog?"}, {"role": "assistant", "content": "a tree"}]}
    pairs = [
        json.dumps({"messages": [{"role": "user", "content": f"{n}?"}, answers["messages"][1]]})
        for n in range(9)
    ]
    Path("talk.jsonl").write_text("\n".join(pairs))
    still = [f"optimizer.{name}_lr=0" for name in ("muon", "embedding", "head", "norm")]
    flags = [part for setting in (*still, "steps=1") for part in ("--set", setting)]
    code, said = twofold("tune", base.folder, "--on", "talk.jsonl:2", "--out", "none", *FAST, *flags)
    assert code == 0, said
    code, said = twofold("promote", "none")
    assert (code, "does not win" in said) == (1, True), said
    assert default.promoted()[-1].name == "base"
    assert "--on takes FILE or FILE:WEIGHT" in twofold("tune", base.folder, "--on", "talk.jsonl:much")[1]
    default.rollback()
    assert "holds no held-out" in twofold("promote", base.folder)[1]
    assert "does not go together with --on" in twofold("tune", "--resume", "x", "--on", "y")[1]


def made(name, difference, error):
    return Row(name=name, items=20, before=1.0, after=1.0 + difference, error=error)


def test_what_it_takes_to_win():
    better, general = made("labels", -0.5, 0.1), made("general text", 0.001, 0.002)
    assert promote.lost([better, general], 0.02) is None
    assert "beyond doubt" in promote.lost([made("labels", -0.5, 0.51), general], 0.02)
    assert "beyond doubt" in promote.lost([made("own answers", -0.5, 0.1), general], 0.02)
    assert "on general text" in promote.lost([better, made("general text", 0.03, 0.01)], 0.02)
    assert promote.lost([better, made("general text", 0.03, 0.04)], 0.02) is None  # noise
    assert "talk" in promote.lost([better, made("talk", 0.1, 0.05), general], 0.02)
