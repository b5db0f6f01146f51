"""A ladder made up from a law, without training: what the tests of plots, plans and the dial need."""

import math

import numpy as np

from twofold.measure import ladder
from twofold.measure.ladder import Ladder, Rung
from twofold.measure.scaling import Law

TRUTH = Law(E=0.7, A=25.0, B=60.0, alpha=0.28, beta=0.27)
SIZES = ((1, 64, 184_640), (1, 96, 304_544), (2, 96, 412_384), (2, 128, 656_256), (3, 160, 1_204_704),
         (3, 192, 1_685_184))  # fmt: skip


def rung(
    depth: int, width: int, weights: int, flops: float, noise: float = 0.0, held_out: bool = False
) -> Rung:
    """Return a run that loses what the true law says, times 1 + `noise`."""
    tokens = round(flops / 7 / weights)
    loss = TRUTH.loss(weights, 3.0 * tokens) * math.exp(noise)
    return Rung(
        depth=depth, width=width, weights=weights, parameters=weights + 2048 * width, tokens=tokens,
        text_bytes=3.0 * tokens, flops=flops, bits_per_byte=loss,
        train_s=flops / (1e10 * math.sqrt(weights / 1e5)), held_out=held_out,
    )  # fmt: skip


def made(noise: float = 0.002, *, device: str = "a processor", text: tuple[str, ...] = ("abc",)) -> Ladder:
    """Return a fitted ladder of 18 runs and a held-out one."""
    rng = np.random.default_rng(0)
    runs = [
        rung(*size, 1e12 * 2.2 ** (i * 4 // 5 + k), noise * rng.normal())
        for i, size in enumerate(SIZES)
        for k in range(3)
    ]
    runs.append(rung(4, 224, 2_726_368, 1e12 * 2.2**7, noise * rng.normal(), held_out=True))
    return ladder.of_runs(
        runs, bootstraps=100, name="made-up", device=device, compute="bfloat16", vocabulary=2048,
        bytes_per_token=3.0, text=text,
    )  # fmt: skip
