"""The scaling law: found again in made-up runs, and in the runs that Chinchilla's paper shows."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.measure import budget, scaling
from twofold.measure.scaling import Law

TRUTH = Law(E=0.9, A=60.0, B=300.0, alpha=0.3, beta=0.4)
# Besiroglu et al. 2024 (arXiv:2404.10102), table 2: estimate and standard error.
PUBLISHED = {
    "E": (1.8172, 0.03),
    "A": (482.01, 124.58),
    "B": (2085.43, 1293.23),
    "alpha": (0.3478, 0.02),
    "beta": (0.3658, 0.02),
}
OUTLIERS = 5  # runs that stopped after less than half a token per weight; the replication leaves them out


def made_up(noise: float, seed: int = 0) -> tuple[list[float], list[float], list[float]]:
    """Return weights, tokens and losses of 36 runs of the true law."""
    rng = np.random.default_rng(seed)
    pairs = [(1e5 * 2**i, 1e6 * 4**j) for i in range(6) for j in range(6)]
    losses = [TRUTH.loss(n, d) * math.exp(noise * rng.normal()) for n, d in pairs]
    return [n for n, _ in pairs], [d for _, d in pairs], losses


def test_a_law_without_noise_is_found_exactly() -> None:
    found = scaling.fit(*made_up(0.0), bootstraps=0)
    for name in ("E", "A", "B", "alpha", "beta"):
        assert getattr(found.law, name) == pytest.approx(getattr(TRUTH, name), rel=1e-3), name
    assert max(map(abs, found.residuals)) < 1e-6


def test_with_noise_the_truth_lies_within_the_intervals() -> None:
    found = scaling.fit(*made_up(0.004, seed=1), bootstraps=200)
    assert len(found.again) == 200
    for name in ("E", "alpha", "beta"):
        low, high = found.interval(name)
        assert low < getattr(TRUTH, name) < high
        assert found.error(name) > 0
    middle, low, high = found.predict(1e7, 1e10)
    assert low < TRUTH.loss(1e7, 1e10) < high
    assert high - low < 0.1 * middle
    assert scaling.fit(*made_up(0.004, seed=1), bootstraps=200) == found, "the same seed, the same drawings"


def test_a_run_that_went_astray_hardly_bends_the_law() -> None:
    weights, tokens, losses = made_up(0.0)
    losses[20] *= 1.5
    found = scaling.fit(weights, tokens, losses, bootstraps=0).law
    assert found.loss(1e7, 1e10) == pytest.approx(TRUTH.loss(1e7, 1e10), rel=0.003)


def test_chinchilla_s_runs_give_the_published_replication(shared_data: Path) -> None:
    path = shared_data / "scaling" / "chinchilla_svg_extracted_data.csv"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    with open(path, newline="") as file:
        rows = [
            (float(r["Model Size"]), float(r["Training FLOP"]), float(r["loss"]))
            for r in csv.DictReader(file)
        ]
    runs = sorted(((n, c / 6 / n, loss) for n, c, loss in rows), key=lambda run: run[1] / run[0])[OUTLIERS:]
    assert len(runs) == 240
    assert runs[0][1] / runs[0][0] > 0.45, "the five that are left out stand apart"
    weights, tokens, losses = map(list, zip(*runs, strict=True))
    found = scaling.fit(weights, tokens, losses, bootstraps=300)
    for name, (value, error) in PUBLISHED.items():
        mine = getattr(found.law, name)
        assert abs(mine - value) < error, f"{name}: {mine}, more than a standard error from {value}"
        low, high = found.interval(name)
        assert low < value < high, name
        assert 0.5 * error < found.error(name) < 2 * error, name
    assert abs(found.law.E - 1.8172) < 0.002
    assert abs(found.law.alpha - 0.3478) < 0.002
    stored = budget.chinchilla().fit.law
    for name in PUBLISHED:
        mine = getattr(found.law, name)
        assert getattr(stored, name) == pytest.approx(mine, rel=1e-4), "laws/chinchilla.json is this fit"
    # Published: about 20 tokens per weight at Chinchilla's own budget.
    best_weights, best_tokens = found.law.best(5.76e23)
    assert 15 < best_tokens / best_weights < 26


def test_the_best_size_is_a_minimum_and_the_way_back_holds() -> None:
    for flops in (1e12, 1e18, 1e25):
        weights, tokens = TRUTH.best(flops)
        assert 6 * weights * tokens == pytest.approx(flops)
        least = TRUTH.loss(weights, tokens)
        for factor in (0.9, 1.1):
            assert TRUTH.loss(weights * factor, tokens / factor) > least
        assert TRUTH.flops_for(least) == pytest.approx(flops, rel=1e-6)
    assert TRUTH.flops_for(0.9) == math.inf


def test_too_few_or_too_equal_runs_are_refused() -> None:
    weights, tokens, losses = made_up(0.0)
    for part in (slice(0, 5), slice(0, 6)):  # too few; one size only
        with pytest.raises(UsageError, match="at least 6 runs of different sizes"):
            scaling.fit(weights[part], tokens[part], losses[part])
    with pytest.raises(UsageError, match="finite"):
        scaling.fit(weights, tokens, [math.nan, *losses[1:]])


def test_a_fit_survives_a_file() -> None:
    found = scaling.fit(*made_up(0.004), bootstraps=20)
    assert scaling.of_record(found.record(), "here") == found
    for wrong in ({}, None, {**found.record(), "law": {"E": 1}}, {**found.record(), "again": [[1, 2]]}):
        with pytest.raises(BadFileError, match=r"here does not hold a fitted scaling law"):
            scaling.of_record(wrong, "here")


def test_repeated_text_is_worth_less_each_time() -> None:
    assert scaling.effective_tokens(5e6, 1e7) == 5e6
    four = scaling.effective_tokens(4e7, 1e7)
    assert 3.6e7 < four < 4e7, "up to four epochs nearly as good as new (the paper's finding)"
    assert scaling.effective_tokens(1e12, 1e7) == pytest.approx(1e7 * (1 + scaling.FORGETTING))


@pytest.mark.parametrize(("A", "limit"), [(0.0, 3.0), (1e-30, math.exp(301))])
def test_a_law_of_absurd_exponents_is_large_and_no_error(A: float, limit: float) -> None:
    loss = Law(E=1.0, A=A, B=1.0, alpha=-80.0, beta=0.5).loss(1e9, 1e6)
    assert 1.0 < loss < limit
