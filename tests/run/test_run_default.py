"""The default model: the one in the box, what is promoted, and the way back."""

from pathlib import Path

import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.run import box, default


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def made(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_promotions_stack_and_roll_back(tmp_path: Path) -> None:
    assert default.path() == box.path()
    with pytest.raises(UsageError, match="nothing to go back to"):
        default.rollback()
    one = default.promote(made(tmp_path / "one" / "model.gguf", b"1"), "one", {"rows": []})
    two = default.promote(made(tmp_path / "two" / "model.gguf", b"2"), "two", {})
    assert (default.path(), two.path.read_bytes()) == (two.path, b"2")
    assert [entry.name for entry in default.promoted()] == ["one", "two"]
    (tmp_path / "one" / "model.gguf").unlink()  # a run's folder may go
    back = default.rollback()
    assert back == one
    assert default.path().read_bytes() == b"1"
    assert default.rollback() is None
    assert default.path() == box.path()
    assert two.path.exists()  # nothing is deleted


def test_what_is_gone_or_damaged_is_said(tmp_path: Path) -> None:
    kept = default.promote(made(tmp_path / "a" / "model.gguf", b"1"), "one", {})
    kept.path.unlink()
    with pytest.raises(BadFileError, match="twofold rollback"):
        default.path()
    default.rollback()
    with open(default.folder() / "defaults.jsonl", "a") as file:
        file.write("{}\n")
    with pytest.raises(BadFileError, match="line 3"):
        default.promoted()
