"""The forecast of a speed: which twin is tried, how it is scaled, and that a trial is made once."""

from dataclasses import replace

import pytest

from twofold.base.errors import BadFileError, TwofoldError
from twofold.measure import calibration, forecast, machine, speed
from twofold.parameters import ModelConfig

Tried = list[tuple[ModelConfig, str, int]]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Tried:
    """Return the twins that are tried, each of which takes a hundredth of a second."""
    found: Tried = []
    monkeypatch.setattr(forecast, "_trial", lambda *twin: found.append(twin) or 0.01)
    monkeypatch.setattr(machine, "available_bytes", lambda: 10**11)
    return found


def bytes_of(config: ModelConfig, type: str) -> int:
    return speed.work(config, speed.tensor_types(config, type)).weight_bytes


def test_a_small_model_has_a_twin_of_its_own_shape(tried: Tried) -> None:
    config = speed.shape("110M")
    assert forecast.tokens_per_s(config, "q8_0", 2) == pytest.approx(100)
    assert tried == [(replace(config, context=128), "Q8_0", 2)]


def test_a_large_one_is_scaled_by_its_bytes(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    config = speed.shape("7B")
    told = forecast.tokens_per_s(config, "Q4_K_S")
    [(twin, type_, threads)] = tried
    assert (type_, threads, twin.width) == ("Q4_K", machine.cores(), calibration.LARGE.width)
    assert 200e6 < bytes_of(twin, "Q4_K") <= 256e6
    assert told == pytest.approx(100 * bytes_of(twin, "Q4_K") / bytes_of(config, "Q4_K"))
    forecast.tokens_per_s(speed.shape("13B"), "Q4_K")
    assert tried[1] == tried[0], "one twin stands for all large ones"
    monkeypatch.setattr(machine, "available_bytes", lambda: 10**8)
    forecast.tokens_per_s(config, "Q8_0")
    assert tried[2][0].layers == 1, "where memory is scarce a smaller twin does"


def test_a_file_nobody_has_read_is_taken_for_a_published_shape(tried: Tried) -> None:
    config = speed.shape("0.5B")
    size = speed.file_bytes(config, "Q8_0")
    expected = forecast.tokens_per_s(config, "Q8_0")
    assert forecast.of_file(size, "Q8_0") == pytest.approx(expected)
    assert forecast.of_file(size, "", config.parameters) == pytest.approx(expected)
    assert forecast.of_file(round(1.2 * size), "Q8_0") == pytest.approx(expected / 1.2)
    small = forecast.of_file(speed.file_bytes(speed.shape("15M"), "Q4_0"), "Q4_0")
    assert (small, tried[-1][0].width) == (pytest.approx(100), 288)


def test_what_cannot_be_tried_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for type_ in ("IQ2_XS", "MXFP4"):
        with pytest.raises(TwofoldError, match=f"The speed of {type_} cannot be tried"):
            forecast.of_file(10**9, type_)

    def refuses(*_: object) -> float:
        raise BadFileError("no such type")

    monkeypatch.setattr(forecast, "_trial", refuses)
    with pytest.raises(TwofoldError, match="no such type"):
        forecast.tokens_per_s(speed.shape("15M"), "Q8_0")


def test_this_machine_has_a_speed() -> None:
    forecast._trial.cache_clear()
    config = speed._llama(64, 2, 2, 2, 192, 512, tied=True)
    first = forecast.tokens_per_s(config, "Q8_0", 1)
    assert 10 < first < 1e6
    assert forecast.tokens_per_s(config, "Q8_0", 1) == first
    assert forecast._trial.cache_info().hits == 1
    assert forecast.memory_bytes(10**9) == 1_170_000_000
