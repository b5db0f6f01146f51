"""Passing the teacher in small: two seeds from nothing to the table and the curve, and again from there."""

from pathlib import Path

import pytest

pytest.importorskip("torch")

import pass_the_teacher
from rich.console import Console

from twofold.parameters import load


def test_the_study_ends_with_a_table_and_a_curve(tmp_path: Path) -> None:
    given = pass_the_teacher.Study(
        task="connect4", out=tmp_path, seeds=2, time=None, rounds=2, imitate=600, tests=20, layers=1,
        width=32, threads=1,
    )  # fmt: skip
    text = pass_the_teacher.study(given, Console(quiet=True))
    rows = [line.split("|")[1].strip() for line in text.splitlines()]
    assert rows == ["", "---", "seed 0", "seed 1", "all", "the teacher itself"]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "table.md").read_text() == text
    models = [load(tmp_path / f"seed-{seed}" / "model.gguf") for seed in (0, 1)]
    assert all("connect4" in model.card["summary"] for model in models)
    assert pass_the_teacher.study(given, Console(quiet=True)) == text  # what is finished is not done again
