"""Time for accuracy in small: from nothing to the tables and the curves, and again from there."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

import time_for_accuracy
from rich.console import Console
from time_for_accuracy_shown import pooled, rises

QUIET = Console(quiet=True)


def small(out: Path) -> time_for_accuracy.Study:
    domains = (
        time_for_accuracy.Domain(
            "countdown", 600, (10, 20), 6,
            ("tree search, checked", "best of n, checked", "vote", "likeliest of n"),
        ),
        time_for_accuracy.Domain("connect4", 600, (30, 60), 3, ("tree search", "search without the model")),
    )  # fmt: skip
    return time_for_accuracy.Study(out=out, seeds=2, domains=domains, layers=1, width=32, threads=1)


def test_the_study_ends_with_tables_and_curves_and_goes_on_after_a_crash(tmp_path: Path) -> None:
    text = time_for_accuracy.study(small(tmp_path), QUIET)
    assert "**countdown**: 2 seeds × 6 unseen problems" in text
    assert text.count("\n| 10 |") == text.count("\n| 60 |") == 1
    assert (tmp_path / "table.md").read_text() == text
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    results = tmp_path / "results.jsonl"
    lines = results.read_text().splitlines()
    assert len(lines) == 2 * (1 + 4 * 2 + 1 + 2 * 2)
    results.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:50])  # killed while it wrote
    time_for_accuracy.study(small(tmp_path), QUIET)
    cells = [json.loads(line) for line in results.read_text().splitlines() if line.endswith("}")]
    timeless = [{key: value for key, value in cell.items() if key != "seconds"} for cell in cells]
    assert timeless == [
        {key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines
    ]


def test_a_curve_that_falls_beyond_its_intervals_does_not_rise() -> None:
    def curve(*shares: float) -> list[list[dict[str, list[float]]]]:
        return [[{"rewards": [1.0] * round(100 * s) + [0.0] * round(100 - 100 * s)}] for s in shares]

    assert rises(curve(0.1, 0.4, 0.7))
    assert rises(curve(0.1, 0.4, 0.38))  # within the interval
    assert not rises(curve(0.1, 0.4, 0.1))
    assert pooled(curve(0.4)[0])[0] == pytest.approx(40)
