"""Two pictures of a ladder as PNG: loss against compute, and loss against size at equal compute (isoFLOP).

Drawn by matplotlib, which comes with the extra [train]; the terminal's pictures need nothing (cli/curves.py).
Both take their numbers from `curves` and `isoflops`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.base.errors import MissingExtraError
from twofold.base.files import atomic_write
from twofold.measure.ladder import Ladder, Rung
from twofold.measure.scaling import Law

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 60
SAME_BUDGET = 1.25  # runs whose operations are nearer than this factor are shown as one budget
COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#b83280", "#718096", "#975a16", "#285e61", "#9b2c2c")


@dataclass(frozen=True)
class Curve:
    """A line of the law with the runs that belong to it: points are (x, bits per byte)."""

    name: str
    line: list[tuple[float, float]]
    runs: list[tuple[float, float]]
    held_out: list[tuple[float, float]]


def curves(ladder: Ladder, law: Law) -> list[Curve]:
    """Return a curve for each size, loss against operations, and the best that any size does (the last)."""
    found = []
    sizes = sorted({run.weights for run in ladder.runs})
    low, high = (pick(run.flops for run in ladder.runs) for pick in (min, max))
    for size in sizes:
        runs = [run for run in ladder.runs if run.weights == size]
        per_byte = runs[0].flops / runs[0].text_bytes
        xs = _between(min(run.flops for run in runs) / 1.5, max(run.flops for run in runs) * 1.5)
        line = [(x, law.loss(size, x / per_byte)) for x in xs]
        found.append(_curve(f"{size / 1e6:.2f}M weights", line, runs, lambda run: run.flops))
    per_weight_byte = _overhead(ladder)
    best = [(x, law.loss(*law.best(x, per_weight_byte))) for x in _between(low / 1.5, high * 3)]
    return [*found, Curve("the best size", best, [], [])]


def isoflops(ladder: Ladder, law: Law) -> list[Curve]:
    """Return a curve for each budget that at least two sizes share, loss against weights."""
    budgets: list[list[Rung]] = []
    for run in sorted(ladder.runs, key=lambda run: run.flops):
        if budgets and run.flops / budgets[-1][0].flops < SAME_BUDGET:
            budgets[-1].append(run)
        else:
            budgets.append([run])
    low, high = (pick(run.weights for run in ladder.runs) for pick in (min, max))
    per_weight_byte = _overhead(ladder)
    found = []
    for runs in budgets:
        if len({run.weights for run in runs}) < 2 and not runs[0].held_out:
            continue
        flops = math.exp(sum(math.log(run.flops) for run in runs) / len(runs))
        line = [(n, law.loss(n, flops / per_weight_byte / n)) for n in _between(low / 2, high * 2)]
        found.append(
            _curve(f"{flops:.1e} operations".replace("e+", "e"), line, runs, lambda run: run.weights)
        )
    return found


def _curve(name: str, line: list[tuple[float, float]], runs: list[Rung], x: Callable[[Rung], float]) -> Curve:
    shown = [(float(x(run)), run.bits_per_byte) for run in runs if not run.held_out]
    held_out = [(float(x(run)), run.bits_per_byte) for run in runs if run.held_out]
    return Curve(name, line, shown, held_out)


def _overhead(ladder: Ladder) -> float:
    """Return the operations for each weight and byte of text: the middle one of the runs'."""
    found = sorted(run.flops / run.weights / run.text_bytes for run in ladder.runs)
    return found[len(found) // 2]


def _between(low: float, high: float) -> list[float]:
    return [low * (high / low) ** (i / (POINTS - 1)) for i in range(POINTS)]


def write(ladder: Ladder, folder: Path) -> list[Path]:
    """Write `loss.png` and `isoflop.png`; return their paths. Raises MissingExtraError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing PNG pictures", "train") from error
    law = ladder.fit.law
    pictures = {
        "loss.png": (curves(ladder, law), "operations", f"Loss against compute: {ladder.name}"),
        "isoflop.png": (
            isoflops(ladder, law),
            "weights",
            f"Loss against size at equal compute: {ladder.name}",
        ),
    }
    paths = []
    for name, (lines, label, title) in pictures.items():
        figure = Figure(figsize=(9, 5), dpi=100, layout="constrained")
        _draw(figure.subplots(), lines, label, title, ladder)
        paths.append(folder / name)
        _save(figure, paths[-1])
    return paths


def _draw(axes: "Axes", lines: list[Curve], label: str, title: str, ladder: Ladder) -> None:
    for number, curve in enumerate(lines):
        best = not curve.runs and not curve.held_out
        colour = "#222222" if best else COLOURS[number % len(COLOURS)]
        xs, ys = zip(*curve.line, strict=True)
        axes.plot(xs, ys, color=colour, linewidth=1.2, linestyle="--" if best else "-", label=curve.name)
        if curve.runs:
            axes.scatter([x for x, _ in curve.runs], [y for _, y in curve.runs], color=colour, s=26, zorder=3)
        if curve.held_out:
            stars = list(zip(*curve.held_out, strict=True))
            axes.scatter(stars[0], stars[1], color=colour, s=90, marker="*", zorder=4)
    run = ladder.held_out
    if run is not None and ladder.foretold is not None:
        middle, low, high = ladder.foretold
        x = run.flops if label == "operations" else run.weights
        axes.errorbar(
            [x], [middle], [[middle - low], [high - middle]], color="#222222", fmt="_", capsize=4,
            markersize=12, label="foretold (95 %) for the\nheld-out run (star)",
        )  # fmt: skip
    shown = [value for curve in lines for _, value in [*curve.runs, *curve.held_out]]
    shown += ladder.foretold[1:] if ladder.foretold is not None else ()
    room = 0.08 * (max(shown) - min(shown) + 1e-9)
    axes.set(xscale="log", xlabel=label, ylabel="bits per byte", title=title)
    axes.set_ylim(min(shown) - room, max(shown) + 2 * room)
    axes.grid(True, which="both", color="#eeeeee")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _save(figure: "Figure", path: Path) -> None:
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
