"""Trend lines: a straight one and one that grows by a constant factor, and which of them to believe.

Each is fitted by least squares; the exponential one to the logarithms, for values above zero only. Which is
better is judged by leaving out: each point is foretold from the others, and the line whose foretelling is off
by less, as a share of the values, wins (Stone 1974, "Cross-validatory choice"). With fewer than four points
there is too little to leave out, and how well they are met decides.

Not covered: seasons, lines that bend, intervals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
KINDS = ("linear", "exponential")


@dataclass(frozen=True)
class Trend:
    """A fitted line. error: by how much it is off for a point left out, as a share of the values; growth: per
    unit of x, a slope (linear) or a factor (exponential)."""

    kind: str
    error: float
    growth: float
    _at: Callable[[Numbers], Numbers]

    def at(self, x: Sequence[float]) -> Numbers:
        """Return the line's values."""
        with np.errstate(over="ignore"):
            return self._at(np.asarray(x, float))


def fit(x: Sequence[float], y: Sequence[float], kind: str | None = None) -> Trend | None:
    """Return the better trend, or that of a kind; None when points are too few or do not allow one."""
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    if not _apart(xs):
        return None
    found = [trend for name in ((kind,) if kind else KINDS) if (trend := _fit(xs, ys, name))]
    return min(found, key=lambda trend: trend.error, default=None)


def _fit(x: Numbers, y: Numbers, kind: str) -> Trend | None:
    if kind == "exponential" and y.min() <= 0:
        return None
    line = _line(x, y, kind)
    foretold = line(x)
    kept = [np.arange(len(x)) != n for n in range(len(x))]
    if len(x) >= 4 and all(_apart(x[keep]) for keep in kept):
        foretold = np.array([_line(x[keep], y[keep], kind)(x[~keep])[0] for keep in kept])
    error = float(np.mean(np.abs(foretold - y)) / max(float(np.mean(np.abs(y))), 1e-300))
    unit = line(np.array([0.0, 1.0])) if kind == "linear" else None
    growth = float(unit[1] - unit[0]) if unit is not None else _slope(x, np.log(y), np.exp)
    return Trend(kind, error, growth, line)


def _apart(x: Numbers) -> bool:
    """Whether the places differ by more than rounding does: nearer ones have no slope, or one of any size."""
    return len(x) > 1 and float(np.ptp(x)) > max(1e-12 * float(np.abs(x).max()), 1e-100)


def _slope(x: Numbers, y: Numbers, of: Callable[[float], float]) -> float:
    with np.errstate(over="ignore"):
        return float(of(float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())))


def _line(x: Numbers, y: Numbers, kind: str) -> Callable[[Numbers], Numbers]:
    values = np.log(y) if kind == "exponential" else y
    middle, level = x.mean(), values.mean()
    slope = ((x - middle) * (values - level)).sum() / ((x - middle) ** 2).sum()

    def straight(at: Numbers) -> Numbers:
        found: Numbers = level + slope * (at - middle)
        return found

    def growing(at: Numbers) -> Numbers:
        with np.errstate(over="ignore"):
            found: Numbers = np.exp(straight(at))
        return found

    return growing if kind == "exponential" else straight
