"""Win rates: how often one model's answers are worth more than another's, and how often at equal length.

Judges like long answers (or short ones), so a model can win by length alone. A logistic regression of every
comparison on the difference of lengths says what would be left if there were none (length-controlled win
rate; Dubois et al. 2024, arXiv:2404.04475, here without their term for the difficulty of a prompt). Intervals
are bootstraps over prompts, for 95 %.

Not covered: more than two models.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 300


@dataclass(frozen=True)
class Wins:
    """Shares with low and high ends, and the mean lengths of answers in tokens, after and before."""

    prompts: int
    rate: float
    low: float
    high: float
    equal_length: float
    equal_length_low: float
    equal_length_high: float
    tokens_after: float
    tokens_before: float

    def record(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        return asdict(self)

    def spell(self) -> str:
        """Return the figures in a sentence."""
        return (
            f"{100 * self.rate:.1f} % ({100 * self.low:.1f} to {100 * self.high:.1f}) of comparisons won, at "
            f"equal length {100 * self.equal_length:.1f} % ({100 * self.equal_length_low:.1f} to "
            f"{100 * self.equal_length_high:.1f}); {self.tokens_before:.0f} → {self.tokens_after:.0f} tokens "
            "an answer"
        )


def wins(after_PN: Floats, before_PN: Floats, tokens_after_PN: Floats, tokens_before_PN: Floats) -> Wins:
    """Return how often an answer after is worth more than one before, ties half.

    By prompt, rewards and lengths of answers; every answer meets every other to the same prompt.
    """
    first, second = after_PN[:, :, None], before_PN[:, None, :]
    won_PC = ((first > second) + 0.5 * (first == second)).reshape(len(after_PN), -1)
    longer_PC = (tokens_after_PN[:, :, None] - tokens_before_PN[:, None, :]).reshape(len(after_PN), -1)
    chance = np.random.default_rng(0)
    drawn = chance.integers(0, len(won_PC), (RESAMPLES, len(won_PC)))
    plain = [won_PC[some].mean() for some in drawn]
    equal = [at_equal_length(won_PC[some], longer_PC[some]) for some in drawn]
    low, high = np.quantile(plain, (0.025, 0.975))
    equal_low, equal_high = np.quantile(equal, (0.025, 0.975))
    return Wins(
        len(won_PC), float(won_PC.mean()), float(low), float(high), at_equal_length(won_PC, longer_PC),
        float(equal_low), float(equal_high), float(tokens_after_PN.mean()), float(tokens_before_PN.mean()),
    )  # fmt: skip


def at_equal_length(won: Floats, longer: Floats) -> float:
    """Return the share of comparisons that would be won if both answers were equally long.

    σ of the intercept of a logistic regression on the difference of lengths, with a standard normal prior on
    both numbers, which keeps them finite.
    """
    y = won.ravel()
    scale = float(np.sqrt((longer**2).mean())) or 1.0
    x = np.stack([np.ones_like(y), longer.ravel() / scale], 1)
    beta = np.zeros(2)
    for _ in range(30):  # Newton's method
        p = 1 / (1 + np.exp(-(x @ beta)))
        gradient = x.T @ (y - p) - beta
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        beta += np.clip(step, -1, 1)
        if float(np.abs(step).max()) < 1e-10:
            break
    return float(1 / (1 + np.exp(-beta[0])))
