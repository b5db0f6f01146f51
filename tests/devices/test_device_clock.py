"""The clock in every zone, also in the nights when clocks are put; and the question to the user."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from twofold.base.errors import UsageError
from twofold.devices import ask, clock
from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, DeviceError, Returned
from twofold.kernel.flow import Ring
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import ByCapability
from twofold.kernel.process import Program
from twofold.kernel.system import System

HERE = Context(pid=1, workspace=Path("none"), call="c")
NOW = datetime.datetime(2026, 11, 22, 14, 5, 9, tzinfo=datetime.UTC)


def told(function: str, **arguments: Any) -> Returned:
    return clock.Clock(lambda: NOW, datetime.UTC).call(function, arguments, HERE)


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        ("clock", {}, "Sunday, 22 November 2026, 14:05"),
        ("clock", {"zone": "Asia/Tokyo"}, "Sunday, 22 November 2026, 23:05 (Asia/Tokyo)"),
        ("between", {"start": "2026-11-22", "end": "2027-01-01"}, "40 days, which is 1 month, 10 days"),
        ("between", {"start": "2027-01-01", "end": "2026-12-31"}, "-1 days"),
        ("between", {"start": "2026-11-22 12:00", "end": "now"}, "2 hours, 5 minutes, 9 seconds"),
        ("between", {"start": "now", "end": "now"}, "no time"),
        # 23 hours lie between noon and noon when clocks go forward.
        ("between", {"start": "2026-03-28 12:00", "end": "2026-03-29 12:00", "zone": "Europe/Paris"},
         "23 hours"),
        ("between", {"start": "2026-10-24 12:00", "end": "2026-10-25 12:00", "zone": "Europe/Paris"},
         "1 day, 1 hour"),
        ("shift", {"start": "2026-01-31", "months": 1}, "Saturday, 28 February 2026"),
        ("shift", {"start": "2024-02-29", "years": 1}, "Friday, 28 February 2025"),
        ("shift", {"start": "today", "weeks": -1}, "Sunday, 15 November 2026"),
        ("shift", {"start": "2026-03-29 01:30", "hours": 1, "zone": "Europe/Paris"},
         "Sunday, 29 March 2026, 03:30"),
        ("elsewhere", {"moment": "2026-11-22 14:00", "source": "Europe/Paris", "target": "America/New_York"},
         "Sunday, 22 November 2026, 08:00 (America/New_York)"),
        ("elsewhere", {"moment": "2026-11-22T14:00+05:30", "target": "UTC"},
         "Sunday, 22 November 2026, 08:30 (UTC)"),
    ],
)  # fmt: skip
def test_clock_is_right(function: str, arguments: dict[str, Any], text: str) -> None:
    assert told(function, **arguments).text == text


def test_clock_says_what_happens_when_clocks_are_put() -> None:
    left_out = told("shift", start="2026-03-28 02:30", days=1, zone="Europe/Paris").text or ""
    assert left_out.startswith("Sunday, 29 March 2026, 03:30")
    assert "02:30 is left out" in left_out
    twice = told("elsewhere", moment="2026-10-25 02:30", source="Europe/Paris", target="UTC").text or ""
    assert twice.startswith("Sunday, 25 October 2026, 00:30")
    assert "comes twice" in twice


def test_clock_answers_programs_too() -> None:
    assert told("clock").value == {
        "iso": "2026-11-22T14:05:09+00:00", "weekday": "Sunday", "week": 47, "unix_s": int(NOW.timestamp()),
    }  # fmt: skip
    assert told("between", start="2026-11-21", end="2026-11-22").value["seconds"] == 86_400


@pytest.mark.parametrize(
    ("function", "arguments", "says"),
    [
        ("clock", {"zone": "tokyo"}, "Asia/Tokyo"), ("clock", {"zone": "../etc/passwd"}, "no time zone"),
        ("shift", {"start": "9999-12-31", "days": 1}, "outside the calendar"),
        ("shift", {"start": "2026-01-01", "years": -100_000}, "outside the calendar"),
        ("shift", {"start": "tomorrow-ish"}, "no moment"), ("shift", {"start": "2026-13-01"}, "no moment"),
        ("shift", {"start": "2026-01-01", "days": 10**9}, "100000"),
        ("between", {"start": "now"}, "needs the argument 'end'"),
    ],
)  # fmt: skip
def test_clock_refuses_in_a_sentence(function: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        told(function, **arguments)


def test_clock_has_the_users_own_zone() -> None:
    device = clock.open({"zone": "Pacific/Auckland"})
    offset = datetime.datetime.fromisoformat(device.call("clock", {}, HERE).value["iso"]).utcoffset()
    assert offset in (datetime.timedelta(hours=12), datetime.timedelta(hours=13))
    with pytest.raises(UsageError, match=r"Did|did you mean"):
        clock.open({"zone": "Pacific/Aukland"})


# --- the question


def test_a_process_waits_for_the_users_answer(tmp_path: Path) -> None:
    question = {"name": "ask_user", "arguments": {"question": "Which year?", "choices": ["2020", "2021"]}}
    script = Script([{"calls": [question]}, "Thank you."])
    system = System(tmp_path, minds=lambda _: script, devices={"ask": ask.open({})}, policy=ByCapability())
    pid = system.spawn(Program(message="Ask me.", capabilities=(Capability(device="ask"),)))
    system.run(seconds=10)
    state = system.state(pid)
    assert state.waits == "user"
    assert state.asks is not None
    assert (state.asks.text, list(state.asks.options or ())) == ("Which year?", ["2020", "2021"])
    system.answer(pid, "2021")
    system.run(seconds=10)
    state = system.state(pid)
    page = next(page for page in state.pages if page.kind == "result")
    assert (page.text, page.label.ring, page.hidden) == ("2021", Ring.USER, False)
    assert state.exit
    system.close()


@pytest.mark.parametrize("choices", [[], [""], ["x" * 300], [1]])
def test_choices_must_be_texts(choices: list[Any]) -> None:
    with pytest.raises(DeviceError, match="choices"):
        ask.open({}).call("user", {"question": "Which?", "choices": choices}, HERE)


def test_an_empty_question_is_not_asked() -> None:
    with pytest.raises(DeviceError, match="empty"):
        ask.open({}).call("user", {"question": " "}, HERE)
