"""eval: the table, JSON, answers that are kept, contamination, and mistakes in one sentence."""

import json
from pathlib import Path

import pytest

from twofold.cli.commands import eval as command
from twofold.measure import evaluation

ARC = [
    {
        "query": f"Question: Who sounds horn {n}?",
        "choices": ["the old captain of the ferry", "a gull"],
        "gold": n % 2,
    }
    for n in range(6)
]
BLIMP = [
    {
        "UID": f"{term}_{n % 2}",
        "good": f"The {term} argue {n}.",
        "bad": f"The {term} argues {n}.",
        "term": term,
    }
    for term in ("agreement", "islands")
    for n in range(4)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name, lines in (("arc_easy", ARC), ("blimp", BLIMP)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


def test_a_table_of_scores(twofold, model: Path, data: Path) -> None:
    result = twofold(
        "eval", model, "--tasks", "blimp,arc_*", "--data", data, "--limit", "4", "--parts", "-t", "1"
    )
    assert result.code == 0, result.err
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[0][:3] == ["a", "small", "one"]
    first = {row[0]: row[1:] for row in rows[1:] if row}
    assert first["blimp"][0] == "acc"
    assert first["blimp"][3:6] == ["50.0", "0", "4"]
    assert first["agreement"][3] == first["islands"][3] == "2"
    assert first["arc_easy"][0] == "acc_norm"


def test_the_usual_tasks_are_those_whose_data_is_there(twofold, model: Path, data: Path) -> None:
    result = twofold("eval", model, "--data", data, "-t", "1", "--json")
    record = json.loads(result.out)
    assert [task["task"] for task in record["tasks"]] == ["blimp", "arc_easy"]
    assert record["tasks"][1]["items"] == 6
    assert set(record["tasks"][1]["scores"]) == {"acc", "acc_norm"}
    assert record["tasks"][0]["parts"]["islands"]["items"] == 4
    assert record["context"] == 128


def test_answers_are_kept_and_used_again(twofold, model: Path, data: Path, monkeypatch) -> None:
    how = ("eval", model, "--data", data, "-t", "1", "--json", "--out", "answers.jsonl")
    first = twofold(*how)
    assert len(Path("answers.jsonl").read_text().splitlines()) == 1 + 6 + 8
    monkeypatch.setattr(evaluation.Scorer, "likelihoods", lambda *_: pytest.fail("asked again"))
    assert twofold(*how).out == first.out


def test_ctrl_c_says_what_is_kept(twofold, model: Path, data: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation.Scorer, "likelihoods", interrupted)
    result = twofold("eval", model, "--data", data, "--out", "answers.jsonl")
    assert result.code == 130
    assert "Stopped; 0 answers are kept in answers.jsonl" in result.said


def test_items_in_the_training_text_are_told(twofold, model: Path, data: Path, tmp_path: Path) -> None:
    book = tmp_path / "book.txt"
    book.write_text('Chapter 1. "Who sounds horn 2? The old captain of the ferry!" said the boy.')
    how = ("eval", model, "--tasks", "arc_easy,blimp", "--data", data, "-t", "1", "--trained-on", book)
    arc, blimp = json.loads(twofold(*how, "--json").out)["tasks"]
    assert (arc["training_text"]["judged"], arc["training_text"]["seen"]) == (3, 1)
    assert arc["training_text"]["unseen"] is not None
    assert blimp["training_text"] == {"judged": 0, "seen": 0, "unseen": None}
    shown = twofold(*how).out
    assert "1 of 3" in shown
    assert "13 words in a row" in " ".join(shown.split())


def test_the_recipe_of_a_run_names_its_text(twofold, model: Path, data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.gguf").write_bytes((model / "model.gguf").read_bytes())
    (tmp_path / "book.txt").write_text("Who sounds horn 4 the old captain of the ferry")
    (folder / "recipe.toml").write_text('kind = "pretrain"\n[settings]\ndata = ["book.txt", "gone.txt"]\n')
    result = twofold("eval", folder, "--tasks", "arc_easy", "--data", data, "-t", "1", "--json")
    assert json.loads(result.out)["tasks"][0]["training_text"]["seen"] == 1


def test_the_list_of_tasks(twofold, data: Path) -> None:
    lines = twofold("eval", "--list", "--data", data).out.splitlines()
    rows = {line.split()[0]: line.split()[1:3] for line in lines if line and not line.startswith(" ")}
    assert rows["arc_easy"] == ["0", "yes"]
    assert rows["gsm8k"] == ["5", "no"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tasks", "arc_esy"), "Did you mean 'arc_easy'"),
        (("--tasks", ","), "nothing to ask"),
        (("--tasks", "big*"), "nothing to ask"),
        (("--tasks", "piqa"), "needs the file piqa.jsonl"),
        (("--data", "nowhere"), "no folder 'nowhere'"),
    ],
)
def test_mistakes_are_sentences(twofold, model: Path, data: Path, options, message: str) -> None:
    how = () if "--data" in options else ("--data", data)
    result = twofold("eval", model, *how, *options)
    assert result.code == 2
    assert message in result.said


@pytest.mark.parametrize(
    ("value", "shown"), [(6.984, "6.98"), (22793.03, "22,793.03"), (4.717e55, "4.7e+55")]
)
def test_numbers_stay_short(value: float, shown: str) -> None:
    assert command.shown(value) == shown
