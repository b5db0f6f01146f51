"""What the tests of training share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no benchmark be at hand, so that comparing models takes no longer where there is data."""
    monkeypatch.setenv("TWOFOLD_DATA", str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """Give other tests in this process back what training switches off: numbers almost zero."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
