"""Runs that others published, as `twofold plan` would have planned them, and how far off it is.

Each figure has an error that is promised; docs/measure.md shows the table and a test holds it. The promise
is wider where the published figure holds more than the plan: several stages of training, restarts, another
price. The usual share of the peak was chosen with nanochat's and Llama 3's in view, so those two say least.
"""

from dataclasses import dataclass

from twofold.measure import budget, hardware
from twofold.measure.budget import Wish


@dataclass(frozen=True)
class Figure:
    """One published number beside ours. `promised`: the error that is allowed, as a share."""

    run: str
    what: str
    published: float
    planned: float
    promised: float
    source: str

    @property
    def error(self) -> float:
        """How far ours is off, as a share: +0.02 is 2 % too much."""
        return self.planned / self.published - 1


def figures() -> list[Figure]:
    """Return every published figure with ours."""
    law = budget.chinchilla()
    a100, h100 = hardware.packaged("a100-80gb"), hardware.packaged("h100")
    talk = budget.answer(Wish(weights=70e9, tokens=2e12, devices=6000), a100, law)
    found = [
        Figure("the talk's 70B, 2T tokens, 6,000 A100s", "days", 12, talk.days, 0.10, TALK),
        Figure("", "dollars", 2e6, talk.dollars, 0.30, TALK),
    ]
    for name, weights, hours in (
        ("7B", 6.74e9, 184_320),
        ("13B", 13.0e9, 368_640),
        ("70B", 69.0e9, 1_720_320),
    ):
        run = budget.answer(Wish(weights=weights, tokens=2e12, devices=2000), a100, law)
        found.append(
            Figure(f"Llama 2 {name}, 2T tokens", "A100 hours", hours, run.device_hours, 0.20, LLAMA2)
        )
    wish = Wish(weights=405e9, tokens=15.6e12, devices=16384, context=8192)
    run = budget.answer(wish, h100, law)
    found += [
        Figure("Llama 3 405B, 15.6T tokens, 16,384 H100s", "operations", 3.8e25, run.flops, 0.02, LLAMA3),
        Figure("", "share of the peak", 0.41, run.utilisation, 0.08, LLAMA3),
        Figure("", "H100 hours, all stages", 30.84e6, run.device_hours, 0.20, CARD),
    ]
    run = budget.answer(Wish(flops=4.33e19, devices=8, context=2048), h100, law)
    found += [
        Figure("nanochat d24, GPT-2 grade, 8 H100s", "hours", 3.04, run.days * 24, 0.10, NANOCHAT),
        Figure("", "dollars", 73, run.dollars, 0.10, NANOCHAT),
    ]
    run = budget.answer(Wish(weights=175e9, tokens=300e9), h100, law)
    found.append(Figure("GPT-3 175B, 300B tokens", "operations", 3.14e23, run.flops, 0.02, GPT3))
    weights, tokens = law.best(5.76e23)
    found += [
        Figure("Chinchilla: best for 5.76e23 operations", "weights", 70e9, weights, 0.10, HOFFMANN),
        Figure("", "tokens", 1.4e12, tokens, 0.10, HOFFMANN),
    ]
    return found


TALK = "Karpathy 2023, Intro to Large Language Models"
LLAMA2 = "arXiv:2307.09288, table 2"
LLAMA3 = "arXiv:2407.21783, sections 3.2 and 3.3, table 4"
CARD = "model card of Llama 3.1"
NANOCHAT = "nanochat, dev/LEADERBOARD.md, run 1: 4.33e19 operations in 10,949 s"
GPT3 = "arXiv:2005.14165, table D.1"
HOFFMANN = "arXiv:2203.15556, table 4 (Gopher's budget)"


def table() -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| run | figure | published | planned | error | promised | source |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for one in figures():
        cells = [one.run, one.what, _spell(one.published), _spell(one.planned), f"{100 * one.error:+.0f} %"]
        lines.append("| " + " | ".join([*cells, f"{100 * one.promised:.0f} %", one.source]) + " |")
    return "\n".join(lines)


def _spell(number: float) -> str:
    return f"{number:.3g}" if number >= 1e9 else f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
