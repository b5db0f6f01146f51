"""Docs that cannot go stale: generated parts, a page per folder, every dependency argued, links that lead."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


def tracked(root: Path, *patterns: str) -> list[Path]:
    """Return the files that git would commit, of these patterns."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout: there is no list of tracked files")
    return [root / name for name in listing.stdout.splitlines() if (root / name).is_file()]


def test_generated_parts_are_fresh(root: Path) -> None:
    result = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=root, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_map_shows_every_folder(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    block = readme.partition("<!-- generated: map -->")[2].partition("<!-- end -->")[0]
    for init in (root / "src" / "twofold").glob("*/__init__.py"):
        assert re.search(rf"^  {init.parent.name}/ +\S", block, re.MULTILINE), init.parent.name


def test_every_folder_has_a_page(root: Path) -> None:
    for init in (root / "src" / "twofold").glob("*/__init__.py"):
        page = root / "docs" / f"{init.parent.name}.md"
        assert page.is_file(), f"{page.relative_to(root)} is missing"
        assert f"({page.name})" in (root / "docs" / "index.md").read_text(encoding="utf-8")


def test_every_folder_and_module_says_what_it_is(root: Path) -> None:
    import ast

    for path in (root / "src" / "twofold").rglob("*.py"):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        assert len(text) > 20, f"{path.relative_to(root)} has no docstring that explains it"
        assert "To be described" not in text, path.relative_to(root)


def test_every_command_is_in_the_manual(root: Path) -> None:
    manual = (root / "docs" / "cli.md").read_text(encoding="utf-8")
    for path in (root / "src" / "twofold" / "cli" / "commands").glob("[a-z]*.py"):
        assert f"## twofold {path.stem}\n" in manual


def test_every_dependency_is_argued(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    argued = (root / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    for line in lines:
        name = re.match(r"[A-Za-z0-9_-]+", line)[0]  # type: ignore[index]
        assert re.search(rf"^\| *{re.escape(name)} *\|", argued, re.MULTILINE), f"no row for {name} in 0002"


def test_links_lead_somewhere(root: Path) -> None:
    for page in tracked(root, "*.md"):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (page.parent / target).exists(), f"{page.relative_to(root)} links to {target}"


def test_no_path_of_one_machine(root: Path) -> None:
    # The folders are put together here so that this file does not find itself.
    homes = "|".join(("work", "root", "home", "Users", "farm", "opt", "mnt"))
    pattern = re.compile(rf"(?<![\w.~}}/-])/(?:{homes})/\w|/tmp/(?!\W)\w")
    for path in tracked(root):
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), 1):
            assert not pattern.search(line), f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"


def test_no_large_file_but_the_model_in_the_box(root: Path) -> None:
    for path in tracked(root):
        limit = 30_000_000 if path.name == "model.gguf" and path.parent.name == "box" else 1_000_000
        assert path.stat().st_size <= limit, f"{path.relative_to(root)} has {path.stat().st_size:,} bytes"


def test_no_page_has_a_gap_left_to_fill(root: Path) -> None:
    for page in tracked(root, "*.md"):
        text = page.read_text(encoding="utf-8")
        for mark in ("LEAD" + ":", "TO" + "DO", "goes " + "here -->"):
            assert mark not in text, f"{page.relative_to(root)} still has {mark!r}"
