"""The entry point: lists the commands, and turns every mistake into a sentence and an exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twofold import __version__
from twofold.cli import main as entry


def test_without_arguments_it_shows_what_to_type(twofold) -> None:
    result = twofold()
    assert result.code == 0
    for name in entry.COMMANDS.names():
        assert entry.COMMANDS.get(name).EXAMPLE[0] in result.out


def test_version(twofold) -> None:
    assert twofold("--version").out.strip() == f"twofold {__version__}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tchat"], "No such command 'tchat'"),
        (["chat", "--nonsense"], "--nonsense"),
        (["chat", "no-such-model"], "There is no model 'no-such-model'"),
        (["chat", "--top-p", "2"], "top_p is in (0, 1]"),
        (["chat", "--set", "temprature=1"], "did you mean temperature?"),
        (["probe"], "Missing argument"),
        (["convert", "a", "b", "--type", "q3_k"], "q3_k"),
    ],
)
def test_misuse_is_exit_code_2(twofold, arguments: list[str], said: str) -> None:
    result = twofold(*arguments)
    assert result.code == 2
    assert said in result.said
    assert "Traceback" not in result.err


def test_a_broken_file_is_exit_code_1(twofold, tmp_path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\x03\0\0\0 and then nonsense")
    for arguments in (["chat", "bad.gguf"], ["probe", "a", "-m", "bad.gguf"], ["inspect", "bad.gguf"]):
        result = twofold(*arguments)
        assert result.code == 1
        assert "bad.gguf" in result.said
        assert "Traceback" not in result.err


def test_a_folder_without_a_model_is_said(twofold, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    result = twofold("inspect", "empty")
    assert (result.code, "neither model.gguf nor" in result.said) == (2, True)


def test_a_misspelt_run_is_guessed(twofold, tmp_path) -> None:
    (tmp_path / "runs" / "tales").mkdir(parents=True)
    (tmp_path / "runs" / "tales" / "model.gguf").write_bytes(b"GGUF")
    assert "did you mean tales?" in twofold("inspect", "tails").said


def test_a_bug_is_a_sentence_too(twofold, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("\x1b[31mboo")

    monkeypatch.setattr("twofold.cli.models.find", broken)
    result = twofold("inspect", "x")
    assert result.code == 1
    assert "This is a bug in twofold (RuntimeError: ␛[31mboo)" in result.said


def test_ctrl_c_is_130(twofold, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("twofold.cli.models.find", interrupted)
    assert twofold("inspect", "x").code == 130


@pytest.mark.parametrize("processes", ["1", "2"])
def test_one_of_several_processes_ends_with_its_words_and_its_code(processes: str) -> None:
    source = str(Path(entry.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "WORLD_SIZE": processes}
    for argument, code, words in (
        ("--version", 0, f"twofold {__version__}"),
        ("tchat", 2, "No such command"),
    ):
        command = [sys.executable, "-m", "twofold", argument]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, words in done.stdout + done.stderr) == (code, True)
