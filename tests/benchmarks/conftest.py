"""What the tests of the benchmarks share."""

import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts import each other by their bare names, as they do when they are run."""
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
