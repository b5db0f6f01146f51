"""What the tests of training share."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no benchmark be at hand, so that comparing models takes no longer where there is data."""
    monkeypatch.setenv("TWOFOLD_DATA", str(Path(__file__).parent))
