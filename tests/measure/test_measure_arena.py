"""Ratings: known strengths are found again, intervals cover, and what cannot be compared is not."""

import numpy as np
import pytest
from simulated_arena import battles_of, coverage

from twofold.base.errors import UsageError
from twofold.measure import arena, style
from twofold.measure.arena import POINTS, Battle, rate


def fought(*rows: str) -> list[Battle]:
    """Return battles from rows like "a b a 3": who met, the verdict, how often."""
    found = []
    for row in rows:
        a, b, verdict, *times = row.split()
        found += [Battle(a, b, verdict)] * int(times[0] if times else 1)
    return found


def test_the_true_order_is_found_again() -> None:
    strengths = np.array([-1.5, -0.5, 0.5, 1.5])
    table = rate(battles_of(strengths, 600, tie=0.3, seed=1))
    assert [rating.name for rating in table.ratings] == ["p3", "p2", "p1", "p0"]
    for rating, true in zip(table.ratings, strengths[::-1], strict=True):
        assert abs(rating.rating - 1000 - POINTS * true) < 90
        assert rating.low < rating.rating < rating.high
    assert table.warning() is None
    assert np.mean([rating.rating for rating in table.ratings]) == pytest.approx(1000)


def test_intervals_cover_at_about_the_stated_rate() -> None:
    share = coverage(players=4, battles=40, tie=0.3, times=150, seed=2)
    assert 0.92 < share < 0.99  # 600 intervals; 400 arenas of every kind in tests/soak/arena_covers.py


def test_two_players_have_the_odds_that_were_seen() -> None:
    # With one pair Firth's correction adds half a win to each side: 30.5 to 10.5.
    table = rate(fought("x y a 30", "x y b 10"))
    best, worst = table.ratings
    assert best.name == "x"
    assert best.rating - worst.rating == pytest.approx(400 * np.log10(30.5 / 10.5), abs=1e-6)
    assert (best.battles, best.wins, best.ties) == (40, 30, 0)


def test_one_battle_is_little_and_not_nothing() -> None:
    best, worst = rate(fought("x y a")).ratings
    assert best.rating - worst.rating == pytest.approx(400 * np.log10(3), abs=1e-6)  # 1.5 to 0.5
    assert best.low < 900


def test_the_likelihood_with_firths_correction_is_largest_there() -> None:
    battles = battles_of(np.array([-1.0, 0.0, 1.5]), 25, tie=0.4, seed=7, weight=1.0)
    table = rate(battles, style=True)
    score = np.array([{"a": 1.0, "b": 0.0}.get(battle.verdict, 0.5) for battle in battles])
    length = np.array([battle.style[0] for battle in battles])
    x = np.zeros((len(battles), 3))  # p0 and p1 beside p2, and the length
    for row, battle in zip(x, battles, strict=True):
        for name, sign in ((battle.a, 1), (battle.b, -1)):
            if name != "p2":
                row[int(name[1:])] += sign
    x[:, 2] = length / np.sqrt((length**2).mean())

    def penalised(weights: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-(x @ weights)))
        information = (x * (p * (1 - p))[:, None]).T @ x
        log_likelihood = (score * np.log(p) + (1 - score) * np.log(1 - p)).sum()
        return float(log_likelihood + np.linalg.slogdet(information)[1] / 2)

    points = {one.name: one.rating for one in table.ratings}
    best = (
        np.array([points["p0"] - points["p2"], points["p1"] - points["p2"], table.style[0].points]) / POINTS
    )
    for direction in np.eye(3):
        slope = (penalised(best + 1e-5 * direction) - penalised(best - 1e-5 * direction)) / 2e-5
        assert abs(slope) < 1e-5
        assert penalised(best) > max(penalised(best + 0.1 * direction), penalised(best - 0.1 * direction))


def test_sides_do_not_matter() -> None:
    there = fought("x y a 5", "x z b 3", "y z tie 2", "z y a 1")
    back = [Battle(one.b, one.a, {"a": "b", "b": "a"}.get(one.verdict, one.verdict)) for one in there]
    for one, other in zip(rate(there).ratings, rate(back).ratings, strict=True):
        assert (one.name, one.wins) == (other.name, other.wins)
        assert one.rating == pytest.approx(other.rating, abs=1e-6)


def test_who_always_wins_is_finite_and_uncertain() -> None:
    best, _ = rate(fought("x y a 5")).ratings
    assert 1000 < best.rating < 1500
    assert best.low < 1000  # five of five may still be luck
    many, _ = rate(fought("x y a 100")).ratings
    assert many.low > 1000
    assert best.name == many.name == "x"


def test_ties_are_half_and_make_surer() -> None:
    tied = rate(fought("x y tie 20")).ratings
    split = rate(fought("x y a 10", "x y b 10")).ratings
    assert [rating.rating for rating in (*tied, *split)] == pytest.approx([1000] * 4)
    assert tied[0].high - tied[0].low < split[0].high - split[0].low
    assert tied[0].high > 1001
    assert rate(fought("x y bad 20")).ratings == tied


def test_groups_that_never_met_have_no_common_scale() -> None:
    table = rate(fought("x y a 3", "y z a 2", "u v b 9"))
    assert table.groups == [["x", "y", "z"], ["v", "u"]]
    assert "x, y, z; v, u" in (table.warning() or "")
    for group in (0, 1):
        mean = np.mean([rating.rating for rating in table.ratings if rating.group == group])
        assert mean == pytest.approx(1000)
    joined = rate(fought("x y a 3", "y z a 2", "u v b 9", "z v tie"))
    assert len(joined.groups) == 1


def test_an_anchor_stands_still() -> None:
    free = {rating.name: rating for rating in rate(fought("x y a 7", "x y b 3", "y z a 4")).ratings}
    table = {one.name: one for one in rate(fought("x y a 7", "x y b 3", "y z a 4"), anchor="y").ratings}
    assert (table["y"].rating, table["y"].low, table["y"].high) == (1000, 1000, 1000)
    assert table["x"].rating - 1000 == pytest.approx(free["x"].rating - free["y"].rating)
    with pytest.raises(UsageError, match="no player 'w'"):
        rate(fought("x y a"), anchor="w")


def test_style_is_taken_out() -> None:
    # Equal players, one of which writes longer; all that the judges see is the length.
    chance = np.random.default_rng(4)
    battles = []
    for _ in range(1000):
        length = float(np.clip(chance.normal(0.3, 0.4), -1, 1))
        verdict = "a" if chance.random() < 1 / (1 + np.exp(-2 * length)) else "b"
        battles.append(Battle("long", "short", verdict, (length, 0.0, 0.0, 0.0)))
    plain, controlled = rate(battles), rate(battles, style=True)
    assert plain.ratings[0].name == "long"
    assert plain.ratings[0].low > 1000
    long = next(rating for rating in controlled.ratings if rating.name == "long")
    assert long.low < 1000 < long.high
    length, *others = controlled.style
    assert length.feature == "length"
    assert length.low is not None
    assert length.low > 0
    assert [other.points for other in others] == [None] * 3  # nobody used any: nothing to learn


def test_style_that_goes_with_one_player_cannot_be_told_from_it() -> None:
    battles = [Battle("x", "y", verdict, (0.5, 0.0, 1.0, 0.0)) for verdict in "aab"]
    assert [one.points for one in rate(battles, style=True).style] == [None] * 4


def test_style_is_counted_outside_of_code() -> None:
    text = (
        "# Title\n\n- one\n* two\n1. three\n\n**bold** and __bold__, 2 ** 3 ** 4\n```\n# no\n- no\n```\n## B"
    )
    assert style.counts(text) == (len(text), 2, 3, 2)
    assert style.counts("") == (0, 0, 0, 0)
    assert style.difference("", "") == (0.0,) * 4
    assert style.difference("aaa", "# b")[:2] == (0.0, -1.0)
    assert style.counts("```\n# never closed\n") == (len("```\n# never closed\n"), 0, 0, 0)


@pytest.mark.parametrize(
    ("battle", "said"),
    [
        (Battle("x", "y", "c"), "no verdict 'c'"),
        (Battle("x", "x", "a"), "against itself"),
        (Battle("x", "y", "a", (1.0,)), "4 numbers"),
    ],
)
def test_what_is_no_battle_is_refused(battle: Battle, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        rate([battle])


def test_nobody_has_fought() -> None:
    assert rate([]).ratings == []
    assert rate([]).warning() is None
    assert arena.VERDICTS == ("a", "b", "tie", "bad")
