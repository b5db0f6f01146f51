"""Comparing two sides fairly on a noisy machine: they take turns, and the ratio is formed pair by pair.

A machine that slows down for a minute slows both halves of a pair, so the median of the paired ratios stands
still where a ratio of two averages would not.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence

Measure = Callable[[], float]  # returns a speed: more is better


def take_turns(sides: Mapping[str, Measure], rounds: int) -> dict[str, list[float]]:
    """Return `rounds` measurements of each side, in turns; every second round runs in reverse."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides)
        for name in names[::-1] if number % 2 else names:
            found[name].append(sides[name]())
    return found


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median over the pairs of ours / theirs, two equally long lists in the order measured."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def spread(values: Sequence[float]) -> float:
    """Return (largest - smallest) / median: how restless the machine was."""
    return (max(values) - min(values)) / statistics.median(values)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; columns whose cells begin with a digit stand to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(header), *cells]) for i in range(len(header))]
    right = [all(row[i][:1].isdigit() or row[i] in ("", "-") for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join(
        "-" * (w + 1) + ":" if r else "-" * (w + 2) for w, r in zip(widths, right, strict=True)
    )
    return "\n".join([line(list(header)), rule + "|", *map(line, cells)])


def figure(value: float) -> str:
    """Return a number with three significant digits and no exponent: 4,353 or 38.1 or 0.56."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
