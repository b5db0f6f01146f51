"""A chart as a picture: marks, trend lines, scales and names, drawn by matplotlib without its global state.

Called by devices/plot.py, which reads what is to be drawn. The same chart is the same bytes.
"""

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold.devices import _trend
from twofold.kernel.device import DeviceError

# Okabe and Ito's colours (2008), which people who see fewer colours can tell apart.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C8C00")
_INK, _QUIET = "#222222", "#8a8a8a"


@dataclass(frozen=True)
class Chart:
    """What is drawn. x: numbers, days, or names (then their places are 0, 1, 2 …); y: a list for each series,
    None where nothing is known."""

    x: list[Any]
    series: dict[str, list[float | None]]
    x_name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dates(self) -> bool:
        """Whether x are days."""
        return isinstance(self.x[0], datetime.date)

    @property
    def names(self) -> bool:
        """Whether x are names."""
        return isinstance(self.x[0], str)

    def places(self) -> list[float]:
        """Return x as numbers: years with fractions for days."""
        if self.names:
            return [float(n) for n in range(len(self.x))]
        return [year_of(one) if self.dates else float(one) for one in self.x]


def year_of(day: datetime.date) -> float:
    """Return a day as a number of years."""
    first, following = datetime.date(day.year, 1, 1), datetime.date(min(day.year + 1, 9999), 1, 1)
    return day.year + (day - first).days / max(1, (following - first).days)


def day_of(year: float) -> datetime.date:
    """Return the day that a number of years stands for."""
    whole = min(max(math.floor(year), 1), 9998)
    first, following = datetime.date(whole, 1, 1), datetime.date(whole + 1, 1, 1)
    return first + datetime.timedelta(days=round((year - whole) * (following - first).days))


def spelled(value: float) -> str:
    """Return a number for people: three or more digits that count, no zeros at the end."""
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.4g}"
    places = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{min(places, 8)}f}" if abs(value) < 1000 else f"{value:.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def draw(chart: Chart, trends: Mapping[str, tuple[_trend.Trend, float]], folder: Path) -> tuple[str, str]:
    """Draw the chart; return the names of its PNG and SVG."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    style: Any = {
        "font.size": 11, "axes.edgecolor": _QUIET, "axes.labelcolor": _INK, "text.color": _INK,
        "xtick.color": _INK, "ytick.color": _INK, "svg.hashsalt": "twofold", "text.parse_math": False,
        "axes.formatter.use_mathtext": False, "svg.fonttype": "path",
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8, 4.8), dpi=150, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        _marks(axes, chart)
        _lines(axes, chart, trends)
        _dress(axes, chart, trends)
        png, svg = _free(folder)
        figure.savefig(png)
        figure.savefig(svg, metadata={"Date": None})
    return png.name, svg.name


def _free(folder: Path) -> tuple[Path, Path]:
    """Return the next names for a chart in a folder that are not taken."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 100_000):
        png, svg = folder / f"plot-{number}.png", folder / f"plot-{number}.svg"
        if not svg.exists():
            try:
                png.touch(exist_ok=False)
            except FileExistsError:
                continue
            return png, svg
    raise DeviceError("There are too many charts in this folder.")


def _bottoms(chart: Chart, places: Sequence[float]) -> list[Any]:
    """Return places along the bottom as matplotlib takes them."""
    return [day_of(place) for place in places] if chart.dates else list(places)


def _marks(axes: Any, chart: Chart) -> None:
    kind, places = chart.options.get("kind", "line"), chart.places()
    count = len(chart.series)
    gap = min((b - a for a, b in zip(sorted(places), sorted(places)[1:], strict=False) if b > a), default=1.0)
    for number, (name, y) in enumerate(chart.series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        known = [(p, v) for p, v in zip(places, y, strict=True) if v is not None]
        values = [v for _, v in known]
        if kind == "bar":
            width = 0.8 * gap / count
            shifted = [p + (number - (count - 1) / 2) * width for p, _ in known]
            axes.bar(_bottoms(chart, shifted), values, width * (365.25 if chart.dates else 1), color=colour,
                     label=name)  # fmt: skip
            continue
        x = _bottoms(chart, [p for p, _ in known])
        few = len(known) <= 60
        axes.plot(x, values, "o" if kind == "scatter" else "o-" if few else "-", color=colour, label=name,
                  markersize=6 if few else 3, linewidth=1.8)  # fmt: skip


def _lines(axes: Any, chart: Chart, trends: Mapping[str, tuple[_trend.Trend, float]]) -> None:
    for number, (name, (trend, end)) in enumerate(trends.items()):
        places = chart.places()
        steps = [places[0] + (end - places[0]) * n / 100 for n in range(101)]
        label = f"{name} trend".strip() + f" ({trend.kind})"
        axes.plot(_bottoms(chart, steps), trend.at(steps), "--", label=label, linewidth=1.5,
                  color=_COLOURS[(number + (1 if len(trends) == 1 else 0)) % len(_COLOURS)])  # fmt: skip
        worth = float(trend.at([end])[0])
        short = spelled(worth) if abs(worth) < 1e6 else _tick(float(f"{worth:.3g}"), abs(worth))
        axes.annotate(
            short, (_bottoms(chart, [end])[0], worth), xytext=(-4, 7), textcoords="offset points", ha="right",
            fontsize=10, color=_INK,
        )  # fmt: skip


def _dress(axes: Any, chart: Chart, trends: Mapping[str, Any]) -> None:
    """Set title, scales and names."""
    from matplotlib import dates, ticker

    if title := chart.options.get("title"):
        axes.set_title(" ".join(title.split()), loc="left", fontsize=13, fontweight="bold", pad=12, wrap=True)
    if chart.x_name and chart.x_name.casefold() not in ("date", "year", "month"):
        axes.set_xlabel(chart.x_name[:60])
    if len(chart.series) == 1 and next(iter(chart.series)):
        axes.set_ylabel(next(iter(chart.series))[:60])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    known = [v for y in chart.series.values() for v in y if v is not None]
    if chart.options.get("log", _dwarfed(known, trends)):
        axes.set_yscale("log")
    else:
        if chart.options.get("kind") == "bar" or (min(known) >= 0 and min(known) < max(known) / 2):
            axes.set_ylim(bottom=min(0, *known) if min(known) < 0 else 0)
        axes.margins(y=0.12)
    axes.yaxis.set_major_formatter(
        ticker.FuncFormatter(lambda value, _: _tick(value, max(map(abs, axes.get_ylim()))))
    )
    if chart.names:
        long = max(len(name) for name in chart.x) * len(chart.x) > 80
        axes.set_xticks(
            range(len(chart.x)), chart.x, rotation=35 if long else 0, ha="right" if long else "center"
        )
    elif chart.dates:
        made: Any = dates  # matplotlib leaves these without types
        locator = made.AutoDateLocator(minticks=3, maxticks=9)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(made.ConciseDateFormatter(locator))
    elif all(float(x).is_integer() and 1000 <= x < 3000 for x in chart.x):  # years
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    if len(chart.series) > 1 or trends:
        axes.legend(frameon=False, fontsize=10, loc="best")


def _dwarfed(known: Sequence[float], trends: Mapping[str, tuple[_trend.Trend, float]]) -> bool:
    """Return whether a trend grows so far beyond the values that they would be a flat line beside it."""
    ends = [float(trend.at([end])[0]) for trend, end in trends.values() if trend.kind == "exponential"]
    return bool(ends) and min(known) > 0 and max(ends) > 20 * max(known)


def _tick(value: float, largest: float) -> str:
    """Return a number at the side: 1.5M, 20k, 0.25. Below 10,000, the largest there, thousands are whole."""
    for size, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size and largest >= 1e4:
            return f"{value / size:g}{name}"
    return f"{value:g}"
