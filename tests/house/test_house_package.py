"""The package as people get it: what the wheel holds, and that talking needs no torch and no network."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

# What a core install does not have. An import of any of them while talking is a mistake.
ABSENT = ("torch", "transformers", "datasets", "gguf", "pypdf", "trafilatura", "safetensors", "zstandard")
SHIPPED = (".py", ".c", ".jinja", ".gguf", ".md", ".toml", ".json", ".npz")  # kinds of files

BLOCKER = f"""
import sys
def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise PermissionError(f"blocked: {{event}}")
sys.addaudithook(no_network)
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ImportError(f"blocked: {{name}}")
sys.meta_path.insert(0, Blocker())
from twofold.cli.main import main
main()
"""


def test_the_wheel_holds_both_files(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    shutil.copytree(root / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    program = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", program, str(tmp_path)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        assert wheel.read("twofold/run/run.c") == (root / "src" / "twofold" / "run" / "run.c").read_bytes()
    wanted = [
        path.relative_to(root / "src").as_posix()
        for path in (root / "src" / "twofold").rglob("*")
        if path.suffix in (".py", ".c", ".jinja", ".gguf", ".md", ".toml", ".json", ".npz")
        or path.name == "py.typed"
    ]
    assert set(wanted) <= names
    assert {"twofold/box/model.gguf", "twofold/box/card.md"} <= names


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["chat", "-n", "4"],
        ["chat", "--prompt", "Hello", "-n", "4", "--set", "backend=numpy"],
        ["complete", "Once upon a", "-n", "4"],
        ["probe", "cat sat on a"],
        ["inspect"],
        ["plan", "--dollars", "100"],
        ["bench", "--quick", "--size", "15M", "--type", "q8_0"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_talking_needs_no_torch_and_no_network(arguments: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-c", BLOCKER, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip()


def test_training_without_torch_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Once upon a time. " * 100)
    command = [sys.executable, "-c", BLOCKER, "train", str(tmp_path / "a.txt"), "--time", "1m"]
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert result.returncode == 1
    assert "pip install 'twofold[train]'" in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.stderr
