"""The card's tables: figures of others from their sources, and abilities as scores."""

import json
from pathlib import Path

import box_published
import pytest
import zstandard

from twofold.measure.tasks import blimp
from twofold.parameters import card as cards
from twofold.run import box as shipped

pytest.importorskip("torch")

import box_card


def test_published_figures_come_from_the_file_and_from_the_list(tmp_path: Path) -> None:
    assert box_published.published(tmp_path) == list(box_published.FOUND)
    rows = [
        {"model": "pythia-70m", "step": step, "task": "piqa", "acc": 0.1, "acc_norm": step / 286_000}
        for step in (1000, 143_000)
    ]
    rows.append({"model": "pythia-12b", "step": 143_000, "task": "piqa", "acc": 0.1, "acc_norm": 0.9})
    path = tmp_path / box_published.SCALING
    path.parent.mkdir(parents=True)
    path.write_bytes(zstandard.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    found = box_published.published(tmp_path)
    assert box_published.beside("piqa", found) == "SmolLM-135M 68.4, Pythia-70M 50.0"
    assert box_published.beside("copa", found) == ""
    lines = box_published.sources(found)
    assert len(lines) == 3
    assert all(line.startswith("Published figures, not ours: ") for line in lines)


def test_published_figures_of_the_shared_data(shared_data: Path) -> None:
    found = box_published.published(shared_data)
    pythia = {(one.model, one.task): one.percent for one in found if one.source == box_published.PYTHIA}
    assert pythia["Pythia-70M", "piqa"] == 59.1
    assert pythia["Pythia-160M", "lambada"] == 32.8
    assert len(pythia) == 10


def test_abilities_are_scores_of_a_card() -> None:
    one = {"right": 9, "of": 10, "share": 0.9, "low": 0.6, "high": 0.98}
    rows = box_card.abilities({"demo, calls": one})
    assert rows[0]["value"] == 90.0
    assert rows[0]["95 %"] == "60 to 98"
    cards.validate({"name": "x", "scores": rows})


def test_benchmarks_stand_beside_what_others_score(tmp_path: Path) -> None:
    """Two items of BLiMP's form, asked of the model in the box."""
    rows = [
        {**blimp.SAMPLE, "pairID": str(n), "good": f"{n} birds sing.", "bad": f"{n} birds sings."}
        for n in (2, 3)
    ]
    (tmp_path / "blimp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = box_card.benchmarks(shipped.path(), tmp_path, list(box_published.FOUND), "as it ships", 1)
    (only,) = found
    assert only["items"] == 2
    assert only["chance"] == 50
    assert "BabyLlama (BabyLM 2024) 69.8" in only["others, published"]
    cards.validate({"name": "x", "scores": found})
