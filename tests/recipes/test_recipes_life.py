"""Whole lives in small: nano from data to an answer of the compiled program, and what box.py adds to that."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

import box
import box_card
import box_data
import nano

from twofold.parameters import card as cards
from twofold.parameters import load
from twofold.run.library import CompilerError, compiler
from twofold.train.dial import ShapeConfig


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of a short nano life, and what its model said."""
    try:
        compiler()
    except CompilerError as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("nano")
    return out, nano.live(out, steps=12, tales=300, talks=1000)


def test_nano_ends_with_two_files_that_talk(lived: tuple[Path, str]) -> None:
    out, said = lived
    assert said.strip()
    assert (out / "run.c").stat().st_size > 10_000
    model = load(out / "model.gguf")
    assert model.card["name"] == "nano-chat"
    assert model.tokenizer.special_id("<|im_end|>") in model.tokenizer.stop_ids


def test_box_measures_lets_speak_and_writes_a_card_without_paths(
    lived: tuple[Path, str], tmp_path: Path
) -> None:
    out, _ = lived
    work = tmp_path / "work"
    shutil.copytree(out / "base", work / "base")
    shutil.copytree(out / "chat", work / "tuned")
    (work / "data/text").mkdir(parents=True)
    rows = [{"text": "The fox met the hen. " * 10, "source": source} for source in ("fables", "tales")]
    val = work / "data/text/val.jsonl"
    val.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (work / "data/talk").mkdir()
    (work / "data/talk/own.jsonl").write_text("{}\n")
    measured = box_card.scores(work / "base", val)
    assert set(measured) == {"fables", "tales", "all"}
    assert measured["all"] == pytest.approx(measured["fables"], abs=1e-3), "both sources hold the same text"
    assert 0 < measured["all"] < 8
    spoken = list(box_card.samples(work / "tuned/model.gguf"))
    assert len(spoken) == len(box_card.QUESTIONS)
    assert spoken[1]["prompt"].startswith("> Who are you?\n< ")
    assert spoken[1]["prompt"].endswith("> Do you make mistakes?\n< ")
    life = box.Life(
        data=tmp_path, out=tmp_path, work=work, flops=1e12, talks=10, device="cpu", threads=1,
        shape=ShapeConfig(depth=1, vocab=1024),
    )  # fmt: skip
    tuned = load(work / "tuned/model.gguf").card
    card = cards.validate(box_card.describe(life, tuned, [box_data.OWN], measured, spoken))
    assert "makes things up" in card["summary"]
    assert str(tmp_path.parent) not in json.dumps(card), (
        "the card names no path of the machine it was made on"
    )
    assert card["recipe"]["plans"]["base"]["depth"] == 2
    assert len(card["recipe"]["data_sha256"]) == 2
    page = box_card.as_page(card)
    assert "loss.svg" not in page
    assert "Believe nothing it says" in page
    assert "recipes/box_talk.py" in page
