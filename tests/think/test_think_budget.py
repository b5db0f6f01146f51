"""Budgets: what a person may write, what is counted, when it is over."""

import pytest

from twofold.base.errors import UsageError
from twofold.think.budget import Budget, Meter


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "budget", "spelled"),
    [
        ("5s", Budget(seconds=5), "5 s"), ("0.5s", Budget(seconds=0.5), "0.5 s"),
        ("5m", Budget(seconds=300), "5 min"), ("1m30s", Budget(seconds=90), "90 s"),
        (" 2M ", Budget(seconds=120), "2 min"), ("1", Budget(tokens=1), "1 token"),
        ("1500", Budget(tokens=1500), "1,500 tokens"),
    ],
)  # fmt: skip
def test_a_budget_is_a_time_or_a_number_of_tokens(text: str, budget: Budget, spelled: str) -> None:
    assert Budget.parse(text) == budget
    assert budget.spell() == spelled


@pytest.mark.parametrize("text", ["", "0", "0s", "-5s", "5x", "s", "1e3", "5s5m", "25h", "1441m", "٣", "nan"])
def test_a_bad_budget_is_told_in_one_sentence(text: str) -> None:
    with pytest.raises(UsageError, match=r"^A thinking budget is a time .* such as 5s or 2m, .*\.$"):
        Budget.parse(text)


def test_tokens_are_counted_and_what_is_promised_is_kept_free() -> None:
    meter = Meter(Budget(tokens=100), Clock())
    meter.passed(60)
    assert not meter.over
    assert meter.fits(40)
    assert not meter.fits(41)
    assert not meter.fits(30, promised=20)
    meter.passed(40)
    assert meter.over


def test_seconds_come_from_the_clock_and_answers_are_begun_by_their_pace() -> None:
    clock = Clock()
    meter = Meter(Budget(seconds=10), clock)
    meter.starts()
    for _ in range(20):
        clock.now += 0.25
        meter.passed(3)
    assert meter.seconds == 5
    assert meter.fits(20, promised=1000)  # 20 passes of a quarter of a second, beside the others
    assert not meter.fits(21)
    assert not meter.over
    clock.now += 5
    assert meter.over
    assert meter.spell() == "60 tokens in 10.00 of 10 s"


def test_thoughts_get_three_quarters_of_what_is_left() -> None:
    meter = Meter(Budget(tokens=200), Clock())
    assert not meter.thought_is_over(0.0, 149)
    assert meter.thought_is_over(0.0, 150)
    assert not meter.thought_is_over(0.5, 74)
    assert meter.thought_is_over(0.5, 75)
    clock = Clock()
    meter = Meter(Budget(seconds=8), clock)
    clock.now += 5.9
    assert not meter.thought_is_over(0.0, 10_000)
    clock.now += 0.2
    assert meter.thought_is_over(0.0, 1)
