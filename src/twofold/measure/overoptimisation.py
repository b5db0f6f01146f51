"""Over-optimisation: how much of what a proxy promises is real, as a policy moves away from where it began.

Whoever climbs a learned reward ends by finding its mistakes: the true ("gold") reward first rises, then falls
(Gao et al. 2022, arXiv:2210.10760). So gold reward is drawn against the distance from the starting model, the
KL divergence in nats, for two ways of climbing:

- best of n: from the starting model n answers, the proxy's favourite. Its distance is ln n − (n − 1)/n
  (Stiennon et al. 2020, arXiv:2009.01325, appendix G.3). All n up to N are estimated from the same N answers:
  the answer ranked i-th by the proxy is the best of n drawn ones with probability C(i, n−1)/C(N, n)
  (Nakano et al. 2021, arXiv:2112.09332, appendix I);
- training, along the run. Its distance is measured on answers that the policy itself wrote: at each token the
  divergence of the two whole distributions, summed over the answer. That is unbiased, and far less noisy than
  the difference of log-probabilities of the tokens that happened to be drawn.

The gold reward is the checker of a task (twofold/environments), or a judge that the run does not learn from.
All of it goes through the run engine. Not covered: gold rewards that people give.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twofold.environments import Episode, Problem
from twofold.measure.attempts import Attempt, Prompts, Z, play
from twofold.measure.judge import Judge
from twofold.tokens.pair import Pair

if TYPE_CHECKING:
    from twofold.run import Engine

Floats = NDArray[np.float64]
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Point:
    """A policy: its distance in nats, its gold reward, and half the 95 % interval of that."""

    kl_nats: float
    reward: float
    error: float
    name: str


@dataclass(frozen=True)
class Curve:
    """Points in the order in which the climb went."""

    name: str
    points: list[Point]

    @property
    def turn(self) -> int:
        """The index of the point with the highest gold reward."""
        rewards = [point.reward for point in self.points]
        return rewards.index(max(rewards))


class _Asked:
    """The prompts of pairs as a task, whose single answers are judged later, all at once."""

    def __init__(self, answer_tokens: int) -> None:
        self.ANSWER_TOKENS = answer_tokens

    def begin(self, problem: Problem, seed: int = 0) -> Episode:
        """Return an attempt that ends with the first answer."""
        episode = Episode(problem, lambda *_: 0.0)
        episode.messages = list(problem.facts["messages"])
        return episode


@dataclass(frozen=True)
class Gold:
    """What policies are asked, and what their answers are truly worth.

    `judge` None: the task's own checker. `max_tokens` None: as long as the task says.
    """

    name: str
    task: Any
    problems: Sequence[Problem]
    judge: Judge | None = None
    max_tokens: int | None = None
    watch: Watch | None = field(default=None, compare=False)

    def attempts(self, engine: "Engine", *, seed: int, each: int = 1) -> list[Attempt]:
        """Return `each` attempts at every problem, side by side, drawn at temperature 1."""
        repeated = [problem for problem in self.problems for _ in range(each)]
        return play(self.task, repeated, engine, seed=seed, max_tokens=self.max_tokens, watch=self.watch)

    def rewards(self, attempts: Sequence[Attempt]) -> Floats:
        """Return what each attempt is worth; one without an answer is worth 0."""
        if self.judge is None:
            return np.array([one.reward for one in attempts])
        return judged(self.judge, attempts)


def of_pairs(name: str, pairs: Sequence[Pair], judge: Judge, *, most: int, max_tokens: int) -> Gold:
    """Return the gold reward on the prompts of pairs, at most `most` of them, by a judge."""
    problems: dict[str, Problem] = {}
    for pair in pairs:
        key = json.dumps(pair.messages, sort_keys=True)
        facts = {"messages": pair.messages}
        problems.setdefault(key, Problem(str(pair.messages[-1]["content"]), key, facts, pair.tools or []))
    return Gold(name, _Asked(max_tokens), list(problems.values())[:most], judge, max_tokens)


def judged(judge: Judge, attempts: Sequence[Attempt]) -> Floats:
    """Return a judge's rewards of the last answers of attempts."""
    found = np.zeros(len(attempts))
    done = [n for n, one in enumerate(attempts) if one.turns]
    asked = []
    for n in done:
        messages = attempts[n].episode.messages
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        asked.append((messages[:last], str(messages[last]["content"])))
    found[done] = judge.rewards(asked)
    return found


# ---- distance


def divergence(attempts: Sequence[Attempt], policy: "Engine", reference: "Engine") -> Floats:
    """Return KL(policy ‖ reference) along each attempt's answers, in nats, from whole distributions."""
    return np.array([sum(_of_turn(t.prompt, t.answer.ids, policy, reference) for t in a.turns)
                     for a in attempts], float)  # fmt: skip


def _of_turn(prompt: Sequence[int], answer: Sequence[int], policy: "Engine", reference: "Engine") -> float:
    fed = [*prompt, *answer][:-1]
    places = np.arange(len(fed))
    wanted = places >= len(prompt) - 1
    both = [_log_p(one.forward(fed, np.zeros(len(fed)), places, wanted)) for one in (policy, reference)]
    return float((np.exp(both[0]) * (both[0] - both[1])).sum())


def log_ratios(attempts: Sequence[Attempt], policy: "Engine", reference: "Engine") -> Floats:
    """Return ln(policy/reference) of each attempt's answers: what DPO calls the implicit reward, over β."""
    from twofold.measure.likelihood import Scorer

    turns = [(n, (turn.prompt, turn.answer.ids)) for n, one in enumerate(attempts) for turn in one.turns]
    texts = [text for _, text in turns]
    found = np.zeros(len(attempts))
    for engine, sign in ((policy, 1.0), (reference, -1.0)):
        for (n, _), one in zip(turns, Scorer(engine).of_tokens(texts), strict=True):
            found[n] += sign * one.ln_p
    return found


def _log_p(logits_AV: NDArray[np.float32]) -> Floats:
    shifted: Floats = logits_AV.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    out: Floats = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return out


# ---- curves


def best_of_distance(n: int) -> float:
    """Return the KL divergence of the best of n from the model that wrote them, in nats."""
    return math.log(n) - (n - 1) / n


def best_of_curve(name: str, proxy_PN: Floats, gold_PN: Floats) -> Curve:
    """Return gold reward of the proxy's best of n, less that of any answer, for n = 1, 2, 4, … up to N."""
    most = proxy_PN.shape[1]
    order = np.argsort(proxy_PN, axis=1, kind="stable")
    sorted_PN = np.take_along_axis(gold_PN, order, axis=1)
    base_P = gold_PN.mean(1)
    points = []
    n = 1
    while n <= most:
        weights_N = np.array([math.comb(rank, n - 1) / math.comb(most, n) for rank in range(most)])
        gained_P = sorted_PN @ weights_N - base_P
        points.append(Point(best_of_distance(n), float(gained_P.mean()), half_interval(gained_P), f"n={n}"))
        n *= 2
    return Curve(name, points)


def half_interval(values: Sequence[float] | Floats) -> float:
    """Return half the 95 % interval of a mean; 0 for a single value, which tells nothing."""
    if len(values) < 2:
        return 0.0
    return float(Z * np.std(values, ddof=1) / math.sqrt(len(values)))


# ---- pictures


def write_png(curves: Sequence[Curve], gold: str, path: Any) -> None:
    """Draw gold reward against KL, which is spaced by its root as in Gao et al. Raises MissingExtraError."""
    from twofold.base.errors import MissingExtraError
    from twofold.base.files import atomic_write

    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Drawing PNG pictures", "train") from error
    figure = Figure(figsize=(8, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for curve, colour in zip(curves, ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1"), strict=False):
        xs, ys = ([getattr(point, name) for point in curve.points] for name in ("kl_nats", "reward"))
        errors = [point.error for point in curve.points]
        axes.errorbar(xs, ys, errors, color=colour, marker="o", ms=4, lw=1.4, capsize=2, label=curve.name)
        top = curve.points[curve.turn]
        axes.scatter([top.kl_nats], [top.reward], s=130, facecolors="none", edgecolors=colour, zorder=4)
    axes.axhline(0, color="#718096", lw=0.8)
    axes.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    axes.set_xlim(left=0)
    axes.set(
        xlabel="KL from the starting model, nats (spaced by its root)", ylabel=f"gold reward gained: {gold}"
    )
    axes.set_title("Over-optimisation; a ring marks where gold reward is highest", fontsize=10)
    axes.grid(True, color="#eeeeee")
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=9)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")


def fits(problems: Sequence[Problem], engine: "Engine", room: int) -> list[Problem]:
    """Return the problems whose prompts leave `room` tokens of the engine's window for an answer."""
    prompts = Prompts(engine.tokenizer)

    def length(problem: Problem) -> int:
        episode = Episode(problem)
        episode.messages = list(problem.facts.get("messages", episode.messages))
        return len(prompts.ids(episode))

    return [problem for problem in problems if length(problem) + room <= engine.context]
