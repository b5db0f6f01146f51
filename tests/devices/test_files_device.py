"""The files device: what it can do, that nothing is lost, and that nothing outside its folders is reached."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from twofold.base.errors import TwofoldError
from twofold.devices import _changes, files
from twofold.devices._beneath import Folder
from twofold.kernel.device import Context, DeviceError, Returned

Call = Callable[..., Returned]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder with the process's own (`own`), two granted ones (`papers`, `box`) and a secret."""
    for name in ("own", "papers", "box"):
        (tmp_path / name).mkdir()
    (tmp_path / "secret").write_text("secret")
    return tmp_path


@pytest.fixture
def call(place: Path) -> Call:
    device = files.open({
        "kept": place / "kept", "folders": {"papers": str(place / "papers"), "box": str(place / "box")},
        "writable": ["box"],
    })  # fmt: skip

    def calling(function: str, pid: int = 1, scope: tuple[str, ...] = (), **arguments: Any) -> Returned:
        return device.call(
            function, arguments, Context(pid=pid, workspace=place / "own", call="c1", scope=scope)
        )

    return calling


def test_files_written_read_and_edited(call: Call, place: Path) -> None:
    call("write", path="a/b.txt", text="one\ntwo\nthree\n")
    assert (place / "own/a/b.txt").read_text() == "one\ntwo\nthree\n"
    call("edit", path="a/b.txt", old="two", new="zwei")
    read = call("read", path="a/b.txt", from_line=2, lines=1)
    assert read.value == {"text": "zwei", "from_line": 2, "to_line": 2, "lines": 3}
    assert read.text == "zwei\n[lines 2 to 2 of 3]"
    assert read.label is not None
    assert read.label.sources == {"file:a/b.txt"}
    assert read.label.readers == {"user"}


@pytest.mark.parametrize(
    ("old", "says"), [("x", "does not occur"), ("o", "occurs 2 times"), ("", "is empty")]
)
def test_files_edit_only_what_is_meant(call: Call, place: Path, old: str, says: str) -> None:
    call("write", path="a.txt", text="one\ntwo\n")
    with pytest.raises(DeviceError, match=says):
        call("edit", path="a.txt", old=old, new="y")
    assert (place / "own/a.txt").read_text() == "one\ntwo\n"


def test_files_everything_can_be_undone(call: Call, place: Path) -> None:
    own = place / "own"
    call("write", path="a.txt", text="old")
    (own / "a.txt").chmod(0o750)
    names = [
        call("write", path="a.txt", text="new").value["change"],
        call("write", path="d/e/f.txt", text="deep").value["change"],
        call("move", path="d", to="g/h").value["change"],
        call("delete", path="g").value["change"],
    ]
    assert sorted(os.listdir(own)) == ["a.txt"]
    for name in reversed(names):
        call("undo", change=name)
    assert (own / "a.txt").read_text() == "old"
    assert (own / "a.txt").stat().st_mode & 0o777 == 0o750
    assert sorted(os.listdir(own)) == ["a.txt"]
    with pytest.raises(DeviceError, match="taken back already"):
        call("undo", change=names[0])


def test_files_undo_after_another_change_and_by_another_process_is_refused(call: Call, place: Path) -> None:
    name = call("write", path="a.txt", text="mine").value["change"]
    with pytest.raises(DeviceError, match="There is no change"):
        call("undo", change=name, pid=2)
    (place / "own/a.txt").write_text("the user's")
    with pytest.raises(DeviceError, match="changed since"):
        call("undo", change=name)
    assert (place / "own/a.txt").read_text() == "the user's"


def test_files_in_granted_folders(call: Call, place: Path) -> None:
    (place / "papers/p.txt").write_text("a paper about cats")
    assert call("list", folder="/").value == {"papers": "read only", "box": "may be changed"}
    assert call("read", path="/papers/p.txt").value["text"] == "a paper about cats"
    with pytest.raises(DeviceError, match="may only be read"):
        call("write", path="/papers/p.txt", text="mine")
    with pytest.raises(DeviceError, match="has granted; those are: /papers, /box"):
        call("read", path="/etc/passwd")
    change = call("write", path="/box/b.txt", text="x").value["change"]
    assert (place / "box/b.txt").exists()
    call("undo", change=change)
    assert not (place / "box/b.txt").exists()
    call("write", path="b.txt", text="x")
    with pytest.raises(DeviceError, match="within one granted folder"):
        call("move", path="b.txt", to="/box/b.txt")


def test_files_found_by_name_and_words(call: Call, place: Path) -> None:
    (place / "papers/deep").mkdir()
    (place / "papers/deep/p.md").write_text("first\nA Paper about cats\n")
    (place / "papers/q.md").write_text("nothing")
    (place / "papers/r.bin").write_bytes(b"\0paper")
    found = call("find", folder="/papers", name="*.md", text="paper").value
    assert found == [{"path": "/papers/deep/p.md", "line": 2, "text": "A Paper about cats"}]
    assert [f["path"] for f in call("find", folder="/papers", name="*.md").value] == [
        "/papers/q.md", "/papers/deep/p.md",
    ]  # fmt: skip
    assert [f["path"] for f in call("find", folder="/papers", scope=("/papers/deep/*",)).value] == [
        "/papers/deep/p.md"
    ]
    assert [e["path"] for e in call("list", folder="/papers").value] == [
        "/papers/deep",
        "/papers/q.md",
        "/papers/r.bin",
    ]


@pytest.mark.parametrize(
    "path",
    ["..", "../secret", "a/../../secret", "a//b", "./a", "a/.", "", "/", "/papers/../secret", "//papers",
     "a\0b",     "a\nb", "a\u202eb", "/own/a", "~/x"],
)  # fmt: skip
def test_files_other_spellings_are_refused(call: Call, place: Path, path: str) -> None:
    (place / "own/a").mkdir()
    before = sorted(p for p in place.rglob("*") if "kept" not in p.parts)
    for function, more in (("read", {}), ("write", {"text": "x"}), ("delete", {}), ("move", {"to": "n"})):
        if path == "~/x" and function == "write":
            continue  # an ordinary name: a folder called ~
        with pytest.raises(DeviceError):
            call(function, path=path, **more)
    assert sorted(p for p in place.rglob("*") if "kept" not in p.parts) == before


def test_files_links_are_not_followed(call: Call, place: Path) -> None:
    own = place / "own"
    (own / "file").symlink_to(place / "secret")
    (own / "folder").symlink_to(place)
    (own / "near").symlink_to("real")
    (own / "real").mkdir()
    for path in ("file", "folder/secret", "near/x"):
        with pytest.raises(DeviceError):
            call("read", path=path)
        with pytest.raises(DeviceError):
            call("write", path=path if path != "file" else "folder/new", text="x")
    with pytest.raises(DeviceError):
        call("list", folder="folder")
    assert call("find", text="secret").value == []
    call("delete", path="file")
    call("delete", path="folder")
    assert (place / "secret").read_text() == "secret"
    assert not (place / "new").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="exchanging two names at once is Linux'")
def test_files_a_link_is_replaced_not_followed_even_when_it_comes_late(call: Call, place: Path) -> None:
    """Another program swaps a folder for a link all the time; nothing is ever read or written behind it."""
    own, outside = place / "own", place / "outside"
    outside.mkdir()
    (outside / "f.txt").write_text("secret")
    (own / "d").mkdir()
    (own / "d/f.txt").write_text("fine")
    (own / "l").symlink_to(outside)
    stop, exchange = threading.Event(), ctypes.CDLL(None).renameat2
    here, one, other = -100, os.fsencode(own / "d"), os.fsencode(own / "l")

    def swap() -> None:
        while not stop.is_set():
            exchange(here, one, here, other, 2)

    thread = threading.Thread(target=swap)
    thread.start()
    seen: dict[str, int] = {}
    try:
        for number in range(150):
            try:
                if number % 2:
                    outcome = call("read", path="d/f.txt").value["text"]
                else:
                    call("write", path="d/f.txt", text="fine")
                    outcome = "written"
            except DeviceError:
                outcome = "refused"
            seen[outcome] = seen.get(outcome, 0) + 1
    finally:
        stop.set()
        thread.join()
    assert set(seen) <= {"fine", "written", "refused"}
    assert (outside / "f.txt").read_text() == "secret"
    assert os.listdir(outside) == ["f.txt"]


def test_files_hard_links_out_of_the_folder_are_cut_not_written_through(call: Call, place: Path) -> None:
    os.link(place / "secret", place / "own/h")
    call("write", path="h", text="mine")
    assert (place / "secret").read_text() == "secret"


def test_files_pipes_and_devices_do_not_hold_it_up(call: Call, place: Path) -> None:
    os.mkfifo(place / "own/pipe")
    with pytest.raises(DeviceError, match="is a pipe, not a file"):
        call("read", path="pipe")
    with pytest.raises(DeviceError, match="only files, folders and links"):
        call("write", path="pipe", text="x")


def test_files_changes_are_all_or_none(place: Path) -> None:
    """The third file cannot be written; the first two are as they were."""
    own = place / "own"
    (own / "a").write_text("old")
    undo = _changes.Undo(place / "kept")
    with Folder(own) as root:
        changes = [
            _changes.Change(name, _changes.thing(root, name), _changes.written(None, b"new"))
            for name in ("a", "b", "c")
        ]
        source = place / "source"
        source.mkdir()
        for name in ("a", "b"):
            (source / name).write_text("new")
        (source / "c").write_text("not what was agreed to")
        with Folder(source) as new, pytest.raises(DeviceError, match="not those that were agreed to"):
            undo.make(root, changes, new.reading, 1)
    assert {p.name: p.read_text() for p in own.iterdir()} == {"a": "old"}


def test_files_changes_that_a_crash_left_half_done_are_taken_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    own = place / "own"
    for name in ("a", "b"):
        (own / name).write_text("old")
    undo = _changes.Undo(place / "kept/changes")

    class Crash(BaseException):
        pass

    def crash(*_: object) -> None:
        raise Crash

    with Folder(own) as root, Folder(place) as source:
        (place / "a").write_text("new")
        changes = [
            _changes.Change(name, _changes.thing(root, name), _changes.written(None, b"new")) for name in "ab"
        ]
        with monkeypatch.context() as patch:
            patch.setattr(_changes.Undo, "_put_back", crash)  # what would tidy up is dead as well
            with pytest.raises(Crash):
                undo.make(root, changes, source.reading, 1)
    assert (own / "a").read_text() == "new"
    call("write", path="c", text="next")
    assert {p.name: p.read_text() for p in own.iterdir()} == {"a": "old", "b": "old", "c": "next"}


def test_files_settings_are_checked() -> None:
    with pytest.raises(TwofoldError, match="not in `folders`"):
        files.open({"writable": ["x"]})
    with pytest.raises(TwofoldError, match="a path, not a name"):
        files.open({"folders": {"a/b": "/tmp"}})
