"""The Makefile: it explains itself, and it says in a sentence when Python is too old."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A make that runs these tests must not pass its own variables on.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=root, env=env, capture_output=True, text=True)


def test_help_lists_the_targets(root: Path) -> None:
    listed = re.findall(r"^  make (\S+)  +\S", make(root).stdout, re.MULTILINE)
    assert {"install", "run", "test", "lint", "bench", "soak", "docs"} <= set(listed)


def test_an_old_python_is_one_sentence(root: Path, tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = make(root, "install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    assert "needs Python 3.11 or later" in result.stdout + result.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("int x;\n" * 701, "701 lines, 700 at most"),
        ("int x; /*" + "-" * 120 + "*/\n", "131 columns"),
        ("static int unused(void) { return 1; }\n", "unused"),
        ("int f(int n) { int x = ({ n; }); return x; }\n", "ISO C|GNU"),
    ],
)
def test_run_c_is_held_to_its_limits(root: Path, tmp_path: Path, text: str, complaint: str) -> None:
    source = tmp_path / "run.c"
    source.write_text(text)
    result = make(root, "lint-c", f"RUN_C={source}")
    assert result.returncode != 0
    assert re.search(complaint, result.stdout + result.stderr)
