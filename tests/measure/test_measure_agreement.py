"""Agreement: published examples, and the edges."""

import pytest

from twofold.measure.agreement import alpha, pairs


def test_krippendorffs_own_example() -> None:
    # Four observers, twelve units (Krippendorff 2011, section C): alpha for nominal data is 0.743.
    observers = {
        "A": "1 2 3 3 2 1 4 1 2 . . .",
        "B": "1 2 3 3 2 2 4 1 2 5 . 3",
        "C": ". 3 3 3 2 3 4 2 2 5 1 .",
        "D": "1 2 3 3 2 4 4 1 2 5 1 .",
    }
    rows = {name: row.split() for name, row in observers.items()}
    items = [{name: row[n] for name, row in rows.items() if row[n] != "."} for n in range(12)]
    assert alpha(items) == pytest.approx(0.743, abs=5e-4)


def test_cohens_kappa() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: the textbook's 0.4.
    counts = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    items = [{"x": a, "y": b} for (a, b), times in counts.items() for _ in range(times)]
    (pair,) = pairs([*items, {"x": "yes"}, {"z": "no"}])
    assert (pair.a, pair.b, pair.shared, pair.agreement) == ("x", "y", 50, 0.7)
    assert pair.kappa == pytest.approx(0.4)


def test_edges() -> None:
    assert alpha([]) is None
    assert alpha([{"x": "a"}, {"y": "b"}]) is None
    assert alpha([{"x": "a", "y": "a"}]) is None  # one word only: chance would agree as well
    assert alpha([{"x": "a", "y": "a"}, {"x": "b", "y": "b"}]) == 1
    assert pairs([{"x": "a"}, {"y": "b"}]) == []
    assert pairs([{"x": "a", "y": "a"}])[0].kappa is None
    assert (alpha([{"x": "a", "y": "b"}, {"x": "b", "y": "a"}]) or 0) < 0
