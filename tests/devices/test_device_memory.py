"""The memory device: notes that outlive a process, with the labels of what they were made of."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from twofold.base.errors import BadFileError
from twofold.devices import memory
from twofold.kernel.device import Context, DeviceError
from twofold.kernel.flow import Label, Ring

USER = Label(Ring.USER, None, frozenset({"user"}))
WEB = Label(Ring.TOOL, frozenset({"user"}), frozenset({"web:example.org"}))


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[memory.Memory]:
    device = memory.Memory(tmp_path / "notes.db")
    yield device
    device.close()


def context(folder: Path, label: Label = USER, says: str = "forget") -> Context:
    def ask(question: str, options: Sequence[str] | None) -> str:
        assert options is not None
        assert says in options
        return says

    return Context(pid=7, workspace=folder, call="c1", ask_user=ask, labels={"text": label})


def test_a_note_is_found_by_what_it_is_about_and_outlives_the_process(
    notes: memory.Memory, tmp_path: Path
) -> None:
    here = context(tmp_path)
    for text in ("The garage opens at seven.", "My sister prefers tea.", "The printer needs paper."):
        assert notes.call("note", {"text": text}, here).value
    again = memory.Memory(tmp_path / "notes.db")
    found = again.call("recall", {"question": "When does the garage open?"}, here)
    again.close()
    assert found.value[0]["text"] == "The garage opens at seven."
    assert "The garage opens" in (found.text or "")
    assert (
        notes.call("recall", {"question": "tea", "count": 1}, here).value[0]["text"]
        == "My sister prefers tea."
    )
    assert notes.call("recall", {"question": "zebras"}, here).label != WEB


def test_a_note_keeps_the_label_of_what_it_was_made_of(notes: memory.Memory, tmp_path: Path) -> None:
    notes.call("note", {"text": "Bananas cost nine crowns."}, context(tmp_path, WEB))
    notes.call("note", {"text": "Apples are sold out."}, context(tmp_path, USER))
    assert notes.call("recall", {"question": "bananas", "count": 1}, context(tmp_path)).label == WEB
    apples = notes.call("recall", {"question": "apples", "count": 1}, context(tmp_path)).label
    assert apples is not None
    assert apples.ring is Ring.USER


def test_only_the_users_yes_deletes(notes: memory.Memory, tmp_path: Path) -> None:
    row = notes.call("note", {"text": "The unforgettable wombat."}, context(tmp_path)).value
    assert notes.call("forget", {"note": row}, context(tmp_path, says="keep")).value is False
    assert notes.call("recall", {"question": "wombat"}, context(tmp_path)).value
    assert notes.call("forget", {"note": row}, context(tmp_path)).value is True
    assert notes.call("recall", {"question": "wombat"}, context(tmp_path)).value == []
    assert b"wombat" not in (tmp_path / "notes.db").read_bytes()
    with pytest.raises(DeviceError, match="no note"):
        notes.call("forget", {"note": row}, context(tmp_path))


def test_mistakes_are_told(notes: memory.Memory, tmp_path: Path) -> None:
    for text in ("", "  ", "x" * 5_000):
        with pytest.raises(DeviceError, match="1 to 4,000"):
            notes.call("note", {"text": text}, context(tmp_path))
    (tmp_path / "other").write_text("no database, but a text that is long enough to be looked at. " * 40)
    with pytest.raises(BadFileError, match="does not hold notes"):
        memory.Memory(tmp_path / "other")
