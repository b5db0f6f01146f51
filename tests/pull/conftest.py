"""A hub that holds one small model, and an own folder for what is pulled."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import Hub, serving
from tiny_models import random_model

from twofold import parameters
from twofold.pull import download


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small random model as q8.gguf and, in hf/, as safetensors."""
    folder = tmp_path_factory.mktemp("small")
    model = random_model("qwen3")
    parameters.save_gguf(model, folder / "q8.gguf", "Q8_0")
    parameters.save_hf(model, folder / "hf", "F16")
    return folder


@pytest.fixture
def hub(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Return a hub that is asked instead of the real one; nobody waits between attempts."""
    data = (small / "q8.gguf").read_bytes()
    held = Hub(
        files={"README.md": b"# Tiny\n", "tiny-Q8_0.gguf": data, "sub/tiny-F16.gguf": data + b"\0" * 32}
    )
    held.extra = {"cardData": {"license": "cc0-1.0"}, "gguf": {"architecture": "qwen3", "total": 1000}}
    with serving(held):
        monkeypatch.setenv("HF_ENDPOINT", held.address)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(download, "WAIT_S", 0.001)
        monkeypatch.chdir(tmp_path)
        yield held
