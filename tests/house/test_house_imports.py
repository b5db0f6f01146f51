"""The hourglass: what may import what, and that the contracts in pyproject.toml bite."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Return the result of import-linter on the package under folder/src, by folder/pyproject.toml."""
    program = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """Return a folder with a copy of pyproject.toml and of the package's Python files."""
    shutil.copy(root / "pyproject.toml", tmp_path)
    ignore = shutil.ignore_patterns("__pycache__", "*.gguf", "*.so")
    shutil.copytree(root / "src" / "twofold", tmp_path / "src" / "twofold", ignore=ignore)
    return tmp_path


def test_the_tree_keeps_its_contracts(root: Path) -> None:
    result = lint_imports(root)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("tokens/planted.py", "import twofold.run", "Each folder may use only those below it"),
        (
            "measure/planted.py",
            "import twofold.train",
            "knows neither the training half nor the command line",
        ),
        ("corpus/planted.py", "import torch", "Torch lives in train"),
        (
            "train/planted.py",
            "import twofold.kernel",
            "The half that trains and the half that uses never import",
        ),
        ("kernel/planted.py", "import twofold.corpus", "Each folder may use only those below it"),
        ("kernel/planted.py", "import twofold.devices", "Each folder may use only those below it"),
        ("devices/planted.py", "import twofold.apps", "Each folder may use only those below it"),
        ("run/planted.py", "def late():\n    import transformers", "Torch lives in train"),
        ("cli/planted.py", "import torch", "A command imports torch through twofold.train only"),
        ("cli/commands/planted.py", "import twofold.cli.commands.chat", "Commands do not import each other"),
    ],
)
def test_a_planted_violation_fails(copy: Path, file: str, line: str, broken: str) -> None:
    (copy / "src" / "twofold" / file).write_text(line + "\n")
    result = lint_imports(copy)
    assert result.returncode == 1, result.stdout + result.stderr
    assert any(broken in row and row.endswith("BROKEN") for row in result.stdout.splitlines()), result.stdout


def test_every_folder_has_its_layer(root: Path) -> None:
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    folders = {f"twofold.{path.parent.name}" for path in (root / "src" / "twofold").glob("*/__init__.py")}
    assert set(layers) == folders
