"""Devices never import each other; what several need is in files whose names start with an underscore."""

import ast
from pathlib import Path

import pytest

from twofold.devices import DEVICES


def imported(file: Path) -> set[str]:
    """Return the names of the modules of twofold.devices that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "twofold.devices":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twofold.devices."):
            found.add(str(node.module).split(".")[2])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[2] for parts in names if parts[:2] == ["twofold", "devices"] and len(parts) > 2}
    return found - {"DEVICES"}


@pytest.mark.parametrize(
    "file", sorted(Path(str(DEVICES.get("files").__file__)).parent.glob("*.py")), ids=lambda f: f.stem
)
def test_devices_import_only_what_they_share(file: Path) -> None:
    assert {name for name in imported(file) if not name.startswith("_")} == set()


def test_an_import_of_a_device_is_seen(tmp_path: Path) -> None:
    """The check itself: each way to import one is found."""
    lines = (
        "from twofold.devices import files",
        "import twofold.devices.files",
        "from twofold.devices.files import Files",
    )
    for line in lines:
        (tmp_path / "x.py").write_text(f"def f():\n    {line}\n")
        assert imported(tmp_path / "x.py") == {"files"}
