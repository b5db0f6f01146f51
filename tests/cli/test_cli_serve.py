"""`twofold serve`, as it is typed: it starts, answers, stops gracefully, and refuses to be open to others."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield a server of the model in the box, and its address."""
    command = [sys.executable, "-W", "error", "-m", "twofold", "serve", "box", "--port", "0", "-t", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        try:
            assert found, line + process.stderr.read()
            yield process, found[0]
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(
    started: tuple[subprocess.Popen[str], str], how: signal.Signals
) -> None:
    process, url = started
    with urllib.request.urlopen(f"{url}/v1/models", timeout=30) as answer:
        assert b'"id":"box"' in answer.read()
    process.send_signal(how)
    said = process.stderr.read()
    assert process.wait(timeout=30) == 0, said
    assert "Stopped." in said
    assert "Traceback" not in said


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_other_addresses_only_with_a_key(twofold, host: str) -> None:
    result = twofold("serve", "box", "--host", host)
    assert result.code == 2
    assert "set TWOFOLD_KEY" in result.said


def test_the_key_is_never_typed(twofold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = twofold("serve", "box", "--key", "open-sesame")
    assert result.code == 2
    assert "name of a file" in result.said
    assert "open-sesame" not in result.said
    (tmp_path / "key").write_text("two\nlines")
    assert "one line" in twofold("serve", "box", "--key", tmp_path / "key").said
    monkeypatch.setenv("TWOFOLD_KEY", "schlüssel")
    assert "one line of plain characters" in twofold("serve", "box").said


def test_a_port_that_is_taken(twofold) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = twofold("serve", "box", "--port", str(port))
    assert result.code == 1
    assert f"port {port} cannot be had" in result.said
    assert "Try another --port" in result.said


def test_settings_that_do_not_work(twofold) -> None:
    assert "did you mean body_mb?" in twofold("serve", "box", "--set", "body_m=1").said
    assert "1 or more" in twofold("serve", "box", "--slots", "0").said
    assert twofold("serve", "nothing").code == 2
    assert os.listdir() == []
