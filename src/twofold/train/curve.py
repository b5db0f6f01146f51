"""A run's curves as an SVG, drawn by hand: such as loss on the left axis, bits per byte on the right."""

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 56, 20, 44
MOST_POINTS = 400

Points = Sequence[tuple[float, float]]


LOSS_NAMES = ("loss (nats per token)", "held out (bits per byte)")


def draw(losses: Points, scores: Points, names: tuple[str, str] = LOSS_NAMES) -> str:
    """Return an SVG of two series of (step, value), by default losses and scores; `names` of their axes."""
    last = max([step for step, _ in [*losses, *scores]], default=1) or 1
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for step in _ticks(0, last):
        x = _x(step, last)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM, "#eeeeee"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{step:,.0f}", "middle", "#555555"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "step", "middle", "#555555"))
    parts += _series(_thin(losses), last, "#2b6cb0", names[0], left=True)
    parts += _series(scores, last, "#c05621", names[1], left=False)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _series(points: Points, last: float, colour: str, name: str, *, left: bool) -> list[str]:
    """Return the line of one series, its axis and its name."""
    points = [(step, value) for step, value in points if math.isfinite(value)]
    if not points:
        return []
    values = [value for _, value in points]
    # The first steps are far above all others and would flatten the rest: the line enters from above.
    early = max(1, len(values) // 20) if len(values) > 5 else 0
    low, high = min(values), max(*values[early:], min(values) * 1.05 + 1e-9)
    points = [(step, value) for step, value in points if value <= high]
    parts = []
    for tick in _ticks(low, high):
        y = _y(tick, low, high)
        where, anchor = (LEFT - 8, "end") if left else (WIDTH - RIGHT + 8, "start")
        parts.append(_text(where, y + 4, f"{tick:.4g}", anchor, colour))
    path = " ".join(f"{_x(step, last):.1f},{_y(value, low, high):.1f}" for step, value in points)
    parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{path}"/>')
    if not left:
        parts += [
            f'<circle cx="{_x(s, last):.1f}" cy="{_y(v, low, high):.1f}" r="3" fill="{colour}"/>'
            for s, v in points
        ]
    x = WIDTH - RIGHT - 10
    parts.append(_text(x, TOP + (14 if left else 32), name, "end", colour))
    return parts


def _thin(points: Points) -> Points:
    """Return at most MOST_POINTS means of neighbouring points."""
    size = math.ceil(len(points) / MOST_POINTS) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers between `low` and `high`."""
    span = max(high - low, 1e-9)
    unit = 10 ** math.floor(math.log10(span / 4))
    step = min((unit * factor for factor in (1, 2, 5, 10)), key=lambda size: abs(span / size - 5))
    first = math.ceil(low / step - 1e-9)
    return [step * (first + i) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def _x(step: float, last: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / last


def _y(value: float, low: float, high: float) -> float:
    share = (value - low) / (high - low)
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
