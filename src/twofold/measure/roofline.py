"""The roofline: what a machine allows by operations per byte, and where a model's speeds lie below that.

Both axes are logarithmic. The roof rises with the bandwidth and turns level at the peak; a point under the
slope waits for bytes, one under the level part for arithmetic (Williams, Waterman and Patterson 2009,
doi 10.1145/1498765.1498785). `svg` writes it as an image; the terminal draws it from the same numbers.

Not covered: caches as roofs of their own; the bandwidth is that of as many bytes as the model has.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twofold.measure.speed import Point, roof

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 24, 24, 52
_COLOURS = ("#c05621", "#2b6cb0", "#2f855a", "#6b46c1")


@dataclass(frozen=True)
class Line:
    """A roof: its name, bandwidth in bytes per second, and peak in operations per second."""

    name: str
    bandwidth: float
    peak: float

    def at(self, operations_per_byte: float) -> float:
        """Return the operations per second that it allows."""
        return roof(operations_per_byte, self.bandwidth, self.peak)

    @property
    def ridge(self) -> float:
        """The operations per byte from which on arithmetic is the limit."""
        return self.peak / self.bandwidth


@dataclass(frozen=True)
class Axes:
    """The part of the plane that is drawn: operations per byte from x0 to x1, per second from y0 to y1."""

    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        """Return where an x lies between the ends, 0 to 1."""
        return math.log(value / self.x0) / math.log(self.x1 / self.x0)

    def y(self, value: float) -> float:
        """Return where a y lies between the ends, 0 to 1."""
        return math.log(value / self.y0) / math.log(self.y1 / self.y0)

    def operations_per_byte(self, share: float) -> float:
        """Return the x at a share of the way from end to end."""
        return self.x0 * math.pow(self.x1 / self.x0, share)


def axes(lines: Sequence[Line], points: Sequence[Point]) -> Axes:
    """Return axes that show every roof's ridge and every point, with some room around."""
    xs = [point.operations_per_byte for point in points] + [line.ridge for line in lines]
    ys = [point.operations_per_s for point in points] + [line.peak for line in lines]
    low = min([point.operations_per_byte for point in points], default=min(xs) / 30)
    x0, x1 = low / 2, max(xs) * 3
    ys += [line.at(x0) for line in lines]
    return Axes(x0, x1, min(ys) / 2, max(ys) * 2)


def decades(low: float, high: float) -> Iterator[float]:
    """Yield the powers of ten from `low` to `high`."""
    for exponent in range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1):
        yield 10.0**exponent


def short(value: float) -> str:
    """Return a power of ten in short: 0.1, 10, 1 k, 100 M, 1 G, 10 T."""
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def svg(title: str, lines: Sequence[Line], points: Sequence[Point]) -> str:
    """Return the roofline as an SVG image; the first line is drawn full, the others dashed."""
    plane = axes(lines, points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, TOP - 8, title, "start", "#222222"),
    ]
    for value in decades(plane.x0, plane.x1):
        x = _x(plane, value)
        parts.append(_path([(x, TOP), (x, HEIGHT - BOTTOM)], "#e8e8e8"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, short(value), "middle", "#555555"))
    for value in decades(plane.y0, plane.y1):
        y = _y(plane, value)
        parts.append(_path([(LEFT, y), (WIDTH - RIGHT, y)], "#e8e8e8"))
        parts.append(_text(LEFT - 8, y + 4, short(value), "end", "#555555"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "operations per byte", "middle", "#555555"))
    label = f"translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)"
    parts.append(f'<g transform="{label}">{_text(0, 0, "operations per second", "middle", "#555555")}</g>')
    for number, line in enumerate(lines):
        corners = [(x, line.at(x)) for x in sorted({plane.x0, min(line.ridge, plane.x1), plane.x1})]
        places = [(_x(plane, x), _y(plane, y)) for x, y in corners]
        parts.append(_path(places, "#222222", dashed=number > 0))
        parts.append(_text(WIDTH - RIGHT - 4, places[-1][1] - 6, line.name, "end", "#222222"))
    for number, point in enumerate(points):
        x, y = _x(plane, point.operations_per_byte), _y(plane, point.operations_per_s)
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        name = f"{point.name}: {point.tokens_per_s:,.0f} tokens/s, {100 * point.share:.0f} %"
        right = x > WIDTH * 0.6
        parts.append(_text(x - 9 if right else x + 9, y + 4, name, "end" if right else "start", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(plane: Axes, value: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * plane.x(value)


def _y(plane: Axes, value: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * plane.y(value)


def _path(places: Sequence[tuple[float, float]], colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline fill="none" stroke="{colour}" stroke-width="1.3"{dashes} points="{at}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    safe = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{safe}</text>'
