"""Ratings from battles: how strong each player is, given who won against whom.

In a battle two players answer the same prompt and a person says which answer is better. After Bradley and
Terry (1952, doi 10.2307/2334029) player a wins against b with probability σ(s_a − s_b); the strengths s are
those under which the battles are likeliest, a tie being half a win for each. On the scale of Elo, 400 points
are odds of ten to one. Only differences mean anything, so the mean is set to 1000, or one player to it.
Players that never met, not even through others, have no common scale: each group has its own.

Someone who has won every battle would be infinitely strong. Firth's correction (1993, doi
10.1093/biomet/80.1.27) keeps every strength finite and takes out the first-order bias: a battle also counts
as a tie with half its share of the information.

Style control (LMArena's; see `style`) adds to s_a − s_b a weight times each difference of style. Each is
divided by its spread, but not centred: who stands on which side must not matter.

The intervals, for 95 %, come from the information matrix, which ties make smaller: a tie lies at half, so a
battle that may be tied varies less than one that may not. Against simulated players (tests/soak/arena_covers)
they cover at 92.5 to 99 %, from five battles to hundreds, on average 96 %. The bootstrap that LMArena used
covers at 80 to 91 % up to a hundred battles: who won five of five wins five of five in every resample. The
sandwich lies between.

Not covered: opinions that go in a circle, strengths that change, judges who differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.base.names import unknown
from twofold.measure.style import FEATURES

Floats = NDArray[np.float64]

POINTS = 400 / np.log(10)  # Elo points per unit of log odds
CENTRE = 1000.0
_SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5, "bad": 0.5}
VERDICTS = tuple(_SCORES)
_Z = 1.96


@dataclass(frozen=True)
class Battle:
    """Who met, and the verdict: "a" or "b" is better, "tie", or "bad" (both are; it counts as a tie).

    `style`: how much more of each of FEATURES the answer of `a` has (style.difference); needed for style
    control only.
    """

    a: str
    b: str
    verdict: str
    style: tuple[float, ...] = (0.0,) * len(FEATURES)


@dataclass(frozen=True)
class Rating:
    """A player's rating in points, the ends of its interval, and in how many battles it was.

    Ratings of different `group`s cannot be compared.
    """

    name: str
    rating: float
    low: float
    high: float
    battles: int
    wins: int
    ties: int
    group: int


@dataclass(frozen=True)
class StyleWeight:
    """What one spread (standard deviation) more of a feature is worth, in points, with its interval.

    `points` is None where these battles do not tell it from the players or from another feature.
    """

    feature: str
    points: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Table:
    """Ratings, group by group and the best first; the weights of style, if it was controlled for."""

    ratings: list[Rating]
    style: list[StyleWeight]
    battles: int

    @property
    def groups(self) -> list[list[str]]:
        """The names of the players that have a common scale, group by group."""
        found: dict[int, list[str]] = {}
        for rating in self.ratings:
            found.setdefault(rating.group, []).append(rating.name)
        return list(found.values())

    def warning(self) -> str | None:
        """Return a sentence about players that cannot be compared, None when all can."""
        if len(self.groups) < 2:
            return None
        told = "; ".join(", ".join(group) for group in self.groups)
        return f"These groups never met, not even through others, so each has a scale of its own: {told}."


def rate(battles: Sequence[Battle], *, style: bool = False, anchor: str | None = None) -> Table:
    """Return the ratings of all players in the battles. `anchor`: the player that has 1000 points.

    Without an anchor, or in a group that lacks it, the mean of the group is 1000. Raises UsageError for a
    verdict that is none, a player against itself, or an anchor that never fought.
    """
    names = sorted({name for battle in battles for name in (battle.a, battle.b)})
    place = {name: number for number, name in enumerate(names)}
    _check(battles, names, anchor)
    if not battles:
        return Table([], [], 0)
    a = np.array([place[battle.a] for battle in battles])
    b = np.array([place[battle.b] for battle in battles])
    score = np.array([_SCORES[battle.verdict] for battle in battles])
    group = _groups(len(names), a, b)
    players = np.zeros((len(battles), len(names)))
    players[np.arange(len(battles)), a] = 1
    players[np.arange(len(battles)), b] = -1
    kept, covariates = _told_apart(players, battles) if style else ([], np.empty((len(battles), 0)))
    level = _level(group, covariates.shape[1])
    weights, variance = fit(np.hstack([players, covariates]), score, level)
    show = _reference(group, place.get(anchor) if anchor else None, len(weights))
    points = POINTS * show @ weights
    error = _Z * POINTS * np.sqrt(np.maximum(0, np.diag(show @ variance @ show.T)))
    found = []
    for number, name in enumerate(names):
        here, half = CENTRE + points[number], error[number]
        mine = np.concatenate([score[a == number], 1 - score[b == number]])
        counted = len(mine), int((mine == 1).sum()), int((mine == 0.5).sum()), group[number]
        found.append(Rating(name, float(here), float(here - half), float(here + half), *counted))
    return Table(
        sorted(found, key=lambda rating: (rating.group, -rating.rating)),
        _style_weights(kept, points[len(names) :], error[len(names) :]) if style else [],
        len(battles),
    )


def fit(x: Floats, score: Floats, level: Floats) -> tuple[Floats, Floats]:
    """Return the weights [F] under which scores (0, ½ or 1, [N]) of battles x [N, F] are likeliest, and
    their covariance [F, F].

    Firth's corrected likelihood, by Newton's method on the battles with what the correction adds to each, a
    tie of weight `share` (without it the first steps may jump to and fro). `level` [F, F]: the directions
    that no battle can tell anything about, as a projection; along them the weights stay 0.
    """
    weights = np.zeros(x.shape[1])
    for _ in range(100):
        expected = 1 / (1 + np.exp(-(x @ weights)))
        spread = expected * (1 - expected)
        inverse = np.linalg.inv((x * spread[:, None]).T @ x + level)
        share = spread * np.einsum("nf,fg,ng->n", x, inverse, x)  # of each battle in the information
        curvature = (x * (spread * (1 + share))[:, None]).T @ x + level
        step = np.linalg.solve(curvature, x.T @ (score - expected + share * (0.5 - expected)))
        weights += step / max(1.0, float(np.abs(step).max()))
        if float(np.abs(step).max()) < 1e-9:
            break
    return weights, (inverse - level) * _less_by_ties(score, spread)


def _less_by_ties(score: Floats, spread: Floats) -> float:
    """Return the variance of the scores as a share of what it would be without ties.

    A score in {0, ½, 1} of mean p has variance p(1 − p) − P(tie)/4. One battle that is no tie is added, so
    that ties alone do not make certain.
    """
    ties, n = float((score == 0.5).sum()), len(score)
    return max(1 - ties / 4 / float(spread.sum()) * n / (n + 1), 1 / (n + 1))


def _check(battles: Sequence[Battle], names: Sequence[str], anchor: str | None) -> None:
    for battle in battles:
        if battle.verdict not in _SCORES:
            raise UsageError(unknown("verdict", battle.verdict, _SCORES))
        if battle.a == battle.b:
            raise UsageError(f"{battle.a!r} against itself is no battle.")
        if len(battle.style) != len(FEATURES):
            raise UsageError(f"The style of a battle is {len(FEATURES)} numbers: {', '.join(FEATURES)}.")
    if anchor is not None and anchor not in names:
        raise UsageError(unknown("player", anchor, names))


def _groups(players: int, a: NDArray[np.int_], b: NDArray[np.int_]) -> list[int]:
    """Return the number of each player's group: those that met, directly or through others; the largest 0."""
    leader = list(range(players))

    def head(player: int) -> int:
        while leader[player] != player:
            player = leader[player]
        return player

    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        leader[head(one)] = head(other)
    heads = [head(player) for player in range(players)]
    by_size = sorted(set(heads), key=lambda one: (-heads.count(one), one))
    return [by_size.index(one) for one in heads]


def _level(group: Sequence[int], features: int) -> Floats:
    """Return the projection onto what no battle can tell: a common shift of all players of a group."""
    inside = np.array(group)[:, None] == np.array(group)[None, :]
    level = np.zeros((len(group) + features,) * 2)
    level[: len(group), : len(group)] = inside / inside.sum(1)
    return level


def _reference(group: Sequence[int], anchor: int | None, size: int) -> Floats:
    """Return the matrix that takes from each strength the anchor's; the means of groups are 0 already."""
    show = np.eye(size)
    for player, mine in enumerate(group):
        if anchor is not None and mine == group[anchor]:
            show[player, anchor] -= 1
    return show


def _told_apart(players: Floats, battles: Sequence[Battle]) -> tuple[list[str], Floats]:
    """Return the features of style that battles tell apart from players and each other, and their columns."""
    kept: list[str] = []
    x = players
    for name, column in zip(FEATURES, np.array([battle.style for battle in battles]).T, strict=True):
        spread = float(np.sqrt((column**2).mean()))
        if spread == 0:
            continue
        wider = np.hstack([x, column[:, None] / spread])
        if np.linalg.matrix_rank(wider, tol=1e-6 * np.sqrt(len(battles))) > np.linalg.matrix_rank(x):
            kept, x = [*kept, name], wider
    return kept, x[:, players.shape[1] :]


def _style_weights(kept: Sequence[str], points: Floats, error: Floats) -> list[StyleWeight]:
    known = {
        name: StyleWeight(name, float(value), float(value - half), float(value + half))
        for name, value, half in zip(kept, points, error, strict=True)
    }
    return [known.get(name, StyleWeight(name, None, None, None)) for name in FEATURES]
