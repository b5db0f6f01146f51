"""Battles: what is kept of one, and the ratings that follow."""

from pathlib import Path

import pytest

from twofold.base import home
from twofold.base.errors import BadFileError, UsageError
from twofold.kernel.battles import Battles

ASKED = [{"role": "user", "content": "Hi"}]
BOX, OTHER = {"name": "box", "sha256": "ab" * 32}, {"name": "other", "sha256": "cd" * 32}
NEWER = {"name": "box", "sha256": "ef" * 32}


@pytest.fixture
def battles(tmp_path: Path) -> Battles:
    return Battles(tmp_path / "arena")


def test_a_battle_says_everything(battles: Battles) -> None:
    assert battles.all() == []
    assert not battles.folder.exists()
    id_ = battles.add(ASKED, {"a": "Ho", "b": "Hum"}, {"a": BOX, "b": OTHER}, "a", who="desk-1")
    battles.add(ASKED, {"a": "Ho", "b": "Hum"}, {"a": BOX, "b": OTHER}, "bad")
    first, second = battles.all()
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "battle": id_, "who": "desk-1", "messages": ASKED, "answers": {"a": "Ho", "b": "Hum"},
        "models": {"a": BOX, "b": OTHER}, "verdict": "a",
    }  # fmt: skip
    assert second["who"] == home.user()
    with pytest.raises(UsageError, match="no verdict"):
        battles.add(ASKED, {"a": "", "b": ""}, {"a": BOX, "b": OTHER}, "c")


def test_ratings_tell_files_of_one_name_apart(battles: Battles) -> None:
    answers = {"a": "one", "b": "two"}
    for _ in range(5):
        battles.add(ASKED, answers, {"a": BOX, "b": OTHER}, "a")
    assert [one.name for one in battles.rated().ratings] == ["box", "other"]
    battles.add(ASKED, answers, {"a": OTHER, "b": NEWER}, "a")
    battles.add(ASKED, answers, {"a": BOX, "b": BOX}, "a")  # against itself: nothing learned
    names = [one.name for one in battles.rated().ratings]
    assert names == ["box (abababab)", "other", "box (efefefef)"]
    assert battles.rated(anchor="other", style_control=True).battles == 6


def test_a_line_that_is_no_battle_is_told(battles: Battles) -> None:
    battles.folder.mkdir()
    battles.path.write_text('{"battle": "x"}\n')
    with pytest.raises(BadFileError, match="line 1: no battle"):
        battles.rated()
