"""`twofold app`: from an empty folder to an installed app, by what a person types and sees."""

from pathlib import Path

import pytest

from twofold.apps import shelf


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def test_from_new_to_installed_and_back(twofold, tmp_path: Path) -> None:
    assert "twofold app test sums" in twofold("app", "new", "sums").out
    assert twofold("app", "new", "sums").code == 2
    tested = twofold("app", "test", "sums")
    assert tested.code == 0
    assert "✓ sum" in tested.err
    assert "1 passed, 0 failed" in tested.out
    published = twofold("app", "publish", "sums", "--into", "store")
    assert published.code == 0, published.err
    assert "SHA256:" in published.out
    refused = twofold("app", "install", "sums@0.1.0", "--store", "store")
    assert "--yes does" in refused.said
    assert refused.code == 2
    installed = twofold("app", "install", "sums@0.1.0", "--store", "store", "--yes")
    assert installed.code == 0
    assert "calculator: everything; anywhere" in installed.err
    assert "its key is remembered" in installed.said
    assert "sums" in twofold("app", "list", "--store", "store").out
    (tmp_path / "sums").rename(tmp_path / "elsewhere")
    assert "sums 0.1.0, installed" in twofold("app", "show", "sums").out
    assert "is removed" in twofold("app", "remove", "sums").out
    assert "0.1.0 again" in twofold("app", "undo", "sums").out
    assert shelf.find("sums").origin == "installed"


def test_what_an_update_may_do_more_is_shown(twofold, tmp_path: Path) -> None:
    twofold("app", "new", "sums")
    first = twofold("app", "install", "./sums", "-y")
    assert first.code == 0, first.err
    assert "Nobody signed it." in first.said
    manifest = tmp_path / "sums" / "app.toml"
    text = manifest.read_text().replace("0.1.0", "0.2.0").replace("calls = 20", "calls = 10")
    manifest.write_text(text + '\n[[capabilities]]\ndevice = "browser"\nwhy = "\\u202e reads"\n')
    assert twofold("app", "install", "./sums").code == 1, "what steers a terminal is no reason"
    manifest.write_text(text + '\n[[capabilities]]\ndevice = "browser"\nwhy = "reads"\n')
    update = twofold("app", "install", "./sums")
    assert update.code == 2
    assert "+ browser: everything; anywhere (reads)" in update.said
    assert "- uses up to 20 calls" in update.said
    assert twofold("app", "install", "./sums", "--yes").code == 0
    assert "0.2.0" in twofold("app", "list").out


def test_an_app_that_fails_its_own_tests_is_not_taken(twofold, tmp_path: Path) -> None:
    twofold("app", "new", "sums")
    test = tmp_path / "sums" / "tests" / "sum.toml"
    test.write_text(test.read_text().replace("is 84.", "is 85."))
    assert twofold("app", "test", "./sums").code == 1
    assert twofold("app", "publish", "./sums", "--into", "store").code == 1
    refused = twofold("app", "install", "./sums", "-y")
    assert refused.code == 1
    assert "fails its own tests" in refused.said
    assert "✗ sum" in refused.err
    assert twofold("app", "install", "./sums", "-y", "--untested").code == 0


def test_your_own_key_is_shown_and_stays(twofold) -> None:
    first = twofold("app", "key").out
    assert first.startswith("SHA256:")
    assert "ssh-ed25519 AAAA" in first
    assert twofold("app", "key").out == first


def test_mistakes_are_sentences(twofold) -> None:
    assert "twofold app test NAME" in twofold("app", "test").said
    assert "There is no app" in twofold("app", "show", "nothing").said
    assert "--into STORE" in twofold("app", "publish", "x").said
    assert "no store to look in" in twofold("app", "install", "sums").said
    assert twofold("app", "fly").code == 2
