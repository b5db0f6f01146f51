"""app.toml: what may stand in it, what is refused in a sentence, and how two versions differ."""

import random
from pathlib import Path

import pytest

from twofold.apps import manifest, shelf
from twofold.base.errors import BadFileError
from twofold.kernel.capabilities import Capability

CAPABILITY = '\n[[capabilities]]\ndevice = "browser"\nfunctions = ["read"]\n'


def test_an_app_is_read_and_becomes_a_program(make) -> None:
    more = CAPABILITY + 'scope = ["https://example.org/*"]\nbudget = 4\nwhy = "to read"\n'
    app = manifest.read(make(more=more))
    assert (app.name, app.manifest.version) == ("sums", "1.0.0")
    program = app.program("12 * 7?", priority=3)
    assert program.message == "12 * 7?"
    assert program.instructions.startswith("You help with sums")
    assert (program.app, program.priority, program.shown) == ("sums", 3, ("calculator",))
    assert program.budget.calls == 20
    wanted = Capability(device="browser", functions=("read",), scope=("https://example.org/*",), budget=4)
    assert program.capabilities == (Capability(device="calculator"), wanted)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "sums"', 'name = "../sums"', "small letters"),
        ('name = "sums"', 'name = "Sums"', "small letters"),
        ('version = "1.0.0"', 'version = "1.0"', "three numbers"),
        ('version = "1.0.0"', 'version = "01.0.0"', "three numbers"),
        ("instructions.md", "../../etc/passwd", "never lead out"),
        ("instructions.md", "/etc/passwd", "never lead out"),
        ("instructions.md", "other.md", "not there"),
        ("calls = 20", "calls = 0", "more than nothing"),
        ("calls = 20", "calls = true", "must be"),
        ("calls = 20", "callz = 20", "calls"),
        ('device = "calculator"', 'device = "calculator"\nscop = ["x"]', "scope"),
        ('device = "calculator"', 'device = ""', "capability"),
        ('device = "calculator"', 'device = "a\\u001b[2Jb"', "plain characters"),
        ("[[capabilities]]", "[capabilities]", "capabilities"),
        ('name = "sums"', 'name = "sums', "TOML"),
        ('shown = ["calculator"]', 'files = ["handbook"]', "not there"),
        ('shown = ["calculator"]', 'shown = "calculator"', "shown"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(make, old: str, new: str, told: str) -> None:
    folder = make()
    text = (folder / "app.toml").read_text()
    assert old in text
    (folder / "app.toml").write_text(text.replace(old, new))
    with pytest.raises(BadFileError, match=told) as error:
        manifest.read(folder)
    assert str(folder) in str(error.value)
    assert "\x1b" not in str(error.value)


def test_no_link_stands_in_for_the_instructions(make) -> None:
    folder = make()
    (folder / "instructions.md").unlink()
    (folder / "instructions.md").symlink_to("/etc/passwd")
    with pytest.raises(BadFileError, match="not there"):
        manifest.read(folder)


def test_any_bytes_are_a_manifest_or_a_sentence(make) -> None:
    folder, draw = make(), random.Random(3)
    text = (folder / "app.toml").read_bytes()
    for _ in range(300):
        data = bytearray(text)
        for _ in range(draw.choice((1, 2, 5))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (folder / "app.toml").write_bytes(data)
        try:
            assert manifest.read(folder).name
        except BadFileError as error:
            assert len(str(error)) > 20


def test_the_difference_shows_what_is_new_and_what_is_gone(make) -> None:
    before = manifest.read(make()).manifest
    after = manifest.read(make("1.1.0", more=CAPABILITY)).manifest
    assert all(change.sign == "+" for change in manifest.difference(None, after))
    assert not manifest.widens(manifest.difference(before, before))
    changes = manifest.difference(before, after)
    assert [change.text for change in changes if change.sign == "+"] == ["browser: read; anywhere"]
    assert manifest.widens(changes)
    back = manifest.difference(after, before)
    assert [change.text for change in back if change.sign == "-"] == ["browser: read; anywhere"]
    assert not manifest.widens(back)


def test_the_built_in_apps_are_apps() -> None:
    assert shelf.built_in()
    for name in shelf.built_in():
        app = shelf.find(name)
        assert app.name == name
        assert app.origin == "built in"
        assert list((app.folder / "tests").glob("*.toml")), f"{name} has no tests"
        assert all(asked.why for asked in app.manifest.capabilities), (
            f"{name} gives no reason for a permission"
        )


def test_a_name_that_is_none_names_the_nearest() -> None:
    with pytest.raises(manifest.UsageError, match="Did you mean"):
        shelf.find(shelf.built_in()[0] + "x")
    with pytest.raises(manifest.UsageError, match="There is no app"):
        shelf.find("../" + shelf.built_in()[0])


def test_files_of_an_app_are_found_in_folders(make, tmp_path: Path) -> None:
    folder = make()
    (folder / "handbook").mkdir()
    (folder / "handbook" / "b.md").write_text("b")
    (folder / "handbook" / "a.md").write_text("a")
    text = (folder / "app.toml").read_text()
    (folder / "app.toml").write_text(
        text.replace("shown =", 'files = ["handbook", "instructions.md"]\nshown =')
    )
    assert [path.name for path in manifest.read(folder).files()] == ["a.md", "b.md", "instructions.md"]
