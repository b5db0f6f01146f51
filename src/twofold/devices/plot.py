"""Plot: points, lines or bars as a picture, with a trend line that goes on into the future, and its error.

The form of `plot` is the one that the model in the box was taught: x, y, a title, and whether a trend is
wanted; `plot_table` takes a table instead. Pictures lie in the process's own folder, as PNG and SVG, under
new names. By `matplotlib`, without its window toolkits and without its global state.

Not covered: maps, three dimensions, histograms (count first).
"""

import datetime
import importlib.util
import math
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.base.errors import MissingExtraError
from twofold.base.names import unknown
from twofold.devices import _charts, _forms, _tables, _trend
from twofold.devices._charts import Chart
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned

DESCRIPTION = "Draws charts: points, lines or bars, with a trend line into the future."
MOST_POINTS, MOST_SERIES, _MOST_BARS = 10_000, 8, 60
_KINDS = ("line", "scatter", "bar")

_OPTIONS = {
    "title": _forms.text("above the chart", longest=200),
    "trend": {"type": "boolean", "description": "draw a trend line and say where it leads"},
    "kind": {"type": "string", "enum": list(_KINDS), "description": "line unless said"},
    "until": {
        "type": ["string", "number"], "description": "how far the trend goes on, such as 2027 or 2027-06",
    },
    "fit": {"type": "string", "enum": list(_trend.KINDS), "description": "the better one unless said"},
    "log": {"type": "boolean", "description": "a logarithmic scale for y"},
}  # fmt: skip
_CELLS = {"type": "array", "items": {"type": ["number", "string", "null"]}, "maxItems": MOST_POINTS}
_FUNCTIONS = (
    Function(
        name="plot",
        description="Draws a chart.",
        parameters=_forms.object_of(
            {
                "x": {**_CELLS, "description": "numbers, dates or names"},
                "y": {**_CELLS, "description": "numbers"},
                **_OPTIONS,
            },
            required=("x", "y"),
        ),
        effect=Effect.NONE,
        trusted=True,
    ),
    Function(
        name="table",
        description="Draws a chart of columns of a table.",
        parameters=_forms.object_of(
            {
                "table": {
                    "type": ["array", "string"], "maxItems": _tables.MOST_ROWS, "maxLength": _tables.LONGEST,
                    "description": "records, CSV, or a table in Markdown",
                },
                "x": _forms.text("the column along the bottom", longest=200),
                "y": {
                    "type": "array", "items": {"type": "string"}, "maxItems": MOST_SERIES,
                    "description": "columns of numbers",
                },
                **_OPTIONS,
            },
            required=("table", "x", "y"),
        ),
        effect=Effect.NONE,
        trusted=True,
    ),
)  # fmt: skip


class Plot:
    """The device. It holds nothing."""

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return _FUNCTIONS

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return `{"files", "trends"}`; as text the PNG, and where the trend leads. Raises DeviceError."""
        _forms.check(_FUNCTIONS, function, arguments)
        if function == "plot":
            chart = _chart(arguments["x"], {"": arguments["y"]}, "", arguments)
        else:
            chart = _of_table(arguments)
        trends = (
            _trends(chart) if arguments.get("trend") or "until" in arguments or "fit" in arguments else {}
        )
        files = _charts.draw(chart, trends, context.workspace)
        told = [_told(name, end, trend, chart) for name, (trend, end) in trends.items()]
        value = {"files": list(files), "trends": [record for record, _ in told]}
        text = "; ".join([files[0], *(line for _, line in told)])
        return Returned(value=value, text=text, files=files)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


# --- from arguments to a chart


def _of_table(arguments: Mapping[str, Any]) -> Chart:
    rows = _tables.rows(arguments["table"])
    columns = list(dict.fromkeys(key for row in rows for key in row))
    wanted = [arguments["x"], *arguments["y"]]
    if len(wanted) < 2 or any(not isinstance(name, str) for name in wanted):
        raise DeviceError("'y' must name at least one column.")
    for name in wanted:
        if name not in columns:
            raise DeviceError(unknown("column", name, columns))
    rows = [row for row in rows if not _tables.empty(row.get(arguments["x"]))]  # the others have no place
    x = [row.get(arguments["x"]) for row in rows]
    return _chart(
        x, {name: [row.get(name) for row in rows] for name in arguments["y"]}, arguments["x"], arguments
    )


def _chart(
    x: Sequence[Any], series: Mapping[str, Sequence[Any]], x_name: str, options: Mapping[str, Any]
) -> Chart:
    for name, y in series.items():
        if len(x) != len(y):
            raise DeviceError(f"x has {len(x)} values and y {name!r} has {len(y)}: they must be as many.")
    if not x:
        raise DeviceError("There are no points.")
    numbers: dict[str, list[float | None]] = {}
    for name, y in series.items():
        try:
            numbers[name] = [_tables.number(value) for value in y]
        except ValueError as error:
            raise DeviceError(f"The values of y must be numbers: {error}.") from None
        if all(value is None for value in numbers[name]):
            raise DeviceError(f"There is no number in y {name!r}.")
    if options.get("log") and any(v is not None and v <= 0 for y in numbers.values() for v in y):
        raise DeviceError("A logarithmic scale needs values above zero.")
    places = _bottom(x)
    if not isinstance(places[0], str) and options.get("kind") != "bar":
        order = sorted(range(len(places)), key=lambda n: places[n])
        places = [places[n] for n in order]
        numbers = {name: [y[n] for n in order] for name, y in numbers.items()}
    if options.get("kind") == "bar" and len(places) > _MOST_BARS:
        raise DeviceError(f"{len(places)} bars are too many to see: at most {_MOST_BARS}.")
    return Chart(places, numbers, x_name, options)


def _bottom(x: Sequence[Any]) -> list[Any]:
    """Return x as numbers where all are, as days where all are, else as names."""
    try:
        found = [_tables.number(value) for value in x]
        if all(value is not None for value in found):
            return found
    except ValueError:
        days = [_tables.date(value) for value in x]
        if all(day is not None for day in days):
            return days
        # Years among days: 2019, 2020-03.
        mixed = [day or _of_year(value) for day, value in zip(days, x, strict=True)]
        if any(days) and all(mixed):
            return mixed
    if len(x) > 200:
        raise DeviceError(f"{len(x)} names are too many along the bottom: at most 200, or numbers or dates.")
    return [str(value)[:40] for value in x]


def _of_year(value: Any) -> datetime.date | None:
    text = str(value).strip()
    return datetime.date(int(text), 1, 1) if len(text) == 4 and text.isdigit() and int(text) >= 1000 else None


# --- the trend


def _trends(chart: Chart) -> dict[str, tuple[_trend.Trend, float]]:
    """Return the trend of each series, and how far it goes on."""
    if chart.names:
        raise DeviceError("A trend needs numbers or dates along the bottom, not names.")
    places = chart.places()
    end = _until(chart, places)
    found = {}
    for name, y in chart.series.items():
        known = [(place, value) for place, value in zip(places, y, strict=True) if value is not None]
        trend = _trend.fit([p for p, _ in known], [v for _, v in known], chart.options.get("fit"))
        if trend is None:
            needs = "values above zero" if chart.options.get("fit") == "exponential" else "different x"
            raise DeviceError(f"A trend needs two points or more with {needs}.")
        if not math.isfinite(float(trend.at([end])[0])):
            raise DeviceError("The trend grows beyond all numbers: choose a nearer `until`.")
        found[name] = (trend, end)
    return found


def _until(chart: Chart, places: Sequence[float]) -> float:
    """Return how far a trend goes: as asked, else to the end of the year after the last."""
    asked = chart.options.get("until")
    last, span = places[-1], places[-1] - places[0]
    if asked is None:
        return math.floor(last) + 2.0 if chart.dates else last + span / 4
    text = str(asked).strip()
    if chart.dates:
        year, day = _of_year(text), _tables.date(text)
        end = year.year + 1.0 if year else _charts.year_of(day) if day else None
    else:
        try:
            end = _tables.number(asked)
        except ValueError:
            end = None
    if end is None:
        raise DeviceError(
            f"{text[:40]!r} is no end for the trend: write a year, a date or a number as x has them."
        )
    if not last <= end <= last + max(20 * span, 10):
        raise DeviceError(
            f"The trend cannot go on to {text[:40]}: that lies before the last point, or too far off."
        )
    return end


def _told(name: str, end: float, trend: _trend.Trend, chart: Chart) -> tuple[dict[str, Any], str]:
    """Return a trend for programs, and in words: where it leads, its kind, and how far off it tends to be."""
    worth = float(trend.at([end])[0])
    if chart.dates:
        whole = end == math.floor(end)
        where = f"the end of {math.floor(end) - 1}" if whole else _charts.day_of(end).isoformat()
        per = "a year"
    else:
        where, per = f"x = {_charts.spelled(end)}", "for each 1 of x"
    pace = f"{trend.growth:+.3g} {per}" if trend.kind == "linear" else f"times {trend.growth:.3g} {per}"
    label = f"{name}, " if name else ""
    how = f"{trend.kind}, {pace}; off by {trend.error:.0%} on average"
    text = f"{label}trend at {where}: {_charts.spelled(worth)} ({how})"
    record = {
        "series": name, "kind": trend.kind, "at": where, "value": worth, "growth": trend.growth,
        "error": trend.error,
    }  # fmt: skip
    return record, text


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device; it has no settings. Raises MissingExtraError without matplotlib."""
    _forms.settings("plot", settings)
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("Drawing charts", "os")
    return Plot()
