"""The registry: a folder's listing is the list, and errors name what is near."""

import sys
from pathlib import Path

import pytest

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.registry import Registry


@pytest.fixture
def fruits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    folder = tmp_path / "fruits_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "apple.py").write_text("def peel(): return 'apple'\n")
    (folder / "banana.py").write_text("raise RuntimeError('imported without need')\n")
    (folder / "stone.py").write_text("")
    (folder / "_shared.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith("fruits_for_test")]:
        monkeypatch.delitem(sys.modules, name)
    return Registry("fruits_for_test", "fruit", requires=["peel"])


def test_lists_without_importing(fruits: Registry) -> None:
    assert fruits.names() == ["apple", "banana", "stone"]


def test_imports_by_name(fruits: Registry) -> None:
    assert fruits.get("apple").peel() == "apple"


def test_unknown_name_names_the_nearest(fruits: Registry) -> None:
    with pytest.raises(
        UsageError, match=r"no fruit 'aple'. Did you mean 'apple'\? Known: apple, banana, stone"
    ):
        fruits.get("aple")


def test_hidden_files_and_paths_are_not_things(fruits: Registry) -> None:
    for name in ["_shared", "__init__", "apple.peel", "../apple", ""]:
        with pytest.raises(UsageError):
            fruits.get(name)


def test_missing_definition_is_said(fruits: Registry) -> None:
    with pytest.raises(TwofoldError, match=r"'stone'.*does not define peel"):
        fruits.get("stone")
