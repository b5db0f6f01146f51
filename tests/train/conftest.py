"""What the tests of training share."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """Give other tests in this process back what training switches off: numbers almost zero."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
