"""The forecast of a speed: the rule, and that it asks the machine no more than it must."""

import pytest

from twofold.measure import forecast, machine


@pytest.fixture(autouse=True)
def _forget() -> None:
    forecast._bandwidth.cache_clear()


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(machine, "bandwidth", lambda size, threads, s: asked.append((size, threads)) or 10e9)
    assert forecast.tokens_per_s(90_000_000, 2) == pytest.approx(1 / (0.01 + 50e-6))
    assert forecast.tokens_per_s(91_000_000, 2) < forecast.tokens_per_s(90_000_000, 2)
    assert asked == [(1 << 28, 2)], "one size stands for its neighbours"
    forecast.tokens_per_s(10**12, 2)
    assert asked[1:] == [], "beyond every cache all sizes are alike"
    forecast.tokens_per_s(1_000_000, 2)
    assert asked[1][0] == 1 << 21
    assert forecast.memory_bytes(10**9) == 1_170_000_000


def test_this_machine_has_a_speed() -> None:
    assert 1 < forecast.tokens_per_s(5_000_000, 1) < 1e6
