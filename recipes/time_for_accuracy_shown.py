"""The tables and the curves of time_for_accuracy.py."""

from pathlib import Path
from typing import Any

import numpy as np

from twofold.base.files import atomic_write
from twofold.measure.attempts import bootstrap

GREEDY = "greedy"
COLOURS = ("#c05621", "#2b6cb0", "#2f855a", "#6b46c1")
Cell = dict[str, Any]


def ways(task: str, cells: list[Cell]) -> dict[str, list[list[Cell]]]:
    """Return, for each way of a task, the cells of each budget, over all seeds and parts of the problems."""
    found: dict[str, dict[int, list[Cell]]] = {}
    for cell in cells:
        if cell["task"] == task:
            found.setdefault(cell["way"], {}).setdefault(cell["budget"], []).append(cell)
    return {way: [budgets[b] for b in sorted(budgets)] for way, budgets in found.items()}


def pooled(cells: list[Cell]) -> tuple[float, float, float]:
    """Return the mean reward over all problems of all seeds and its 95 % bootstrap interval, in percent."""
    rewards = [reward for cell in cells for reward in cell["rewards"]]
    low, high = bootstrap(rewards)
    return 100 * float(np.mean(rewards)), 100 * low, 100 * high


def seconds(cells: list[Cell]) -> float:
    """Return what an answer took on average."""
    return float(sum(cell["seconds"] for cell in cells) / sum(cell["answers"] for cell in cells))


def by_seed(cells: list[Cell]) -> list[list[Cell]]:
    """Return the cells of each seed."""
    return [[cell for cell in cells if cell["seed"] == seed] for seed in sorted({c["seed"] for c in cells})]


def size(cells: list[Cell]) -> str:
    """Return how many seeds and problems there are, in words."""
    seeds = by_seed(cells)
    problems = sum(len(cell["rewards"]) for cell in seeds[0])
    return f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} × {problems} unseen problems"


def rises(curve: list[list[Cell]]) -> bool:
    """Return whether no budget does worse than a smaller one by more than the interval of that one."""
    points = [pooled(cells) for cells in curve]
    return all(later[0] >= low for n, (_, low, _) in enumerate(points) for later in points[n + 1 :])


def table(task: str, cells: list[Cell]) -> str:
    """Return a task's table as Markdown: a row a budget, a column a way."""
    found = ways(task, cells)
    columns = [way for way in found if way != GREEDY]
    mean, low, high = pooled(found[GREEDY][0])
    lines = [
        f"**{task}**: {size(found[GREEDY][0])}. "
        f"The likeliest answer alone: {mean:.1f} % ({low:.1f} to {high:.1f}).",
        "",
        f"| budget, tokens | {' | '.join(columns)} | ms an answer, first column | its seeds |",
        "|--:|" + "--:|" * len(columns) + "--:|---|",
    ]
    for n, first in enumerate(found[columns[0]]):
        shown = [pooled(found[way][n]) for way in columns]
        texts = [f"{m:.1f} % ({a:.1f} to {b:.1f})" for m, a, b in shown]
        ms = 1000 * seconds(first)
        each = " ".join(f"{pooled(cells)[0]:.0f}" for cells in by_seed(first))
        lines.append(f"| {first[0]['budget']:,} | {' | '.join(texts)} | {ms:.1f} | {each} |")
    words = "rises with every doubling, within the intervals" if rises(found[columns[0]]) else "does not rise"
    return "\n".join([*lines, "", f"The first column {words}.", ""])


def plot(tasks: list[str], cells: list[Cell], path: Path) -> None:
    """Draw reward on unseen problems against the budget: a picture a task, a line a way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * len(tasks), 4.4), dpi=150, layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        _panel(axes, task, ways(task, cells))
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def _panel(axes: Any, task: str, found: dict[str, list[list[Cell]]]) -> None:
    """Draw a task: the first way with its seeds as thin lines, the others, and the likeliest answer alone."""
    (alone,) = found[GREEDY]
    mean, low, high = pooled(alone)
    axes.axhspan(low, high, color="#cbd5e0", alpha=0.6, lw=0)
    axes.axhline(mean, color="#4a5568", lw=1, label="the likeliest answer alone")
    shown = {way: curve for way, curve in found.items() if way != GREEDY}
    for colour, (way, curve) in zip(COLOURS, shown.items(), strict=False):
        budgets = [cells[0]["budget"] for cells in curve]
        points = np.array([pooled(cells) for cells in curve])
        axes.plot(budgets, points[:, 0], color=colour, lw=1.6, marker="o", ms=3.5, label=way)
        axes.fill_between(budgets, points[:, 1], points[:, 2], color=colour, alpha=0.13, lw=0)
    first = next(iter(shown.values()))
    budgets = [cells[0]["budget"] for cells in first]
    for number in range(len(by_seed(first[0]))):
        line = [pooled(by_seed(cells)[number])[0] for cells in first]
        axes.plot(budgets, line, color=COLOURS[0], lw=0.6, alpha=0.6)
    axes.set_xscale("log", base=2)
    took = [f"{b:,}\n{1000 * seconds(cells):.0f} ms" for b, cells in zip(budgets, first, strict=True)]
    axes.set_xticks(budgets, took, fontsize=8)
    axes.minorticks_off()
    axes.set_title(f"{task}: {size(alone)}", fontsize=10)
    axes.set(xlabel="budget of an answer in tokens, and what it took", ylabel="reward, %", ylim=(0, 100))
    axes.legend(loc="best", frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
