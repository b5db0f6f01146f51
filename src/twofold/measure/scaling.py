"""The scaling law L(N, D) = E + A/N^α + B/D^β: what a model of N weights is worth after D tokens.

E is what no model can guess, A/N^α what N weights are too few for, B/D^β what D tokens were too few to teach.
Fitted as in Hoffmann et al. 2022 (arXiv:2203.15556, approach 3, appendix D.3): the five numbers that make the
sum of Huber losses (δ = 0.001) of log L̂ − log L least, from many starts. Sum, not mean: a mean looks
converged to an optimiser long before it is, which is what bent the published numbers (Besiroglu et al. 2024,
arXiv:2404.10102). How sure they are is told by fitting again to runs drawn with replacement (bootstrap).

Arrays are batches of fits: S fits at a time, over M runs that have weights of their own in each. Five
unknowns allow the whole matrix of curvature that L-BFGS only approximates (BFGS; Nocedal and Wright 2006,
section 6.1).

Not covered: repeated text (`effective_tokens` estimates what it is worth), other forms of the law.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from twofold.base.errors import BadFileError, UsageError

Array = npt.NDArray[np.float64]

DELTA = 1e-3  # of the Huber loss: beyond a thousandth a run counts by its distance, not the square of it
STARTS = {  # the published grid; a, b, e are logarithms of A, B, E
    "a": (0, 5, 10, 15, 20, 25),
    "b": (0, 5, 10, 15, 20, 25),
    "e": (-1, -0.5, 0, 0.5, 1),
    "alpha": (0, 0.5, 1, 1.5, 2),
    "beta": (0, 0.5, 1, 1.5, 2),
}
SCREENED, KEPT = 25, 40  # steps that all starts get; how many of the best go on
MOST_STEPS = 400
LEAST_RUNS = 6
FORGETTING = 15.4  # epochs after which more of the same text is worth little (arXiv:2305.16264, section 5)


@dataclass(frozen=True)
class Law:
    """E + A/N^alpha + B/D^beta. The unit of E, A and B is that of the losses, of B also that of D."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    def loss(self, weights: float, tokens: float) -> float:
        """Return the loss of a model with so many weights after so many tokens."""
        return self.E + _term(self.A, weights, self.alpha) + _term(self.B, max(tokens, 1.0), self.beta)

    def best(self, flops: float, flops_per_weight_token: float = 6.0) -> tuple[float, float]:
        """Return the weights and tokens that make the loss least for `flops` (ibid., equation 4)."""
        product = flops / flops_per_weight_token
        g = (self.alpha * self.A / (self.beta * self.B)) ** (1 / (self.alpha + self.beta))
        weights = g * product ** (self.beta / (self.alpha + self.beta))
        return weights, product / weights

    def flops_for(self, loss: float, flops_per_weight_token: float = 6.0) -> float:
        """Return the least operations that reach a loss; infinite at or below E."""
        if loss <= self.E:
            return math.inf
        low, high = 0.0, 60.0  # powers of ten
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (
                (middle, high)
                if self.loss(*self.best(10**middle, flops_per_weight_token)) > loss
                else (low, middle)
            )
        return float(10**high) if high < 59 else math.inf


def _term(factor: float, size: float, exponent: float) -> float:
    """Return factor / size^exponent, at most e^300: laws of runs drawn anew can have absurd exponents."""
    return math.exp(min(math.log(factor) - exponent * math.log(size), 300.0)) if factor > 0 else 0.0


@dataclass(frozen=True)
class Fit:
    """A law, the same law fitted to runs drawn anew (`again`), and the runs' residuals, log L̂ − log L."""

    law: Law
    again: tuple[Law, ...]
    residuals: tuple[float, ...]

    def interval(self, name: str, share: float = 0.95) -> tuple[float, float]:
        """Return the bounds that a parameter of the law keeps in `share` of the fits."""
        return _bounds([getattr(law, name) for law in self.again], share)

    def error(self, name: str) -> float:
        """Return the standard error of a parameter: its standard deviation over the fits."""
        return float(np.std([getattr(law, name) for law in self.again]))

    def predict(self, weights: float, tokens: float, share: float = 0.95) -> tuple[float, float, float]:
        """Return the loss of one more run, and the bounds it lies between with probability `share`.

        The bounds hold both what is unsure of the law and how far single runs stray from it.
        """
        middle = self.law.loss(weights, tokens)
        # Five numbers were bent towards the runs, which makes the residuals smaller than those of a new run.
        runs = len(self.residuals)
        wider = math.sqrt(runs / max(1, runs - 5))
        stray = np.exp(wider * np.asarray(self.residuals))
        found = np.outer([law.loss(weights, tokens) for law in self.again or (self.law,)], stray)
        low, high = _bounds(found.ravel(), share)
        return middle, min(low, middle), max(high, middle)

    def record(self) -> dict[str, Any]:
        """Return the fit as plain data for a file; `of_record` reads it back."""
        return {
            "law": asdict(self.law),
            "again": [[law.E, law.A, law.B, law.alpha, law.beta] for law in self.again],
            "residuals": list(self.residuals),
        }


def of_record(record: Any, where: str) -> Fit:
    """Return the fit that `Fit.record` wrote. Raises BadFileError, naming `where`, when it is none."""
    try:
        again = tuple(Law(*map(float, numbers)) for numbers in record["again"])
        law = Law(**{name: float(record["law"][name]) for name in ("E", "A", "B", "alpha", "beta")})
        return Fit(law, again, tuple(map(float, record["residuals"])))
    except (TypeError, ValueError, KeyError) as error:
        raise BadFileError(f"{where} does not hold a fitted scaling law ({error!r}).") from error


def effective_tokens(tokens: float, unique: float) -> float:
    """Return how many new tokens are worth as much as reading `tokens` from a text of `unique` tokens.

    Each time that a text is read again it teaches less (Muennighoff et al. 2023, arXiv:2305.16264, eq. 5).
    """
    if tokens <= unique or unique <= 0:
        return tokens
    repeats = tokens / unique - 1
    return unique * (1 + FORGETTING * -math.expm1(-repeats / FORGETTING))


def fit(
    weights: Sequence[float],
    tokens: Sequence[float],
    losses: Sequence[float],
    *,
    bootstraps: int = 1000,
    seed: int = 0,
) -> Fit:
    """Return the law of these runs, and the laws of `bootstraps` drawings of as many of them.

    Raises UsageError when there are fewer than six runs, or all have the same size or length.
    """
    n, d, y = (np.log(np.asarray(values, float)) for values in (weights, tokens, losses))
    if len(n) < LEAST_RUNS or np.ptp(n) == 0 or np.ptp(d) == 0 or not np.isfinite(n + d + y).all():
        raise UsageError(
            f"A scaling law needs at least {LEAST_RUNS} runs of different sizes and lengths, with finite "
            f"losses; there are {len(n)}."
        )
    problem = _Problem(n, d, y)
    ones = np.ones((1, len(n)))
    points, values = problem.minimise(problem.starts(), ones, SCREENED)
    order = np.argsort(values)[:KEPT]
    points, values = problem.minimise(points[order], ones, MOST_STEPS)
    best = points[int(np.argmin(values))]
    again: list[Law] = []
    if bootstraps:
        drawn = np.random.default_rng(seed).multinomial(len(n), np.full(len(n), 1 / len(n)), bootstraps)
        found, _ = problem.minimise(np.tile(best, (bootstraps, 1)), drawn.astype(float), MOST_STEPS)
        again = [problem.law(point) for point in found]
    return Fit(problem.law(best), tuple(again), tuple((problem.predicted(best[None])[0][0] - y).tolist()))


class _Problem:
    """The runs and the coordinates in which the law is looked for.

    Those are the logarithms of the two terms at the runs' middle, α and β times the spread of log N and
    log D, and log E: a step along one leaves the others nearly alone, unlike one along A alone.
    """

    def __init__(self, n: Array, d: Array, y: Array) -> None:
        self.n_mean, self.d_mean, self.n_spread, self.d_spread = n.mean(), d.mean(), n.std(), d.std()
        self.n, self.d, self.y = (n - self.n_mean) / self.n_spread, (d - self.d_mean) / self.d_spread, y

    def starts(self) -> Array:
        """Return the grid of starts [S, 5]."""
        a, b, e, alpha, beta = np.array(list(itertools.product(*STARTS.values())), float).T
        return np.stack(
            [a - alpha * self.n_mean, alpha * self.n_spread, b - beta * self.d_mean, beta * self.d_spread, e],
            1,
        )

    def law(self, point: Array) -> Law:
        """Return the law at a point [5]."""
        alpha, beta = float(point[1] / self.n_spread), float(point[3] / self.d_spread)
        log_a, log_b = point[0] + alpha * self.n_mean, point[2] + beta * self.d_mean
        return Law(math.exp(point[4]), math.exp(min(log_a, 300)), math.exp(min(log_b, 300)), alpha, beta)

    def predicted(self, points: Array) -> tuple[Array, Array, Array, Array]:
        """Return log L̂ [S, M] and the shares of the three terms in it: of size, of text, of E."""
        size = points[:, 0:1] - points[:, 1:2] * self.n
        text = points[:, 2:3] - points[:, 3:4] * self.d
        rest = np.broadcast_to(points[:, 4:5], size.shape)
        top = np.maximum(np.maximum(size, text), rest)
        terms = np.exp(size - top), np.exp(text - top), np.exp(rest - top)
        total = terms[0] + terms[1] + terms[2]
        return top + np.log(total), terms[0] / total, terms[1] / total, terms[2] / total

    def value(self, points: Array, counts: Array) -> tuple[Array, Array]:
        """Return the sum of Huber losses [S] and its gradient [S, 5]; `counts` [S, M] weighs the runs."""
        log_loss, size, text, rest = self.predicted(points)
        off = log_loss - self.y
        far = np.abs(off) > DELTA
        values = np.where(far, DELTA * (np.abs(off) - DELTA / 2), off * off / 2)
        slope = np.where(far, DELTA * np.sign(off), off) * counts
        parts = (slope * size, -slope * size * self.n, slope * text, -slope * text * self.d, slope * rest)
        return (values * counts).sum(1), np.stack([part.sum(1) for part in parts], 1)

    def minimise(self, points: Array, counts: Array, steps: int) -> tuple[Array, Array]:
        """Return where each of S searches ended [S, 5] and its value there [S]: BFGS, long steps halved."""
        x = points.copy()
        counts = np.broadcast_to(counts, (len(x), counts.shape[1]))
        value, slope = self.value(x, counts)
        inverse = (
            np.tile(np.eye(5), (len(x), 1, 1))
            / np.maximum(np.linalg.norm(slope, axis=1), 1e-12)[:, None, None]
        )
        live = np.arange(len(x))
        for _ in range(steps):
            if not len(live):
                break
            way = -np.einsum("sij,sj->si", inverse[live], slope[live])
            downhill = (way * slope[live]).sum(1)
            astray = downhill >= 0
            way[astray], inverse[live[astray]] = -slope[live[astray]], np.eye(5)
            downhill = (way * slope[live]).sum(1)
            new_x, new_value, new_slope = self._along(x[live], value[live], way, downhill, counts[live])
            _learn(inverse, live, new_x - x[live], new_slope - slope[live])
            gained = value[live] - new_value
            x[live], value[live], slope[live] = new_x, new_value, new_slope
            live = live[gained > 1e-12 * np.maximum(new_value, 1e-12)]
        return x, value

    def _along(
        self, x: Array, value: Array, way: Array, downhill: Array, counts: Array
    ) -> tuple[Array, Array, Array]:
        """Return points on the way, lower by a share of what the slope promises, or where they were."""
        length = np.minimum(1.0, 4.0 / np.maximum(np.abs(way).max(1), 1e-300))  # no leaps out of the world
        new_x, new_value, new_slope = x.copy(), value.copy(), np.zeros_like(x)
        todo = np.arange(len(x))
        for _ in range(30):
            trial = x[todo] + length[todo, None] * way[todo]
            found, slope = self.value(trial, counts[todo])
            fine = found <= value[todo] + 1e-4 * length[todo] * downhill[todo]
            new_x[todo[fine]], new_value[todo[fine]], new_slope[todo[fine]] = (
                trial[fine],
                found[fine],
                slope[fine],
            )
            todo = todo[~fine]
            if not len(todo):
                break
            length[todo] /= 2
        return new_x, new_value, new_slope


def _learn(inverse: Array, live: npt.NDArray[np.intp], moved: Array, turned: Array) -> None:
    """Update the inverse curvature [S, 5, 5] of the live searches by how the gradient turned on the way."""
    along = (moved * turned).sum(1)
    good = along > 1e-300
    which, s, t, rho = live[good], moved[good], turned[good], 1 / along[good]
    left = np.eye(5) - rho[:, None, None] * s[:, :, None] * t[:, None, :]
    inverse[which] = (
        left @ inverse[which] @ left.transpose(0, 2, 1) + rho[:, None, None] * s[:, :, None] * s[:, None]
    )


def _bounds(values: Any, share: float) -> tuple[float, float]:
    low, high = np.quantile(np.asarray(values, float), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
