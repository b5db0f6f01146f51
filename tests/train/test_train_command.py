"""`twofold train` as typed: misuse in one sentence, and a whole run with its closing words."""

import pytest

pytest.importorskip("torch")

from twofold.cli.main import main


def typed(arguments, capsys):
    """Return the exit code, standard output, and standard error as one line."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code or 0
    captured = capsys.readouterr()
    return code, captured.out, " ".join(captured.err.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train"], "Say what to read"),
        (["train", "x", "--resume", "y"], "does not go together with PATH"),
        (["train", "--resume", "y", "--seed", "3"], "does not go together with --seed"),
        (["train", "x", "--vocab", "1000"], "multiple of 64"),
        (["train", "x", "--start", "box", "--depth", "2"], "leave out --depth"),
        (["train", "x", "--time", "soon"], "--time takes a time"),
        (["train", "x", "--set", "model.widht=64"], "did you mean model.width?"),
        (["train", "--resume", "nowhere"], "not the folder of a run"),
    ],
)
def test_misuse_is_one_sentence(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, notes = typed(arguments, capsys)
    assert code == 2
    assert sentence in notes
    assert not list(tmp_path.iterdir())


def test_a_whole_run(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    for number in range(9):
        (tmp_path / "text" / f"{number}.txt").write_text(f"{number} the cat sat on the mat. " * 60)
    small = ["model.width=32", "model.context=64", "batch=2", "steps=6", "threads=1", "compute=float32"]
    options = [part for setting in small for part in ("--set", setting)]
    code, said, notes = typed(["train", "text", "--depth", 1, "--vocab", 320, *options], capsys)
    assert code == 0, notes
    for word in ("1 layer,", "6 steps of 128", "expected", "planned", "happened", "bits per byte"):
        assert word in notes, word
    for word in ("runs/text/model.gguf", "runs/text/run.c", "twofold complete", "cc -O3"):
        assert word in said, word
    code, _, notes = typed(["train", "text", "--out", "runs/text"], capsys)
    assert (code, "already holds a run" in notes) == (2, True)
    code, said, _ = typed(["train", "--resume", "runs/text"], capsys)
    assert (code, "runs/text/model.gguf" in said) == (0, True)
