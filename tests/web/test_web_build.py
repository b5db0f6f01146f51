"""The committed build: it is what the sources make, asks nobody else, and stays small."""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = ("index.html", "package.json", "package-lock.json", "vite.config.js", "public", "src")


def sources(web: Path) -> list[str]:
    """Return the paths that a build is made from, as web/vite.config.js lists them."""
    found = []
    for name in SOURCES:
        path = web / name
        found += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    # JavaScript sorts by UTF-16 code units, which for these names is the order of their bytes.
    return sorted(path.relative_to(web).as_posix() for path in found)


def test_the_build_is_what_the_sources_make(root: Path) -> None:
    web, digest = root / "web", hashlib.sha256()
    for name in sources(web):
        digest.update(name.encode() + b"\n" + (web / name).read_bytes() + b"\n")
    stamp = root / "src" / "twofold" / "serve" / "static" / "built-from.txt"
    assert stamp.read_text().strip() == digest.hexdigest(), "web/ has changed since the last `make web`"


def test_the_page_runs_only_files_of_its_own(root: Path) -> None:
    page = (root / "src" / "twofold" / "serve" / "static" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert addresses
    for address in addresses:
        assert re.match(r"\.?/", address), address
        assert (root / "src" / "twofold" / "serve" / "static" / address.lstrip("./")).is_file()


def test_the_build_stays_small(root: Path) -> None:
    static = root / "src" / "twofold" / "serve" / "static"
    assert sum(path.stat().st_size for path in static.rglob("*") if path.is_file()) < 520_000


def test_the_lock_file_names_no_registry_but_the_public_one(root: Path) -> None:
    lock = json.loads((root / "web" / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert entry.get("resolved", "https://registry.npmjs.org/").startswith(
            "https://registry.npmjs.org/"
        ), name
        assert entry["integrity"].startswith("sha512-"), name


def test_bundled_libraries_come_with_their_licences(root: Path) -> None:
    notices = (root / "src" / "twofold" / "serve" / "static" / "third-party.txt").read_text(encoding="utf-8")
    for name in ("svelte", "marked", "highlight.js", "temml"):
        assert re.search(rf"^{re.escape(name)} \d", notices, re.MULTILINE), name
    assert notices.count("Permission is hereby granted") + notices.count("Redistribution and use") >= 4


def test_every_web_library_is_argued(root: Path) -> None:
    wanted = json.loads((root / "web" / "package.json").read_text())["devDependencies"]
    argued = (root / "docs" / "decisions" / "0002-dependencies.md").read_text(encoding="utf-8")
    for name in wanted:
        assert re.search(rf"^\| *{re.escape(name)} *\|", argued, re.MULTILINE), f"no row for {name} in 0002"


def test_the_parts_that_need_no_browser(root: Path) -> None:
    node = shutil.which("node")
    if node is None or not (root / "web" / "node_modules" / "marked").is_dir():
        pytest.skip("needs node and `make web`")
    # In one process: `node --test` starts one for each file.
    program = "".join(f"import './tests/{path.name}';" for path in (root / "web" / "tests").glob("*.test.js"))
    result = subprocess.run(
        [node, "--input-type=module", "-e", program], cwd=root / "web", capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
