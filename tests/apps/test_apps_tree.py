"""Archives and folders of apps: the same files come out, and what is hostile never lands on the disk."""

import gzip
import io
import os
import random
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from twofold.apps import tree
from twofold.base.errors import BadFileError


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Return the folder of an app, with what is not part of it beside."""
    folder = tmp_path / "app"
    for name, text in {
        "app.toml": 'name = "x"', "instructions.md": "Hello.", "files/deep/a b.txt": "x" * 5000, "empty": "",
        ".git/config": "secret", "__pycache__/x.pyc": "code",
    }.items():  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def packed(folder: Path) -> bytes:
    out = io.BytesIO()
    tree.pack(folder, out)
    return out.getvalue()


def unpacked(archive: bytes, into: Path) -> Path:
    into.mkdir(parents=True)
    tree.unpack(io.BytesIO(archive), into, "the archive")
    return into


def test_what_is_packed_comes_out_and_tar_can_read_it(app: Path, tmp_path: Path) -> None:
    archive = packed(app)
    assert packed(app) == archive
    out = unpacked(archive, tmp_path / "out")
    assert tree.contents(out) == tree.contents(app)
    assert sorted(tree.contents(out)) == ["app.toml", "empty", "files/deep/a b.txt", "instructions.md"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert sorted(opened.getnames()) == sorted(tree.contents(app))
        assert all(member.uid == member.mtime == 0 for member in opened.getmembers())


def test_a_plain_tar_of_others_is_read(app: Path, tmp_path: Path) -> None:
    command = ["tar", "--format=ustar", "-czf", str(tmp_path / "a.tar.gz"), "app.toml", "files"]
    subprocess.run(command, cwd=app, check=True)
    out = unpacked((tmp_path / "a.tar.gz").read_bytes(), tmp_path / "out")
    assert sorted(tree.contents(out)) == ["app.toml", "files/deep/a b.txt"]


def test_a_copy_follows_no_link(app: Path, tmp_path: Path) -> None:
    (app / "link").symlink_to("/etc/passwd")
    (tmp_path / "out").mkdir()
    with pytest.raises(BadFileError, match="is a link"):
        tree.copy(app, tmp_path / "out")
    (app / "link").unlink()
    (app / "folder").symlink_to("/etc")
    with pytest.raises(BadFileError, match="is a link"):
        tree.contents(app)
    (app / "folder").unlink()
    os.mkfifo(app / "pipe")
    with pytest.raises(BadFileError, match="no file"):
        packed(app)


def entry(name: str, data: bytes = b"x", **fields: object) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for field, value in fields.items():
            setattr(member, field, value)
        archive.addfile(member, io.BytesIO(data))

    return add


def tar(*entries: Callable[[tarfile.TarFile], None], form: int = tarfile.USTAR_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=form) as archive:
        for one in entries:
            one(archive)
    return out.getvalue()


HOSTILE = {
    "..": tar(entry("../evil")),
    ".. within": tar(entry("a/../../evil")),
    "absolute": tar(entry("/tmp-evil")),
    "backslash": tar(entry("..\\evil")),
    "drive": tar(entry("C:evil")),
    "hidden": tar(entry(".bashrc")),
    "hidden folder": tar(entry(".git/hooks/post-checkout")),
    "an option": tar(entry("-rf")),
    "a device of Windows": tar(entry("con.txt")),
    "ends in a dot": tar(entry("a.")),
    "newline": tar(entry("a\nb")),
    "escape": tar(entry("a\x1b[2Jb")),
    "not ascii": tar(entry("é"), form=tarfile.GNU_FORMAT),
    "deep": tar(entry("/".join("abcdefghi"))),
    "twice": tar(entry("a"), entry("a")),
    "twice but for case": tar(entry("a"), entry("A")),
    "a file and its folder": tar(entry("a"), entry("a/b")),
    "symbolic link": tar(entry("a", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    "hard link": tar(entry("a", b"", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    "device": tar(entry("a", b"", type=tarfile.CHRTYPE)),
    "pipe": tar(entry("a", b"", type=tarfile.FIFOTYPE)),
    "extended header": tar(entry("b" * 90 + "/" + "a" * 200), form=tarfile.PAX_FORMAT),
    "long name of GNU": tar(entry("a" * 150), form=tarfile.GNU_FORMAT),
    "no gzip": b"hello, this is no archive",
    "empty": b"",
    "gzip of nothing": gzip.compress(b""),
    "gzip of text": gzip.compress(b"x" * 2000),
    "cut off": tar(entry("a", b"x" * 9000))[:60],
    "more behind": tar(entry("a")) + tar(entry("b")),
    "not at its end": gzip.compress(gzip.decompress(tar(entry("a"))) + b"more"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_refused_in_a_sentence(what: str, tmp_path: Path) -> None:
    outside = set(tmp_path.parent.iterdir())
    with pytest.raises(BadFileError) as told:
        unpacked(HOSTILE[what], tmp_path / "out")
    assert "the archive" in str(told.value)
    assert str(told.value).isprintable()
    assert set(tmp_path.parent.iterdir()) == outside
    assert [path for path in tmp_path.rglob("*") if path.is_symlink()] == []


def test_too_much_is_refused_before_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MOST_BYTES", 10_000)
    monkeypatch.setattr(tree, "MOST_FILES", 3)
    with pytest.raises(BadFileError, match=r"too large|far more"):
        unpacked(tar(entry("a", b"x" * 10_001)), tmp_path / "1")
    with pytest.raises(BadFileError, match="too large"):
        unpacked(tar(*(entry(name) for name in "abcd")), tmp_path / "2")
    bomb = tar(entry("weights.gguf", b"\0" * 5_000_000))
    with pytest.raises(BadFileError, match="far more than came in"):
        unpacked(bomb, tmp_path / "3")
    written = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert written < 200_000
    noise = random.Random(0).randbytes(50_000)  # weights hardly shrink
    assert len(tree.contents(unpacked(tar(entry("weights.gguf", noise)), tmp_path / "4"))) == 1


def test_damaged_archives_end_in_a_sentence_or_in_plain_files(app: Path, tmp_path: Path) -> None:
    """A seeded fuzz: bits flipped in the archive, and in the tar within it."""
    draw, good = random.Random(7), packed(app)
    plain = gzip.decompress(good)
    refused = 0
    for number in range(400):
        data = bytearray(plain if number % 2 else good)
        for _ in range(draw.choice((1, 1, 2, 8))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        archive = gzip.compress(bytes(data), 1) if number % 2 else bytes(data)
        out = tmp_path / str(number)
        try:
            unpacked(archive, out)
        except BadFileError:
            refused += 1
        for path in out.rglob("*"):
            assert path.resolve().is_relative_to(out.resolve())
            assert not path.is_symlink()
    assert refused > 100
