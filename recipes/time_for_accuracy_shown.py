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
    """Return, for each way of a task, the cells of each budget: a list of the seeds'."""
    found: dict[str, dict[int, list[Cell]]] = {}
    for cell in cells:
        if cell["task"] == task:
            found.setdefault(cell["way"], {}).setdefault(cell["budget"], []).append(cell)
    return {way: [budgets[b] for b in sorted(budgets)] for way, budgets in found.items()}


def pooled(seeds: list[Cell]) -> tuple[float, float, float]:
    """Return the mean reward over all seeds' problems and its 95 % bootstrap interval, in percent."""
    rewards = [reward for cell in seeds for reward in cell["rewards"]]
    low, high = bootstrap(rewards)
    return 100 * float(np.mean(rewards)), 100 * low, 100 * high


def rises(curve: list[list[Cell]]) -> bool:
    """Return whether no budget does worse than a smaller one by more than the interval of that one."""
    points = [pooled(seeds) for seeds in curve]
    return all(later[0] >= low for n, (_, low, _) in enumerate(points) for later in points[n + 1 :])


def table(task: str, cells: list[Cell]) -> str:
    """Return a task's table as Markdown: a row a budget, a column a way."""
    found = ways(task, cells)
    columns = [way for way in found if way != GREEDY]
    greedy = found[GREEDY][0]
    seeds, problems = len(greedy), len(greedy[0]["rewards"])
    mean, low, high = pooled(greedy)
    lines = [
        f"**{task}**: {seeds} seed{'s' if seeds > 1 else ''}, {problems} unseen problems each. "
        f"The likeliest answer alone: {mean:.1f} % ({low:.1f} to {high:.1f}).",
        "",
        f"| budget, tokens | {' | '.join(columns)} | ms an answer | seeds, first column |",
        "|--:|" + "--:|" * len(columns) + "--:|---|",
    ]
    for n, first in enumerate(found[columns[0]]):
        shown = [pooled(found[way][n]) for way in columns]
        texts = [f"{m:.1f} % ({a:.1f} to {b:.1f})" for m, a, b in shown]
        ms = 1000 * float(np.mean([cell["seconds"] for cell in first]))
        each = " ".join(f"{100 * float(np.mean(cell['rewards'])):.0f}" for cell in first)
        lines.append(f"| {first[0]['budget']:,} | {' | '.join(texts)} | {ms:.1f} | {each} |")
    words = "rises with every doubling, within the intervals" if rises(found[columns[0]]) else "does not rise"
    return "\n".join([*lines, "", f"The first column {words}.", ""])


def plot(tasks: list[str], cells: list[Cell], path: Path) -> None:
    """Draw reward on unseen problems against the budget: a picture a task, a line a way."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(tasks), 4.4), dpi=150, layout="constrained")
    for axes, task in zip(np.atleast_1d(figure.subplots(1, len(tasks))), tasks, strict=True):
        found = ways(task, cells)
        mean, low, high = pooled(found[GREEDY][0])
        axes.axhspan(low, high, color="#cbd5e0", alpha=0.6, lw=0)
        axes.axhline(mean, color="#4a5568", lw=1, label="the likeliest answer alone")
        ticks: list[tuple[int, str]] = []
        for colour, (way, curve) in zip(
            COLOURS, ((w, c) for w, c in found.items() if w != GREEDY), strict=False
        ):
            budgets = [seeds[0]["budget"] for seeds in curve]
            points = np.array([pooled(seeds) for seeds in curve])
            axes.plot(budgets, points[:, 0], color=colour, lw=1.6, marker="o", ms=3.5, label=way)
            axes.fill_between(budgets, points[:, 1], points[:, 2], color=colour, alpha=0.13, lw=0)
            ms = [1000 * float(np.mean([cell["seconds"] for cell in seeds])) for seeds in curve]
            ticks = ticks or [(b, f"{b:,}\n{m:.0f} ms") for b, m in zip(budgets, ms, strict=True)]
        axes.set_xscale("log", base=2)
        axes.set_xticks([b for b, _ in ticks], [text for _, text in ticks], fontsize=8)
        axes.minorticks_off()
        problems = len(found[GREEDY][0][0]["rewards"])
        title = f"{task}: {len(found[GREEDY][0])} seeds × {problems} unseen problems, 95 % intervals"
        axes.set_title(title, fontsize=10)
        axes.set(xlabel="budget of an answer, tokens (and what it took)", ylim=(0, 100))
        axes.set_ylabel("reward, %")
        axes.legend(loc="best", frameon=False, fontsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")
