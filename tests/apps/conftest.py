"""Apps to try things on, in a data folder of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from twofold.apps import installing

Maker = Callable[..., Path]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Return a function that writes the folder of an app: make("1.2.0", more="…", files={…})."""

    def write(version: str = "1.0.0", *, name: str = "sums", more: str = "", **files: str) -> Path:
        folder = installing.starter(name, tmp_path / f"made-{len(list(tmp_path.glob('made-*')))}")
        manifest = (folder / "app.toml").read_text().replace("0.1.0", version)
        (folder / "app.toml").write_text(manifest + more)
        for path, text in files.items():
            (folder / path.replace("__", ".")).write_text(text)
        return folder

    return write
