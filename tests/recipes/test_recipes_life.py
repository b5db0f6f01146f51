"""Whole lives in small: nano from data to an answer of the compiled program, and what box.py adds to that."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

import box
import box_better
import box_card
import box_check
import box_data
import nano
import zstandard
from box_turns import spelled
from rich.console import Console

from twofold.corpus.pairs import pairs
from twofold.parameters import card as cards
from twofold.parameters import load
from twofold.run.library import CompilerError, compiler
from twofold.train.dial import ShapeConfig
from twofold.train.folder import read_recipe
from twofold.train.step import flops_per_token


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


@pytest.fixture
def life(data: Path, tmp_path: Path) -> box.Life:
    """Return a life of a few steps on the small folder of data."""
    return box.Life(
        data=data, out=tmp_path / "out", work=tmp_path / "work", flops=1e9, steps=10, rows=1, talks=40,
        research=0, tiers=(1, 3), device="cpu", threads=1, eager=True, until="tuned",
        shape=ShapeConfig(depth=1, width=64, vocab=1024, context=1024),
    )  # fmt: skip


def test_box_lives_up_to_a_stage_and_goes_on_from_there(life: box.Life, tmp_path: Path) -> None:
    console = Console(quiet=True)
    assert box.live(dataclasses.replace(life, until="base"), console) is None
    base = tmp_path / "work/base/model.gguf"
    before = base.stat().st_mtime_ns
    assert load(base).config.context == 1024
    assert not (tmp_path / "work/tuned").exists()
    stream = (tmp_path / "work/stream/train.bin").read_bytes()
    assert box.live(life, console) is None
    assert base.stat().st_mtime_ns == before, "what is finished is used"
    assert (tmp_path / "work/stream/train.bin").read_bytes() == stream
    recipe = read_recipe(tmp_path / "work/tuned")
    assert len(recipe.settings["weights"]) == len(box_data.WEIGHTS) - 2, "but for the talk's demo"
    assert recipe.plan["steps"] == life.tuning()[0]
    assert recipe.plan["context"] == life.window == 2560
    assert load(tmp_path / "work/tuned/model.gguf").config.context == 2560


def test_a_budget_is_shared_by_the_stages(life: box.Life) -> None:
    shape = ShapeConfig(depth=6, width=384, vocab=8192, context=1024)
    large = dataclasses.replace(life, flops=4.7e15, steps=None, rows=None, shape=shape)
    steps, rows = large.batch()
    spent = steps * rows * 1024 * flops_per_token(large.model)
    assert spent == pytest.approx(box.SHARES["base"] * 4.7e15, rel=0.01)
    steps, rows = large.tuning()
    wide = dataclasses.replace(large.model, context=large.window)
    spent = steps * rows * large.window * flops_per_token(wide)
    assert spent == pytest.approx(box.SHARES["tuned"] * 4.7e15, rel=0.01)
    assert large.model.parameters * 34 / 32 < box.MOST_BYTES


def test_box_check_asks_every_kind_and_judges(lived: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = lived
    found = box_check.check(out / "model.gguf", count=1, threads=1)
    assert {"demo, calls", box_check.DEMO} <= set(found["scores"])
    groups = {item.group for item in box_check.items(12)}
    assert groups >= {
        "calculator, calls",
        "tools, calls",
        "passage, said",
        "think",
        "unknown, says so",
        "known",
    }
    assert all(0 <= one["low"] <= one["share"] <= one["high"] <= 1 for one in found["scores"].values())
    rows = [{"text": f"book a room, {n}", "label": "book_hotel"} for n in range(3)]
    rows.append({"text": "hello", "label": "greeting"})
    path = tmp_path / box_check.NATURAL
    path.parent.mkdir()
    path.write_bytes(zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    asked = box_check.natural(tmp_path, 9, seed=0)
    assert len(asked) == 3
    scores = box_check.score(asked, ["I cannot do that.", "I do not know.", "Done!"])
    assert scores[asked[0].group]["right"] == 2
    some = box_check.items(3, seed=1)
    perfect = [spelled(item.answer) for item in some]
    scores = box_check.score(some, perfect)
    assert {one["share"] for one in scores.values()} == {1.0}
    assert box_check.overall(scores) == 1
    worse = box_check.score(some, ["I do not know."] * len(some))
    assert worse["unknown, says so"]["share"] == 1
    assert worse["don't know, precision"]["share"] < 0.3
    assert worse[box_check.DEMO]["right"] == 0


def test_pairs_are_made_of_the_models_own_mistakes(lived: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = lived
    path = tmp_path / "mistakes.jsonl"
    count = box_better.mistakes(out / "model.gguf", path, 1, asked=1)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == count > 0
    for record in records:
        assert record["prompt"][-1]["role"] in ("user", "tool")
        chosen, rejected = record["chosen"][0], record["rejected"][0]
        assert chosen["role"] == rejected["role"] == "assistant"
        assert "must" not in chosen
        assert rejected["content"].strip()
    found = list(pairs([str(path)]))  # what `twofold prefer` reads
    assert len(found) == count
    assert any(one.tools for one in found) == any("tools" in record for record in records)


@pytest.mark.parametrize(("after", "kept"), [(0.6, True), (0.5, False), (0.4, False)])
def test_a_stage_has_to_win(
    after: float, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, folder = tmp_path / "tuned", tmp_path / "preferred"
    for one in (before, folder):
        one.mkdir()
        (one / "model.gguf").touch()
    shares = {before / "model.gguf": 0.5, folder / "model.gguf": after}
    monkeypatch.setattr(
        box_better.box_check, "check", lambda path, **_: {"scores": {"all": {"share": shares[path]}}}
    )
    console = Console(quiet=True)

    def again() -> None:
        raise AssertionError("a finished stage is not begun again")

    assert box_better.kept(before, folder, again, console, 1) == (folder if kept else before)
    shares.clear()  # the choice is kept
    assert box_better.kept(before, folder, again, console, 1) == (folder if kept else before)


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
    assert len(spoken) == len(box_card.QUESTIONS) + 1
    assert box_card.SUM in spoken[-1]["prompt"]
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
