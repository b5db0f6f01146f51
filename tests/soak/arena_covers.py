"""How often the arena's 95 % intervals hold the truth, beside the bootstrap's; some minutes.

    python tests/soak/arena_covers.py

Players of random strength fight in hundreds of arenas, from five battles between two to hundreds between
eight, with no, some and many ties, with and without a weight of style. The bootstrap is the plain one over
battles, as LMArena published it. Fails when the arena's intervals cover below 92 % anywhere, or above 99 %
where there are 30 battles or more.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "measure"))
from simulated_arena import battles_of, coverage

from twofold.measure.arena import CENTRE, POINTS, rate

TIMES, RESAMPLES = 300, 60
ARENAS = (  # players, battles, spread of strengths in log odds
    (2, 5, 1.0),
    (2, 20, 1.0),
    (4, 30, 1.0),
    (4, 60, 2.0),
    (8, 100, 1.0),
    (8, 400, 1.5),
)


def bootstrap(players: int, battles: int, spread: float, tie: float, times: int) -> float:
    """Return how often the bootstrap's interval holds a player's true rating."""
    chance = np.random.default_rng(5)
    covered = []
    for _ in range(times):
        strengths = chance.normal(0, spread, players)
        fought = battles_of(strengths, battles, tie=tie, seed=int(chance.integers(2**31)))
        drawn: dict[str, list[float]] = {f"p{number}": [] for number in range(players)}
        for _ in range(RESAMPLES):
            table = rate([fought[n] for n in chance.integers(0, battles, battles)])
            for one in table.ratings if len(table.groups) == 1 else []:
                drawn[one.name].append(one.rating)
        true = CENTRE + POINTS * (strengths - strengths.mean())
        for number in range(players):
            low, high = np.quantile(drawn[f"p{number}"] or [0, 0], (0.025, 0.975))
            covered.append(low <= true[number] <= high)
    return float(np.mean(covered))


def main() -> None:
    """Print a line per arena; leave with 1 when one is out of bounds."""
    bad = 0
    print("players  battles  spread  ties   covers   with style   bootstrap")
    for players, battles, spread in ARENAS:
        for tie in (0.0, 0.3, 0.7):
            arena = {"players": players, "battles": battles, "spread": spread, "tie": tie, "times": TIMES}
            plain = coverage(**arena, seed=1)  # type: ignore[arg-type]
            styled = coverage(**arena, seed=2, weight=1.0)  # type: ignore[arg-type]
            other = bootstrap(players, battles, spread, tie, TIMES // 10) if tie == 0.3 else None
            told = f"{100 * other:8.1f} %" if other is not None else ""
            arena_told = f"{players:7} {battles:8} {spread:7.1f} {tie:5.1f}"
            print(f"{arena_told} {100 * plain:7.1f} % {100 * styled:9.1f} %  {told}", flush=True)
            bad += plain < 0.92 or styled < 0.92 or (battles >= 30 and max(plain, styled) > 0.99)
    sys.exit(f"{bad} arenas out of bounds." if bad else 0)


if __name__ == "__main__":
    main()
