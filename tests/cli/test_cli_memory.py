"""`twofold mem`: the map of a process's memory, and what a user changes of it."""

import json
from pathlib import Path

import pytest

from twofold.kernel.minds.script import Script
from twofold.kernel.policy import ByCapability
from twofold.kernel.process import Program
from twofold.kernel.system import System

SAID = "The code of the garage is 4711, \x1b[2Jas you know."


@pytest.fixture
def pid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    script = Script([f"I see that {number}. " * 30 for number in range(40)], context=1024)
    system = System(tmp_path / "twofold" / "os", minds=lambda name: script, devices={}, policy=ByCapability())
    pid = system.spawn(Program(message=SAID, instructions="Be brief.", stays=True))
    system.run()
    for number in range(30):
        system.tell(pid, f"And what about number {number}?")
        system.run()
    system.close()
    return pid


def test_the_map_shows_what_is_in_the_window_and_what_is_out(twofold, pid: int) -> None:
    shown = twofold("mem", pid)
    assert shown.code == 0
    for word in (
        "in the window of 768",
        "parts with",
        "Be brief.",
        "░",
        "instructions",
        "developer",
        "--all",
    ):
        assert word in shown.out, word
    assert "\x1b[2J" not in shown.out
    assert len(twofold("mem", pid, "--all").out.splitlines()) > len(shown.out.splitlines())
    rows = json.loads(twofold("mem", pid, "--json").out)
    assert [row["place"] for row in rows].count("out") > 20
    assert rows[1]["text"] == SAID
    assert "4711" in twofold("mem", pid, "show", "p2").out


def test_a_page_is_pinned_changed_and_tells_why(twofold, pid: int) -> None:
    for arguments in (
        ("load", "p2"),
        ("pin", "p2"),
        ("unpin", "p2"),
        ("edit", "p2", "It is 4712."),
        ("evict", "p2"),
    ):
        assert twofold("mem", pid, *arguments).code == 0, arguments
    told = twofold("mem", pid, "why", "p2").out
    for word in (
        "the user said it; ring 2",
        "too full for 768",
        "the user brought it back",
        "was pinned",
        "was changed",
    ):
        assert word in told, word
    assert "4712" in twofold("mem", pid, "show", "p2").out
    assert "memory" in twofold("logs", pid).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("1", "pin"), "Which page"),
        (("1", "pin", "p999"), "p999"),
        (("1", "edit", "p2"), "Write what the page is to say"),
        (("1", "load", "p1"), "in the window already"),
        (("99",), "99"),
        (("1", "melt", "p2"), "melt"),
    ],
)
def test_mistakes_are_told(twofold, pid: int, arguments: tuple[str, ...], said: str) -> None:
    result = twofold("mem", *arguments)
    assert result.code == 2
    assert said in result.said
