"""The arithmetic of speed, without a clock: work, limits, the fit of rates, and the prediction."""

import math
import xml.etree.ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from twofold import parameters
from twofold.base.errors import UsageError
from twofold.cli import roofline as terminal_roofline
from twofold.measure import calibration, machine, pace, roofline, speed, synthetic
from twofold.measure.speed import Rates

TINY = replace(calibration.SMALL, width=256, heads=4, kv_heads=2, ffn=512, layers=3)
# Rates of a made-up machine: 50 GB/s from memory, 200 from the cache; seconds for each unit of work.
DECODE = {"token": 2e-6, "layer": 1.5e-6, "element": 3e-10, "row": 2e-10, "attention": 3e-11}
PREFILL = {"call": 1e-5, "layer": 2e-5, "element": 5e-10, "attention": 2e-11}


def bandwidth(size_bytes: float) -> float:
    return machine.interpolated(((16_000_000, 200e9), (200_000_000, 50e9)), size_bytes)


def rates(kinds: list[str]) -> Rates:
    decode, prefill = dict(DECODE), dict(PREFILL)
    for number, kind in enumerate(kinds, 1):
        decode |= {f"read {kind}": 2e-12 * number, f"fetch {kind}": 0.9 - 0.1 * number}
        decode |= {f"wait {kind}": 4e9 * number}
        prefill[f"multiply {kind}"] = 2e-12 * number
    return Rates(decode, prefill)


# --- work


def test_the_work_of_a_shape_counted_by_hand() -> None:
    config = replace(TINY, layers=1, vocab_size=512, tied=True)
    asked = speed.work(config, speed.tensor_types(config, "Q8_0"))
    matrices = 256 * 256 * 2 + 2 * 128 * 256 + 3 * 512 * 256
    assert asked.products == {"Q8_0": matrices}
    assert asked.head == ("Q8_0", 512 * 256)
    assert asked.multiply_adds == matrices + 512 * 256
    assert asked.bytes == {"Q8_0": (matrices + 512 * 256) // 32 * 34, "F32": 3 * 256 * 4}
    assert asked.rows == 512 + 256 + 2 * 128 + 256 + 2 * 512 + 256
    assert asked.attention == 2 * 256
    assert asked.cache == 2 * 128 * speed.CACHE_BYTES
    # The table that reads tokens is not read whole when another one writes them.
    untied = replace(config, tied=False)
    assert speed.work(untied, speed.tensor_types(untied, "Q8_0")) == asked


@pytest.mark.parametrize("type_", ["Q4_0", "Q4_K_M", "Q8_0", "F16"])
def test_sizes_and_work_are_those_of_a_real_file(type_: str, tmp_path: Path) -> None:
    path = synthetic.write(TINY, tmp_path / "model.gguf", type_)
    model = parameters.load(path)
    assert model.config.shapes() == TINY.shapes()
    assert pace.work_of(model) == speed.work(TINY, speed.tensor_types(TINY, type_))
    assert speed.file_bytes(TINY, type_) == pytest.approx(path.stat().st_size, rel=0.02)
    assert float(np.std(model.tensors["blk.2.ffn_up.weight"])) == pytest.approx(TINY.width**-0.5, rel=0.1)
    np.testing.assert_array_equal(model.tensors["output_norm.weight"], 1)


def test_the_sizes_are_what_people_call_them() -> None:
    for name, config in speed.SIZES.items():
        unit = {"M": 1e6, "B": 1e9}[name[-1]]
        assert config.parameters == pytest.approx(float(name[:-1]) * unit, rel=0.08), name


@pytest.mark.parametrize(
    ("size", "type_", "said"),
    [("7b2", "Q8_0", "There is no size '7b2'. Did you mean '7B'?"), ("7B", "Q9_0", "There is no file type")],
)
def test_what_is_not_known_is_named(size: str, type_: str, said: str) -> None:
    with pytest.raises(UsageError, match=said.replace("?", r"\?").replace(".", r"\.")):
        speed.predict(size, type_, rates([]), bandwidth, 1 << 40)


def test_the_types_that_a_prediction_needs() -> None:
    assert speed.needed_types(["1.1B"], ["Q8_0"]) == ["Q8_0"]
    assert speed.needed_types(["15M", "7B"], ["Q4_0", "Q4_K_M"]) == ["Q4_0", "Q4_K", "Q5_0", "Q6_K", "Q8_0"]


# --- limits


def test_points_lie_under_their_roof() -> None:
    asked = speed.work(speed.SIZES["1.1B"], speed.tensor_types(speed.SIZES["1.1B"], "Q8_0"))
    alone = speed.decode_point("decode", asked, 20, position=0, bandwidth=50e9, peak=1e12)
    # Two operations for each weight of 34/32 bytes; the bandwidth is the limit.
    assert alone.operations_per_byte == pytest.approx(2 * 32 / 34, rel=0.01)
    assert alone.limit_operations_per_s == pytest.approx(50e9 * alone.operations_per_byte)
    assert alone.share == pytest.approx(20 * asked.weight_bytes / 50e9, rel=0.01)
    eight = speed.decode_point("batch", asked, 160, position=0, bandwidth=50e9, peak=1e12, sequences=8)
    assert eight.operations_per_byte == pytest.approx(8 * alone.operations_per_byte, rel=0.01)
    assert eight.share == pytest.approx(alone.share, rel=0.01)
    prefill = speed.prefill_point("prefill", asked, 200, tokens=512, bandwidth=50e9, peak=1e12)
    # The weights are read once for every PASS tokens, and the peak is the limit.
    assert prefill.operations_per_byte == pytest.approx(speed.PASS * alone.operations_per_byte, rel=0.1)
    assert prefill.limit_operations_per_s == 1e12
    assert prefill.operations_per_s == pytest.approx(2 * 200 * sum(asked.products.values()), rel=0.05)


def test_bandwidth_lies_between_its_neighbours() -> None:
    points = ((1_000_000, 100e9), (100_000_000, 25e9))
    assert machine.interpolated(points, 10_000_000) == pytest.approx(50e9)
    assert machine.interpolated(points, 1) == 100e9
    assert machine.interpolated(points, 1_000_000) == 100e9
    assert machine.interpolated(points, 1e12) == 25e9


def test_the_roofline_is_an_image_with_names() -> None:
    lines = [roofline.Line("int8 <here>", 200e9, 1e12), roofline.Line("float32", 200e9, 2e11)]
    points = [
        speed.Point("decode", 5_000, 3e11, 1.9, 3.8e11),
        speed.Point("prefill 512", 9_000, 5e11, 300.0, 1e12),
    ]
    plane = roofline.axes(lines, points)
    for point in points:
        assert 0 < plane.x(point.operations_per_byte) < 1
        assert 0 < plane.y(point.operations_per_s) < 1
    for line in lines:
        assert 0 < plane.y(line.at(plane.x0)) < 1
        assert 0 < plane.x(line.ridge) < 1
        assert line.at(line.ridge) == pytest.approx(line.peak)
    assert plane.operations_per_byte(plane.x(7.0)) == pytest.approx(7.0)
    image = xml.etree.ElementTree.fromstring(roofline.svg("a & b", lines, points))
    texts = [element.text for element in image.iter() if element.text and element.text.strip()]
    assert {"a & b", "int8 <here>", "float32", "operations per byte"} <= set(texts)
    assert any("decode: 5,000 tokens/s, 79 %" in text for text in texts)
    assert len([element for element in image.iter() if element.tag.endswith("circle")]) == 2


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("width", [30, 80, 200])
def test_the_roofline_fits_the_terminal(plain: bool, width: int) -> None:
    lines = [roofline.Line("int8", 200e9, 1e12)]
    points = [
        speed.Point("decode", 5_000, 3e11, 1.9, 3.8e11),
        speed.Point("batch of 8", 9_000, 3e11, 1.9, 3.8e11),
        speed.Point("prefill 512", 9_000, 5e11, 300.0, 1e12),
    ]
    text = terminal_roofline.draw(lines, points, width, plain=plain).plain
    rows = text.splitlines()
    assert max(map(len, rows)) <= width
    assert len(rows) == terminal_roofline.ROWS + 2
    assert [text.count(letter) for letter in "DBP"] == [1, 1, 1]  # two at one place stand side by side
    assert text.isascii() == plain


# --- rates and prediction


def observed(kinds: list[str], noise: float) -> tuple[list[speed.Terms], list[float], list[float]]:
    """Return the terms of what a calibration times on the made-up machine, and its seconds."""
    generator = np.random.default_rng(0)
    true = rates(kinds)
    terms, decode, prefill = [], [], []
    for config, kind in calibration.models(kinds, calibration.LARGE_BYTES):
        asked = speed.work(config, speed.tensor_types(config, kind))
        for position in (4, calibration.FAR):
            terms.append(speed.decode_terms(asked, position, bandwidth(speed.reach(asked))))
            decode.append(speed.seconds(terms[-1], true.decode) or math.nan)
        for tokens in (calibration.SHORT, 512):
            terms.append(speed.prefill_terms(asked, tokens))
            prefill.append(speed.seconds(terms[-1], true.prefill) or math.nan)
    swing = [float(1 + noise * generator.uniform(-1, 1)) for _ in terms]
    times = iter(decode), iter(prefill)
    took = [next(times["call" in one]) * by for one, by in zip(terms, swing, strict=True)]
    return terms, took, swing


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.001), (0.04, 0.1)])
def test_rates_are_found_again_and_predict_other_shapes(noise: float, most: float) -> None:
    kinds = ["Q4_0", "Q8_0"]
    terms, took, _ = observed(kinds, noise)
    pairs = list(zip(terms, took, strict=True))
    found = Rates(
        speed.fit([(one, s) for one, s in pairs if "token" in one]),
        speed.fit([(one, s) for one, s in pairs if "call" in one]),
    )
    assert all(rate >= 0 for rate in [*found.decode.values(), *found.prefill.values()])
    for size in ("15M", "110M", "1.1B", "7B"):
        for kind in kinds:
            told = speed.predict(size, kind, found, bandwidth, 1 << 40)
            truth = speed.predict(size, kind, rates(kinds), bandwidth, 1 << 40)
            assert told.decode_tokens_per_s == pytest.approx(truth.decode_tokens_per_s, rel=most)
            assert told.prefill_tokens_per_s == pytest.approx(truth.prefill_tokens_per_s, rel=most)


def test_no_rate_is_below_zero_even_where_that_would_fit_better() -> None:
    found = speed.fit([({"a": 1, "b": 1}, 1.0), ({"a": 1, "b": 3}, 0.5)])
    assert found["b"] == 0
    assert 0.5 < found["a"] < 1
    assert speed.fit([({"a": 0.0, "b": 2.0}, 3.0)]) == pytest.approx({"a": 0.0, "b": 1.5})


def test_what_does_not_fit_or_was_not_measured_has_no_speed() -> None:
    known = rates(["Q8_0"])
    needs = speed.memory_bytes(speed.SIZES["7B"], "Q8_0")
    assert needs > speed.file_bytes(speed.SIZES["7B"], "Q8_0") > 7e9
    fits = speed.predict("7B", "Q8_0", known, bandwidth, needs)
    assert (fits.fits, fits.left_bytes) == (True, 0)
    assert fits.decode_tokens_per_s is not None
    lacks = speed.predict("7B", "Q8_0", known, bandwidth, needs - 1)
    assert (lacks.fits, lacks.left_bytes, lacks.decode_tokens_per_s) == (False, -1, None)
    unknown = speed.predict("7B", "F16", known, bandwidth, 1 << 40)
    assert (unknown.fits, unknown.decode_tokens_per_s, unknown.prefill_tokens_per_s) == (True, None, None)


def test_fewer_bytes_and_a_faster_memory_are_faster() -> None:
    known = rates(["Q8_0", "Q4_0"])
    slow = speed.predict("7B", "Q8_0", known, lambda _: 20e9, 1 << 40)
    fast = speed.predict("7B", "Q8_0", known, lambda _: 40e9, 1 << 40)
    small = speed.predict("7B", "Q4_0", known, lambda _: 20e9, 1 << 40)
    assert (slow.decode_tokens_per_s or 0) < (fast.decode_tokens_per_s or 0)
    assert (slow.decode_tokens_per_s or 0) < (small.decode_tokens_per_s or 0)
