"""How much of this machine's matrix speed training uses: whole steps against products, in turns.

    python benchmarks/utilisation.py [--depths 5 6 8] [--rounds 3] [--tokens 32768]

Models of the dial's shapes (depth 5, 6, 8: about 9, 17 and 34 million parameters), with as many tokens per
step as the dial gives a run of 20 tokens per weight, in the micro-batches that the planner takes; with eager
and with compiled blocks. The steps are those of a real run (`twofold.train.loop.Run`): batch, forward,
backward, update, log, and saving in the background. After each step the peak is measured: bfloat16 products
of 1,024 and 2,048 rows and columns for half a second, the fastest counts. A step is compared with the two
measurements around it, and the median over the steps is printed.

Operations are the model's own: 6 per weight in a product and token, and attention's where causality leaves
them. Looking up embeddings, norms, softmax, and the whole of the optimiser count nothing, though all of them
take time. The text is random numbers; the speed does not depend on what is read.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import machine
import numpy as np
import torch
from pairs import figure, table
from shakespeare_twofold import bytes_only

from twofold.parameters import ModelConfig
from twofold.train import dial, planning
from twofold.train.data import Windows
from twofold.train.display import Screen
from twofold.train.evaluation import HeldOut
from twofold.train.guard import GuardConfig
from twofold.train.keeper import Rule
from twofold.train.loop import Run
from twofold.train.machine import Machine, micro_rows
from twofold.train.optimiser import OptimizerConfig
from twofold.train.schedule import ScheduleConfig
from twofold.train.step import StepPlan, flops_per_token, set_up
from twofold.train.transformer import Transformer

PEAK_S = 0.25  # for each size of product
NEVER = 10**9
KINDS = ["eager", "compiled"]
HEADER = [
    "parameters",
    "in products",
    "blocks",
    "tokens per step",
    "seconds per step",
    "of it update",
    "tokens/s",
    "GFLOP/s",
    "peak, GFLOP/s",
    "utilisation",
]


@dataclasses.dataclass(frozen=True)
class Watched:
    """Whole steps: their seconds and those of their updates; `peaks` [steps + 1] before, between, after."""

    step_s: list[float]
    update_s: list[float]
    peaks: list[float]

    def utilisation(self, flops: float) -> float:
        """Return the median share of the peak around it that a step of `flops` operations reached."""
        around = zip(self.peaks, self.peaks[1:], strict=False)
        shares = [
            2 * flops / s / (before + after) for s, (before, after) in zip(self.step_s, around, strict=True)
        ]
        return statistics.median(shares)


class Watch(Screen):
    """Shows nothing, and measures the peak after each step; the time between two such stops is a step's."""

    def __init__(self, peak: Callable[[], float]) -> None:
        super().__init__(None)
        self._peak, self._since = peak, time.perf_counter()
        self.step_s: list[float] = []
        self.peaks: list[float] = []

    def step(self, run: Run, loss_nats: float, tokens: int, seconds: float) -> None:
        """Note the time since the last call returned, and the peak."""
        self.step_s.append(time.perf_counter() - self._since)
        self.peaks.append(self._peak())
        self._since = time.perf_counter()


def peak_flops() -> float:
    """Return the operations per second of the fastest large bfloat16 product."""
    best = 0.0
    for size in (1024, 2048):
        a = torch.ones(size, size, dtype=torch.bfloat16)
        until = time.perf_counter() + PEAK_S
        while time.perf_counter() < until:
            began = time.perf_counter()
            a @ a
            best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def shape(depth: int) -> ModelConfig:
    """Return the dial's model of a depth, for as much text as one wants."""
    return dial.shape(dial.ShapeConfig(), depth, dial.vocab_for(depth, 1e12))


def rows(config: ModelConfig, tokens: int | None) -> int:
    """Return the rows of a step: of `tokens`, or what the dial gives a run of 20 tokens per weight."""
    if tokens is not None:
        return max(1, tokens // config.context)
    return dial.batch_for(dial.tokens_for(config, None, float("inf")), config.context)


def step_plan(config: ModelConfig, count: int, threads: int, steps: int) -> StepPlan:
    """Return the plan of `steps` steps of `count` rows; there is no evaluation between them."""
    micro = micro_rows(Machine("cpu", "bfloat16", threads, 0.0), count, config.context)
    rates = planning.rates(OptimizerConfig(), config.width, 20.0 * dial.weights(config))
    return StepPlan(
        steps=steps, rows=count, micro_rows=micro, context=config.context, seed=0, device="cpu",
        compute="bfloat16", threads=threads, peak_flops=1.0, budget_s=None, most_steps=steps,
        eval_every=NEVER, sample_every=0, layout="copies", saving=Rule(), guard=GuardConfig(),
        optimizer=OptimizerConfig(**rates), schedule=ScheduleConfig(),
    )  # fmt: skip


def watched(config: ModelConfig, plan: StepPlan, folder: Path, *, compiled: bool) -> Watched:
    """Return the times of the steps of a run in `folder`, without the first, in which things are built."""
    net = Transformer(config, compute=set_up(plan))
    net.initialise(0)
    if compiled:
        net.compile_blocks()
    tokenizer = bytes_only().padded(config.vocab_size)
    separator = tokenizer.special_id("<|endoftext|>")
    draw = np.random.default_rng(0)
    text = draw.integers(0, config.vocab_size, 64 * plan.rows * config.context).astype(np.uint16)
    text[::400] = separator
    data = Windows(text, context=config.context, rows=plan.rows, separator=separator, seed=0)
    held_out = HeldOut(text, None, tokenizer, context=config.context, max_tokens=config.context + 1)
    watch = Watch(peak_flops)
    run = Run(net, data, held_out, tokenizer, plan, folder, watch, prompts=[])
    update, update_s = run.optimiser.step, list[float]()

    def timed_update(scale: float) -> float:
        began = time.perf_counter()
        norm = update(scale)
        update_s.append(time.perf_counter() - began)
        return norm

    run.optimiser.step = timed_update  # type: ignore[method-assign]
    run.go()
    return Watched(watch.step_s[1:], update_s[1:], watch.peaks)


def cells(config: ModelConfig, tokens: int, found: Watched, *, compiled: bool) -> list[str]:
    """Return the table's row of a model."""
    step_s, flops = statistics.median(found.step_s), flops_per_token(config) * tokens
    return [
        f"{config.parameters / 1e6:.1f}M",
        f"{dial.weights(config) / 1e6:.1f}M",
        "compiled" if compiled else "eager",
        f"{tokens:,}",
        f"{step_s:.2f}",
        f"{100 * statistics.median(found.update_s) / step_s:.1f} %",
        f"{tokens / step_s:,.0f}",
        figure(flops / step_s / 1e9),
        figure(statistics.median(found.peaks) / 1e9),
        f"{100 * found.utilisation(flops):.1f} %",
    ]


def measure(options: argparse.Namespace) -> Sequence[list[str]]:
    """Return the table's rows, one after the other, each said as it comes."""
    lines = []
    for depth in options.depths:
        config = shape(depth)
        count = rows(config, options.tokens)
        plan = step_plan(config, count, options.threads, options.rounds + 1)
        for kind in options.blocks:
            compiled = kind == "compiled"
            with tempfile.TemporaryDirectory(prefix="twofold-utilisation-") as folder:
                found = watched(config, plan, Path(folder), compiled=compiled)
            lines.append(cells(config, count * config.context, found, compiled=compiled))
            print(" | ".join(lines[-1]), flush=True)
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depths", type=int, nargs="+", default=[5, 6, 8])
    parser.add_argument("--rounds", type=int, default=3, help="steps that count (default %(default)s)")
    parser.add_argument("--tokens", type=int, help="tokens per step (default: what the dial gives)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="default: all cores")
    parser.add_argument("--blocks", nargs="+", choices=KINDS, default=KINDS, help="default: both")
    options = parser.parse_args()
    print(f"machine: {machine.describe()}", flush=True)
    print("\n" + table(HEADER, measure(options)))


if __name__ == "__main__":
    main()
