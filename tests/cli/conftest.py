"""Running the command line in this process, as if it had been typed."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_models import random_model

from twofold import parameters
from twofold.cli.main import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """What stands on standard error, as one line."""
        return " ".join(self.err.split())


Twofold = Callable[..., Result]


@pytest.fixture
def twofold(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Twofold:
    """Return a function that runs a command line in an empty folder: twofold("chat", stdin="Hi")."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str | Path, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as leave:
            code = leave.code if isinstance(leave.code, int) else 0 if leave.code is None else 1
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with a small random model in it."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    folder.mkdir()
    card = {
        "name": "a small one",
        "license": "CC0-1.0",
        "limits": ["knows nothing"],
        "scores": [{"name": "val", "value": 2.345678}],
    }
    random = random_model("qwen3")
    parameters.save_gguf(
        parameters.Model(random.config, random.tokenizer, card, random.tensors), folder / "model.gguf", "Q8_0"
    )
    return folder
