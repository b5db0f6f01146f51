"""The ladder: fitted, judged by the run it had not seen, kept for one machine, and drawn."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from made_ladder import SIZES, TRUTH, made

from twofold.base.errors import BadFileError
from twofold.cli import curves
from twofold.measure import ladder as ladders
from twofold.measure import ladder_plots


def test_the_held_out_run_is_foretold_by_the_others() -> None:
    ladder = made()
    run = ladder.held_out
    assert run is not None
    assert run.weights == 2_726_368
    assert ladder.foretold is not None
    middle, low, high = ladder.foretold
    assert low < run.bits_per_byte < high
    assert ladder.error == pytest.approx(middle / run.bits_per_byte - 1)
    assert abs(ladder.error) < 0.01
    worse = dataclasses.replace(run, bits_per_byte=2 * run.bits_per_byte)
    about = {field.name: getattr(ladder, field.name) for field in dataclasses.fields(ladder)}
    for name in ("runs", "fit", "foretold"):
        about.pop(name)
    other = ladders.of_runs([*ladder.runs[:-1], worse], bootstraps=100, **about)
    assert other.foretold == ladder.foretold, "what is foretold does not know what came of it"
    assert other.fit.law != ladder.fit.law, "but the law that is kept does"


def test_a_ladder_without_a_held_out_run_foretells_nothing() -> None:
    ladder = made()
    runs = [run for run in ladder.runs if not run.held_out]
    plain = ladders.of_runs(
        runs,
        bootstraps=0,
        name="x",
        device="y",
        compute="float32",
        vocabulary=1,
        bytes_per_token=1.0,
        text=(),
    )
    assert (plain.held_out, plain.error, plain.foretold) == (None, None, None)


def test_runs_that_ended_too_early_are_not_fitted_to() -> None:
    ladder = made()
    short = dataclasses.replace(ladder.runs[0], tokens=90_000, text_bytes=270_000.0, bits_per_byte=7.0)
    assert short.short
    assert not ladder.runs[0].short
    about = {field.name: getattr(ladder, field.name) for field in dataclasses.fields(ladder)}
    for name in ("runs", "fit", "foretold"):
        about.pop(name)
    more = ladders.of_runs([short, *ladder.runs], bootstraps=100, **about)
    assert (more.fit, more.foretold) == (ladder.fit, ladder.foretold)
    assert short in more.runs, "but it is shown"


def test_what_to_expect_is_less_sure_of_another_text_and_less_of_old_text() -> None:
    ladder = made(text=("abc", "def"))
    middle, low, high = ladder.expected(1_000_000, 1e7, math.inf, ("def", "x"))
    assert middle == pytest.approx(TRUTH.loss(1_000_000, 1e7), rel=0.01)
    same, lower, higher = ladder.expected(1_000_000, 1e7, math.inf, ("x",))
    assert same == middle
    assert lower < low - 0.05 * middle
    assert higher > high + 0.05 * middle
    assert middle < ladder.expected(1_000_000, 1e7, 2e6)[0] < TRUTH.loss(1_000_000, 2e6)


def test_speed_lies_between_that_of_the_rungs() -> None:
    ladder = made()
    for _, _, weights in SIZES:
        assert ladder.flops_per_s(weights) == pytest.approx(1e10 * math.sqrt(weights / 1e5), rel=1e-6)
    assert ladder.flops_per_s(184_640) < ladder.flops_per_s(250_000) < ladder.flops_per_s(304_544)
    assert ladder.flops_per_s(10) == ladder.flops_per_s(184_640), "no guess beyond the smallest"


def test_a_ladder_is_kept_for_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert ladders.kept("a processor") is None
    ladder = made()
    assert ladders.keep(ladder) == tmp_path / "twofold" / "ladder.json"
    assert ladders.kept("a processor") == ladder
    assert ladders.kept("another processor") is None
    ladders.place().write_text("{}")
    assert ladders.kept("a processor") is None, "a damaged file is no reason not to train"


@pytest.mark.parametrize("change", [{"twofold_ladder": 2}, {"fit": {}}, {"runs": [{}]}, {"more": 1}])
def test_a_damaged_ladder_is_refused_in_a_sentence(change: dict[str, object]) -> None:
    raw = {**json.loads(made().dump()), **change}
    with pytest.raises(BadFileError, match=r"here .*(ladder|law)"):
        ladders.parse(json.dumps(raw), "here")
    with pytest.raises(BadFileError, match="here"):
        ladders.parse("[", "here")


def test_the_pictures_show_every_run_once() -> None:
    ladder = made()
    by_size = ladder_plots.curves(ladder, ladder.fit.law)
    assert len(by_size) == len(SIZES) + 2, "a line for each size, the held-out one, and the best"
    assert sum(len(curve.runs) for curve in by_size) == 18
    assert [len(curve.held_out) for curve in by_size] == [0] * 6 + [1, 0]
    best = dict(by_size[-1].line)
    for curve in by_size[:-1]:
        for x, y in curve.line:
            nearest = min(best, key=lambda other: abs(math.log(other / x)))
            assert best[nearest] < y * 1.02, "no size is better than the best"
    by_budget = ladder_plots.isoflops(ladder, ladder.fit.law)
    assert len(by_budget) >= 4
    for curve in by_budget[:-1]:
        assert len({x for x, _ in curve.runs}) >= 2
        assert min(y for _, y in curve.line) < curve.line[-1][1], "too large a model is no use at this budget"


def test_png_files_are_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = ladder_plots.write(made(), tmp_path)
    assert [path.name for path in paths] == ["loss.png", "isoflop.png"]
    for path in paths:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        assert int.from_bytes(data[16:20], "big") > 800


@pytest.mark.parametrize("plain", [False, True])
def test_the_terminal_s_picture_keeps_to_its_width(plain: bool) -> None:
    ladder = made()
    text = curves.draw(ladder_plots.curves(ladder, ladder.fit.law), 80, plain=plain).plain
    assert max(map(len, text.splitlines())) <= 80
    body = "".join(line[8:] for line in text.splitlines()[: curves.ROWS])
    assert body.count("*") == 1
    assert set("abcdef") <= set(body)
    assert text.isascii() == plain
    assert "1e13" in text.splitlines()[-1]
