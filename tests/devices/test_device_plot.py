"""Charts: what may stand in a table, which trend is believed, and pictures that are there."""

import datetime
import json
import math
import random
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twofold.devices import _charts, _tables, _trend, plot
from twofold.kernel.device import Context, DeviceError, Returned

ROUNDS = {"x": ["2016-08", "2017-05", "2018-08", "2019-08", "2021-04"], "y": [4.5, 18, 18, 100, 325]}


@pytest.fixture
def call(tmp_path: Path) -> Any:
    pytest.importorskip("matplotlib")

    def calling(function: str = "plot", **arguments: Any) -> Returned:
        return plot.open({}).call(function, arguments, Context(pid=1, workspace=tmp_path, call="c"))

    return calling


def test_a_plot_is_a_picture_with_a_trend(call: Any, tmp_path: Path) -> None:
    drawn = call(**ROUNDS, title="Amounts raised, $M", trend=True)
    assert drawn.files == ("plot-1.png", "plot-1.svg")
    # The form that the model in the box was taught: the file, and where the trend leads.
    assert drawn.text.startswith("plot-1.png; trend at the end of 2022: 15")
    (trend,) = drawn.value["trends"]
    assert trend["kind"] == "exponential"
    assert 2 < trend["growth"] < 3
    assert 0 < trend["error"] < 0.5
    assert (tmp_path / "plot-1.png").read_bytes().startswith(b"\x89PNG")
    root = ET.parse(tmp_path / "plot-1.svg").getroot()
    assert root.tag.endswith("svg")
    assert call(x=[1, 2], y=[3, 4]).files == ("plot-2.png", "plot-2.svg")  # nothing is written over


def test_the_same_chart_is_the_same_picture(call: Any, tmp_path: Path) -> None:
    for _ in range(2):
        call(**ROUNDS, trend=True)
    for ending in ("png", "svg"):
        assert (tmp_path / f"plot-1.{ending}").read_bytes() == (tmp_path / f"plot-2.{ending}").read_bytes()


TABLE = """Here are the rounds:

| Round | Date | Raised, $M | Valuation |
|---|---|--:|--:|
| Seed | Jan 2019 | $1.5M | $5M |
| A | March 2020 | 5M | ? |
| **B** | 2021-06-15 | 20 million | $1.2B |
"""


def test_rows_of_a_table_without_a_place_along_the_bottom_are_left_out(call: Any) -> None:
    table = "when, worth\n2019-03, 5\n?, 7\n2021-06, 20\n, 3"
    drawn = call("table", table=table, x="when", y=["worth"], trend=True)
    assert drawn.text.startswith("plot-1.png; worth, trend at the end of 2022: ")
    with pytest.raises(DeviceError, match="There are no points"):
        call("table", table="when, worth\n?, 5\n-, 7", x="when", y=["worth"])


def test_a_plot_of_a_table(call: Any) -> None:
    drawn = call(
        "table",
        table=TABLE,
        x="Date",
        y=["Raised, $M", "Valuation"],
        kind="scatter",
        trend=True,
        until="2023",
    )
    assert [one["series"] for one in drawn.value["trends"]] == ["Raised, $M", "Valuation"]
    assert all(one["at"] == "the end of 2023" for one in drawn.value["trends"])
    rows = [{"year": 2000 + n, "sold": n * 3} for n in range(6)]
    drawn = call("table", table=rows, x="year", y=["sold"], trend=True, until=2010)
    assert drawn.value["trends"][0]["value"] == pytest.approx(30)
    assert call("table", table=json.dumps(rows), x="year", y=["sold"], kind="bar").files
    assert call("table", table="name;count\na;1\nb;2\n", x="name", y=["count"], kind="bar").files


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"x": [1, 2], "y": [1]}, "as many"), ({"x": [], "y": []}, "no points"),
        ({"x": [1], "y": ["a"]}, "'a' is no number"),
        ({"x": [1, 2], "y": [None, "?"]}, "no number in y"),
        ({"x": ["A", "B"], "y": [1, 2], "trend": True}, "not names"),
        ({"x": [1, 1], "y": [1, 2], "trend": True}, "different x"),
        ({"x": [1, 2], "y": [1, 2], "until": "soon"}, "no end"),
        ({"x": [1, 2], "y": [1, 2], "until": 1e9}, "too far off"),
        ({"x": [1, 2], "y": [1, 2], "until": 0}, "before"),
        ({"x": [1, 2], "y": [0, 2], "log": True}, "above zero"),
        ({"x": [1, 2], "y": [1, 2], "kind": "pie"}, "bar, line, scatter"),
        ({"x": [1, 2], "y": [-1, 2], "fit": "exponential"}, "above zero"),
        ({"x": [1], "y": [1], "colour": "red"}, "colour"),
        ({"x": list(range(100)), "y": list(range(100)), "kind": "bar"}, "too many to see"),
        ({"x": [f"n{n}" for n in range(300)], "y": [1] * 300}, "too many along"),
        ({"x": [1], "y": [True]}, "True"),
    ],
)  # fmt: skip
def test_plot_refuses_in_a_sentence(call: Any, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        call(**arguments)


@pytest.mark.parametrize(
    "table", ["", "words", "[1, 2]", "{", "[{}", "a,b", '{"a": 1}', "||\n||", "[]", '["x"]']
)
def test_what_is_no_table_is_refused(call: Any, table: str) -> None:
    with pytest.raises(DeviceError):
        call("table", table=table, x="a", y=["b"])


def test_odd_words_are_drawn_as_they_are(call: Any, tmp_path: Path) -> None:
    title = "$x_1$ \\frac{a}{b} <b>&amp;</b> %s {0}\nnew line"
    call(x=["<a>", "$b", "c_1^2"], y=[1, 2, 3], kind="bar", title=title)
    ET.parse(tmp_path / "plot-1.svg")


# --- trends


def test_the_right_trend_is_found() -> None:
    x = [float(n) for n in range(8)]
    line = _trend.fit(x, [3 * v + 2 for v in x])
    growth = _trend.fit(x, [5 * 1.7**v for v in x])
    assert line is not None
    assert growth is not None
    assert (line.kind, round(line.growth, 6), round(float(line.at([20])[0]), 6)) == ("linear", 3, 62)
    assert (growth.kind, round(growth.growth, 6)) == ("exponential", 1.7)
    assert line.error == pytest.approx(0, abs=1e-9)


def test_the_error_of_a_trend_is_that_of_points_left_out() -> None:
    rng = random.Random(1)
    x = [float(n) for n in range(30)]
    y = [100 + 10 * v + rng.gauss(0, 20) for v in x]
    trend = _trend.fit(x, y, "linear")
    assert trend is not None
    left_out = []
    for n in range(30):
        rest = _trend.fit(x[:n] + x[n + 1 :], y[:n] + y[n + 1 :], "linear")
        assert rest is not None
        left_out.append(abs(float(rest.at([x[n]])[0]) - y[n]))
    assert trend.error == pytest.approx(sum(left_out) / sum(y))


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e9, 1e9)), max_size=12))
@example([(0.0, 0.0), (1.8e-254, 0.0)])  # squares of such distances are nothing
@example([(1e6, 1.0), (math.nextafter(1e6, 2e6), 2.0)])
@settings(max_examples=150, deadline=None)
def test_a_trend_is_a_number_or_none(points: list[tuple[float, float]]) -> None:
    trend = _trend.fit([x for x, _ in points], [y for _, y in points])
    if trend is not None:
        assert not math.isnan(trend.error)
        assert not math.isnan(float(trend.at([0.0])[0]))


# --- cells


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (3, 3.0), ("$1.5M", 1.5e6), ("€ 2 bn", 2e9), ("1,204", 1204.0), ("12 %", 12.0), ("-3.5", -3.5),
        ("−4", -4.0), ("", None),
        ("?", None), ("n/a", None), (None, None), ("about $20 million", 2e7), ("**7**", 7.0),
        ("1e3", 1000.0), ("5k", 5000.0),
        ("$ 12", 12.0), ("12 USD", 12.0), ("~3", 3.0),
    ],
)  # fmt: skip
def test_cells_are_read_as_numbers(cell: Any, value: float | None) -> None:
    assert _tables.number(cell) == value


@pytest.mark.parametrize(
    "cell", ["Series A", "2021-03-04", "12 apples", True, "1e999", float("inf"), [1], "3-4"]
)
def test_other_cells_are_not(cell: Any) -> None:
    with pytest.raises(ValueError, match="is no number"):
        _tables.number(cell)


@pytest.mark.parametrize(
    ("cell", "day"),
    [
        ("2021-03", (2021, 3, 1)), ("2021-03-15", (2021, 3, 15)), ("2021/3/5", (2021, 3, 5)),
        ("Mar 2021", (2021, 3, 1)),
        ("15 March 2021", (2021, 3, 15)), ("March 15, 2021", (2021, 3, 15)), ("Q2 2021", (2021, 4, 1)),
        ("2021 Q4", (2021, 10, 1)),
        ("2021-03-15T10:00", (2021, 3, 15)), ("sept. 2020", (2020, 9, 1)), ("2021-13", None),
        ("Foo 2021", None), ("2021", None),
        ("30 Feb 2021", None),
    ],
)  # fmt: skip
def test_cells_are_read_as_days(cell: str, day: tuple[int, int, int] | None) -> None:
    assert _tables.date(cell) == (datetime.date(*day) if day else None)


@given(st.text(alphabet="|-:,;\n\t\"' a1$%[]{}", max_size=200) | st.text(max_size=100))
@settings(max_examples=300, deadline=None)
def test_no_text_harms_the_reading_of_tables(text: str) -> None:
    try:
        rows = _tables.rows(text)
    except DeviceError as error:
        assert str(error).endswith((".", ")."))
    else:
        assert all(isinstance(row, dict) for row in rows)
    _tables.date(text)
    try:
        _tables.number(text)
    except ValueError as error:
        assert "is no number" in str(error)


def test_numbers_at_the_side_are_spelled_in_one_way() -> None:
    assert [_charts._tick(value, 14000) for value in (0, 250, 8000, 14000)] == ["0", "250", "8k", "14k"]
    assert [_charts._tick(value, 9000) for value in (0.25, 8000)] == ["0.25", "8000"]
    assert [_charts._tick(value, 2e6) for value in (-1.5e6, 500_000)] == ["-1.5M", "500k"]
