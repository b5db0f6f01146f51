"""Processes on the command line, by a script: run, look, fork, pause, kill, approve, resume, replay."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from twofold.cli.main import build_app
from twofold.cli.processes import short
from twofold.kernel.journal import Journal

SUM = {"calls": [{"name": "calculator", "arguments": {"expression": "17*23"}}]}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command; `replies` are what the model of new processes says."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    app = build_app()

    def one(*arguments: str, replies: list[Any] | None = None, code: int = 0) -> str:
        if replies is not None:
            script = tmp_path / f"script-{len(list(tmp_path.glob('script-*')))}.json"
            script.write_text(json.dumps(replies))
            arguments = (arguments[0], "--model", f"script:{script}", *arguments[1:])
        result = CliRunner().invoke(app, list(arguments))
        said = result.output + (str(result.exception) if result.exception else "")
        assert (result.exit_code != 0) == (code != 0), said
        return said

    return one


def test_a_task_is_done_looked_at_and_replayed(run: Any) -> None:
    said = run("run", "-d", "calculator", "what is 17*23?", replies=[SUM, "It is 391."])
    assert "→ calculator(expression=17*23)" in said
    assert "← 391" in said
    assert "It is 391." in said
    assert "exited: done" in run("ps")
    rows = json.loads(run("ps", "--json"))
    assert (rows[0]["answer"], rows[0]["spent"]["calls"]) == ("It is 391.", 1)
    logs = run("logs", "1")
    assert "» what is 17*23?" in logs
    assert "harmless" in logs
    kinds = [json.loads(line)["kind"] for line in run("logs", "1", "--json").splitlines()]
    assert kinds == ["spawned", "said", "decided", "began", "returned", "said", "exited"]
    assert "each follows from those before" in run("replay", "1")
    assert "is over" in run("pause", "1", code=2)
    assert "no process 9" in run("logs", "9", code=2)


def test_a_fork_takes_another_answer(run: Any) -> None:
    run("run", "-d", "calculator", "what is 17*23?", replies=[SUM, "It is 391."])
    call = json.loads(run("logs", "1", "--json").splitlines()[3])["body"]["call"]
    child = run("fork", "1", "--answer", f"{call}=390", "--wait").split()[-1]
    logs = run("logs", child)
    assert "forked from process 1 after event 4" in logs
    assert "← 390" in logs
    assert "CALL=VALUE" in run("fork", "1", "--answer", "x", code=2)


def test_who_waits_is_answered_from_elsewhere(run: Any) -> None:
    asks = {"calls": [{"name": "ask_user", "arguments": {"question": "Which colour?"}}]}
    assert "waits for you" in run("run", "-d", "ask", "paint it", replies=[asks, "Painted."], code=1)
    assert "waiting for you" in run("ps")
    assert "Which colour?" in run("approve")
    assert "twofold resume 1" in run("approve", "1", "blue")
    assert "blue" in run("logs", "1")
    run("kill", "1")
    assert "killed" in run("ps")
    assert "Nothing is asked" in run("approve")


def test_a_paused_process_goes_on_when_resumed(run: Any) -> None:
    run("run", "--tokens", "1", "-d", "calculator", "sum", replies=[SUM, "It is 391."], code=1)
    assert "out of tokens" in run("ps")
    assert "It is 391." in run("resume", "1")
    assert "exited: done" in run("ps")


def test_a_changed_journal_is_told(run: Any, tmp_path: Path) -> None:
    import sqlite3

    run("run", "-d", "calculator", "what is 17*23?", replies=[SUM, "It is 391."])
    with sqlite3.connect(tmp_path / "twofold" / "os" / "journal.db") as database:
        database.execute("UPDATE events SET body = replace(body, '391', '400')")
    for command in ("logs", "replay"):
        assert "not as it was written" in run(command, "1", code=1)


def test_ctrl_c_leaves_what_resume_goes_on_with(run: Any, tmp_path: Path) -> None:
    import os
    import signal
    import time

    script = tmp_path / "script.json"
    asks = {"calls": [{"name": "ask_user", "arguments": {"question": "Well?"}}]}
    script.write_text(json.dumps([asks, "Done."]))
    command = [sys.executable, "-m", "twofold", "run", "--model", f"script:{script}", "-d", "ask", "go"]
    master, slave = os.openpty()
    process = subprocess.Popen(
        command, stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's & leaves it ignored
    )  # fmt: skip
    journal = Journal(tmp_path / "twofold" / "os")
    end = time.monotonic() + 30
    while journal.heads().get(1, 0) < 4 and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    os.close(master)
    os.close(slave)
    assert b"twofold resume 1" in said, said
    assert process.returncode == 130
    assert journal.holder(1) is None
    journal.close()
    assert "Well?" in run("approve", "1")


def test_what_is_shown_is_one_line_and_steers_no_terminal() -> None:
    assert short("a\n  b\x1b[31m") == "a b␛[31m"
    assert len(short("x" * 500)) == 100
