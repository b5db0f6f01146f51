"""Arenas of players whose strengths are known, and how often intervals cover them."""

import numpy as np

from twofold.measure.arena import CENTRE, POINTS, Battle, rate


def battles_of(
    strengths: np.ndarray, count: int, *, tie: float = 0.0, seed: int, weight: float = 0.0
) -> list[Battle]:
    """Return battles between players p0, p1, … drawn at random, as Bradley and Terry have it.

    `tie`: how often equals tie. `weight`: what a unit of the length's difference adds to the log odds.
    """
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        a, b = chance.choice(len(strengths), 2, replace=False)
        length = float(chance.uniform(-1, 1))
        wins = 1 / (1 + np.exp(strengths[b] - strengths[a] - weight * length))
        ties = min(tie * 4 * wins * (1 - wins), 2 * min(wins, 1 - wins))
        drawn = chance.random()
        verdict = "a" if drawn < wins - ties / 2 else "tie" if drawn < wins + ties / 2 else "b"
        found.append(Battle(f"p{a}", f"p{b}", verdict, (length, 0.0, 0.0, 0.0)))
    return found


def coverage(
    *, players: int, battles: int, tie: float, times: int, seed: int, spread: float = 1.0, weight: float = 0.0
) -> float:
    """Return how often a player's interval holds its true rating, over many arenas.

    Arenas in which not all players are connected are passed over: there is no truth for them.
    """
    chance = np.random.default_rng(seed)
    covered = []
    for _ in range(times):
        strengths = chance.normal(0, spread, players)
        fought = battles_of(strengths, battles, tie=tie, seed=int(chance.integers(2**31)), weight=weight)
        table = rate(fought, style=weight != 0)
        if len(table.groups) > 1 or len(table.ratings) < players:
            continue
        true = CENTRE + POINTS * (strengths - strengths.mean())
        covered += [one.low <= true[int(one.name[1:])] <= one.high for one in table.ratings]
    return float(np.mean(covered))
