"""Compiling on first use, the cache, and life without a compiler."""

import os
import subprocess
from pathlib import Path

import pytest
from engines import saved
from tiny_models import random_model

from twofold import run
from twofold.base.errors import BadFileError, TwofoldError
from twofold.run import box, library
from twofold.run.library import CompilerError


def test_the_library_is_compiled_once(tmp_path: Path) -> None:
    first = library.build(tmp_path)
    stamp = first.stat().st_mtime_ns
    assert library.build(tmp_path) == first
    assert first.stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [first.name]  # nothing half-made lies about


def test_another_source_is_another_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "run.c"
    changed.write_text(library.program() + "\n/* changed */\n")
    first = library.build(tmp_path)
    monkeypatch.setattr(library, "source", lambda: changed)
    assert library.build(tmp_path) != first


def test_the_program_is_one_file_with_the_kernels_in_it(tmp_path: Path) -> None:
    text = library.program()
    assert '#include "' not in text
    assert (library.source().parent / "kernels.h").read_text() in text
    (tmp_path / "run.c").write_text(text)
    command = [library.compiler(), "-O1", "run.c", "-o", "run", "-lm", "-lpthread"]
    subprocess.run(command, cwd=tmp_path, check=True)  # alone in a folder


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert library.cache_folder() == tmp_path / "cache" / "twofold"
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elsewhere = library.cache_folder()
    assert elsewhere.is_dir()
    assert elsewhere.stat().st_mode & 0o77 == 0  # nobody else may put a library there


def test_without_a_compiler_numpy_takes_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(random_model("qwen3"), tmp_path)
    expected = [step.id for step in run.load(path, backend="c").generate([1, 2, 3], max_tokens=6)]
    library.functions.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    engine = run.load(path)
    assert engine.backend == "numpy"
    said = capsys.readouterr().err
    assert "no C compiler" in said
    assert said.count("\n") == 1
    assert [step.id for step in engine.generate([1, 2, 3], max_tokens=6)] == expected
    with pytest.raises(CompilerError, match="install gcc or clang"):
        run.load(path, backend="c")
    monkeypatch.undo()
    library.functions.cache_clear()


def test_a_broken_compiler_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'fatal error: it rains' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    with pytest.raises(CompilerError, match="it rains"):
        library.build(tmp_path)


def test_a_compiler_that_knows_no_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = library.compiler()
    picky = tmp_path / "cc"
    picky.write_text(f'#!/bin/sh\ncase "$*" in *-march=native*) exit 1;; esac\nexec {real} "$@"\n')
    picky.chmod(0o755)
    monkeypatch.setenv("CC", str(picky))
    assert library.build(tmp_path).is_file()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("text", b"hello" * 20), ("short", b"GGUF\x03\0\0\0")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadFileError, match=name):
            run.load(tmp_path / name)
    with pytest.raises(TwofoldError, match="nowhere"):
        run.load(tmp_path / "nowhere")


def test_too_much_is_refused(tmp_path: Path) -> None:
    path = saved(random_model("qwen3", context=1 << 20), tmp_path)
    with pytest.raises(TwofoldError, match="memory"):
        run.load(path, backend="c", sequences=1 << 20)


def test_the_box_is_there_or_said_to_be_missing() -> None:
    try:
        assert box.path().is_file()
    except TwofoldError as error:
        assert "model in the box" in str(error)


def test_many_engines_come_and_go(tmp_path: Path) -> None:
    path = saved(random_model("qwen3"), tmp_path)
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(50):
        run.load(path, backend="c").forward([1], [0], [0])
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
