"""twofold pull, list, show and remove as people type them; killed pulls go on."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import Hub, serving

from twofold.run import pulled


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    held = Hub(files={"tiny-Q8_0.gguf": (model / "model.gguf").read_bytes()})
    held.extra = {"cardData": {"license": "cc0-1.0\x1b[31m"}}
    with serving(held):
        monkeypatch.setenv("HF_ENDPOINT", held.address)
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield held


def test_pull_list_show_chat_remove(twofold, hub: Hub) -> None:
    result = twofold("pull", "owner/tiny-GGUF")
    assert result.code == 0, result.err
    assert "tokens/s, about" in result.said
    assert "licence cc0-1.0" in result.said
    assert "\x1b" not in result.err
    assert result.out.splitlines() == [f"tiny-Q8_0: {len_(hub)}, checked.", "twofold chat tiny-Q8_0"]
    assert "is here already" in twofold("pull", "owner/tiny-GGUF:Q8_0").said
    listed = twofold("list")
    assert [line.split()[:2] for line in listed.out.splitlines()[1:3]] == [
        ["box", "box"],
        ["tiny-Q8_0", "pulled"],
    ]
    records = json.loads(twofold("list", "--json").out)
    assert [one["name"] for one in records] == ["box", "tiny-Q8_0"]
    assert records[1]["predicted_tokens_per_s"] > 0
    shown = twofold("show", "tiny-Q8_0").out
    assert "owner/tiny-GGUF tiny-Q8_0.gguf" in shown
    assert "CC0-1.0" in shown
    assert json.loads(twofold("show", "owner/tiny-GGUF", "--json").out)["name"] == "tiny-Q8_0"
    assert twofold("chat", "tiny-Q8_0", "-p", "Hi", "-n", "3", "--set", "backend=numpy").code == 0
    assert twofold("remove", "tiny-Q8_0").out == "tiny-Q8_0 is gone.\n"
    assert twofold("show", "tiny-Q8_0").code == 2


def test_list_tells_which_kernels_answer_elsewhere(
    twofold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "twofold").mkdir()
    (tmp_path / "twofold" / "kernels.toml").write_text('[gpt]\nfamily = "openai"\nmodel = "x"\n')
    said = "gpt: x at https://api.openai.com/v1 (openai), through twofold serve"
    assert said in twofold("list").out.splitlines()
    assert [one["name"] for one in json.loads(twofold("list", "--json").out)] == ["box"]


def len_(hub: Hub) -> str:
    from twofold.cli import terminal

    return terminal.size(len(hub.files["tiny-Q8_0.gguf"]))


def test_only_saying_fetches_nothing(twofold, hub: Hub) -> None:
    result = twofold("pull", "owner/tiny-GGUF", "--dry")
    assert result.code == 0
    assert "tokens/s" in result.said
    assert not any(role == "cdn" for role, _, _ in hub.asked)
    assert pulled.models() == []


def test_misuse_is_a_sentence(twofold, hub: Hub, model: Path) -> None:
    for line in (
        "pull nothing", "pull owner/none", "pull owner/tiny-GGUF --type q9", "remove box", "remove nothing",
        "show nothing",
    ):  # fmt: skip
        arguments = line.split()
        result = twofold(*arguments)
        assert (result.code, result.out) == (2, ""), arguments
        assert len(result.said) > 20
    assert "was not pulled" in twofold("remove", "box").said


def test_kill_9_costs_nothing(twofold, hub: Hub) -> None:
    hub.pause = threading.Event()
    command = [sys.executable, "-m", "twofold", "pull", "owner/tiny-GGUF"]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    size = len(hub.files["tiny-Q8_0.gguf"])
    while worker.poll() is None and pulled.unfinished().get("tiny-Q8_0", 0) < size // 2:
        pass
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    hub.pause.set()
    hub.pause = None
    had = pulled.unfinished()["tiny-Q8_0"]
    assert had == size // 2
    assert pulled.models() == []
    assert "tiny-Q8_0: " in twofold("list").out, "what came is listed"
    assert twofold("pull", "owner/tiny-GGUF").code == 0
    assert hub.asked[-1][2]["Range"] == f"bytes={had}-"
    assert pulled.models()[0].path.read_bytes() == hub.files["tiny-Q8_0.gguf"]
    assert pulled.unfinished() == {}
