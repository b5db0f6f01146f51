"""What all tests share. Each process keeps to one thread, so that tests run side by side without a fight."""

import os

# Before anything imports numpy or torch: both read these once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A ladder that this machine keeps, or its user's hardware table, must not change what tests see.
os.environ["XDG_DATA_HOME"] = os.environ["XDG_CONFIG_HOME"] = os.path.join(os.path.dirname(__file__), "none")

import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the top folder of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of large test data, which lives beside the repository and not in it; skip without."""
    folder = Path(os.environ.get("TWOFOLD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set TWOFOLD_DATA to the folder that holds pretrain/ and sft/")
    return folder


@pytest.fixture(autouse=True)
def _denormal_numbers() -> Iterator[None]:
    """Give other tests in this process back what training switches off: numbers almost zero."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
