"""`twofold plan` as typed: the talk's case, budgets, this machine, misuse."""

import json
from pathlib import Path

import pytest

from twofold.cli.main import main


def typed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Return the exit code, standard output, and standard error as one line."""
    code = 0
    try:
        main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, " ".join(captured.err.split())


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_the_talk_s_case(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--params", "70e9", "--tokens", "2e12", "--devices", "6000", "--gpu", "a100-80gb"]
    code, said, _ = typed(["plan", *options], capsys)
    assert code == 0
    for words in (
        "70B weights",
        "2T tokens",
        "6,000 × NVIDIA A100",
        "12.3 days",
        "$2.45M",
        "8.4e+23",
        "data 750",
    ):
        assert words in said, words
    assert "this plan" in said
    assert "in half the time" in said
    assert max(map(len, said.splitlines())) <= 80
    assert "beyond them it is a guess" in said, "70B is more than Chinchilla's runs"


def test_json_holds_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    code, said, _ = typed(
        ["plan", "--dollars", "1,000", "--devices", "8", "--set", "price=2", "--json"], capsys
    )
    assert code == 0
    plan = json.loads(said)["plan"]
    assert plan["dollars"] == pytest.approx(1000)
    assert plan["device_hours"] == pytest.approx(500)
    assert plan["loss"]["low"] < plan["loss"]["expected"] < plan["loss"]["high"]
    assert plan["layout"]["data"] == 8


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--time", "7d", "--devices", "1", "--gpu", "rtx-4090"], "7 days"),
        (["--time", "1d12h", "--devices", "8"], "36 h"),
        (["--flops", "1e20", "--gpu", "H100"], "1e+20 operations"),
        (["--loss", "2.5"], "2.500 nats"),
        (["--params", "500B", "--tokens", "1B", "--devices", "1"], "no layout fits: it takes"),
        (["--params", "1e6", "--tokens", "20M", "--devices", "1"], "beyond them it is a guess"),
        (["--list"], "rtx-4090"),
    ],
)
def test_other_questions(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, said, notes = typed(["plan", *arguments], capsys)
    assert code == 0, notes
    assert sentence in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Say what there is to spend"),
        (["--params", "many"], "--params takes a number"),
        (["--time", "soon"], "--time takes a time"),
        (["--time", "5x"], "--time takes a time"),
        (["--flops", "1e20", "--gpu", "abacus"], "no device 'abacus'"),
        (["--flops", "1e20", "--set", "price=-1"], "0 or more"),
        (["--flops", "1e20", "--set", "prize=1"], "did you mean price?"),
        (["--loss", "1"], "out of reach"),
        (["--flops", "1e20", "--hardware", "nowhere.toml"], "no file nowhere.toml"),
    ],
)
def test_misuse_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said, notes = typed(["plan", *arguments], capsys)
    assert (code, said) == (2, "")
    assert sentence in notes


def test_this_machine_without_and_with_a_ladder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from made_ladder import made

    from twofold.measure import ladder
    from twofold.measure.machine import processor

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    code, said, notes = typed(["plan", "--time", "20m", "--gpu", "here"], capsys)
    assert code == 0, notes
    assert "nats per token" in said
    ladder.keep(made(device=processor()))
    code, said, _ = typed(["plan", "--time", "20m", "--gpu", "here"], capsys)
    assert code == 0
    assert "bits per byte" in said
    assert "by the ladder 'made-up'" in said
    assert "20 min" in said
    code, said, _ = typed(["scale", "--show"], capsys)
    assert code == 0
    assert "Foretold" in said
    assert "inside the interval" in " ".join(said.split())
