"""Curves in a terminal: lines of dots, runs as letters, on an x axis spaced by logarithm or by root."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from twofold.cli.roofline import Canvas

if TYPE_CHECKING:
    from rich.text import Text

    from twofold.measure.ladder_plots import Curve
    from twofold.measure.overoptimisation import Curve as Climb

ROWS = 14
_LABEL = 6  # columns left of the axis
_STEPS = (1, 2, 5)


def draw(curves: Sequence["Curve"], width: int, *, plain: bool = False, root: bool = False) -> "Text":
    """Return the curves as text of at most `width` columns; a run is its curve's letter, held out *.

    `root`: x begins at 0 and is spaced by its square root, as distances (KL) are shown.
    """
    from rich.text import Text

    points = [point for curve in curves for point in [*curve.runs, *curve.held_out]]
    xs = [x for x, _ in points]
    ys = [y for _, y in points]
    x0, x1 = (0.0, 1.1 * max(xs) + 1e-9) if root else (min(xs) / 1.4, max(xs) * 1.4)
    spaced = math.sqrt if root else math.log
    room = 0.06 * (max(ys) - min(ys) + 1e-9)
    y0, y1 = min(ys) - room, max(ys) + room

    def place(x: float, y: float) -> tuple[float, float]:
        return (spaced(x) - spaced(x0)) / (spaced(x1) - spaced(x0)), (y - y0) / (y1 - y0)

    canvas = Canvas(max(20, min(width, 100) - _LABEL - 2), ROWS, plain=plain)
    for curve in curves:
        for (x, y), (next_x, next_y) in zip(curve.line, curve.line[1:], strict=False):
            steps = 24 if root else 4  # few points lie far apart
            for share in (step / steps for step in range(steps)):
                between = x + share * (next_x - x) if root else x * (next_x / x) ** share
                canvas.dot(*place(between, y + share * (next_y - y)))
    for number, curve in enumerate(curves):
        for x, y in curve.runs:
            canvas.letter(*place(x, y), letter(number))
        for x, y in curve.held_out:
            canvas.letter(*place(x, y), "*")
    bar, corner, level = ("|", "+", "-") if plain else ("│", "└", "─")
    text = Text(no_wrap=True, overflow="crop")
    for number in range(ROWS):
        value = y1 - (number + 0.5) / ROWS * (y1 - y0)
        label = f"{value:.2f}" if number % 3 == 1 else ""
        text.append(f"{label:>{_LABEL}} {bar}", "dim")
        for cell in canvas.row(number):
            text.append(cell, "bold" if cell.isalpha() or cell == "*" else "cyan")
        text.append("\n")
    text.append(f"{'':>{_LABEL}} {corner}{level * canvas.columns}\n", "dim")
    text.append(_root_scale(x1, canvas.columns) if root else _scale(x0, x1, canvas.columns), "dim")
    return text


def of_climb(climbs: Sequence["Climb"]) -> list["Curve"]:
    """Return curves of over-optimisation as `draw` takes them; the highest point of each is a star."""
    from twofold.measure.ladder_plots import Curve

    found = []
    for one in climbs:
        points = [(point.kl_nats, point.reward) for point in one.points]
        top = points[one.turn]
        found.append(Curve(one.name, points, [point for point in points if point != top], [top]))
    return found


def letter(number: int) -> str:
    """Return the letter of a curve: a, b, c …"""
    return chr(ord("a") + number % 26)


def _root_scale(x1: float, columns: int) -> str:
    """Return the line of numbers below an axis that is spaced by the root: 0, a 25th, …, the end."""
    cells = [" "] * (columns + _LABEL + 2)
    for share in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        name = f"{x1 * share**2:.3g}"
        start = _LABEL + 2 + int(share * (columns - 1)) - len(name) // 2
        start = min(start, _LABEL + 2 + columns - len(name))
        cells[start : start + len(name)] = name
    return "".join(cells).rstrip()


def _scale(x0: float, x1: float, columns: int) -> str:
    """Return the line of numbers below the axis: 1, 2 and 5 of each power of ten, where there is room."""
    cells = [" "] * (columns + _LABEL + 2)
    free = 0
    for power in range(math.floor(math.log10(x0)), math.ceil(math.log10(x1)) + 1):
        for step in _STEPS:
            value = step * 10.0**power
            name = f"{step}e{power}"
            start = _LABEL + 2 + int(math.log(value / x0) / math.log(x1 / x0) * columns) - len(name) // 2
            if max(free, _LABEL + 2) <= start and start + len(name) <= len(cells):
                cells[start : start + len(name)] = name
                free = start + len(name) + 2
    return "".join(cells).rstrip()
