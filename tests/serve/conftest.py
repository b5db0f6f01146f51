"""Servers that several tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Serving, serve
from tiny_models import random_model

from twofold import parameters


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random model, which talks without end."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    parameters.save_gguf(random_model("qwen3", context=2048), folder / "model.gguf", "F32")
    return folder


@pytest.fixture(scope="session")
def serving(tiny: Path) -> Iterator[Serving]:
    """Return a server of the model in the box, called "box", and a tiny random one, called "tiny"."""
    with serve("box", tiny) as running:
        yield running
