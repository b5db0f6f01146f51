"""Choosing tokens: run.c and Python choose alike, and each setting does what its paper says."""

import collections
import ctypes
import dataclasses

import numpy as np
import pytest
from engines import saved
from tiny_models import random_model

from twofold import run
from twofold.base.errors import UsageError
from twofold.run import Sampler, library, sampling
from twofold.run.backends import Backend

SETTINGS = (
    Sampler(),
    Sampler(temperature=1.0, seed=3),
    Sampler(temperature=0.6, top_k=5, seed=4),
    Sampler(temperature=1.3, top_p=0.7, seed=5),
    Sampler(temperature=0.9, min_p=0.1, seed=6),
    Sampler(temperature=0.8, top_k=40, top_p=0.9, min_p=0.02, repetition_penalty=1.2, seed=7),
    Sampler(repetition_penalty=1.5, seed=8),
    Sampler(temperature=2.0, top_k=1, seed=9),
)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    path = saved(random_model("qwen3"), tmp_path_factory.mktemp("model"))
    return run.load(path, backend="c").runner


@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_c_and_python_choose_alike(how: Sampler, runner: Backend) -> None:
    random = np.random.default_rng(0)
    state_c = state_python = how.seed
    for _ in range(300):
        logits = (random.standard_normal(384) * random.uniform(0.2, 6)).astype(np.float32)
        recent = random.integers(0, 384, random.integers(0, 100)).tolist()
        one, p_c, state_c = runner.choose(logits, how, recent, state_c)
        two, p_python, state_python = sampling.choose(logits, how, recent, state_python)
        np.testing.assert_allclose(p_c, p_python, rtol=1e-5, atol=1e-9)
        assert one == two
        assert state_c == state_python


@pytest.mark.parametrize("size", [1, 15, 16, 63, 64, 255, 257, 1000, 5003])
def test_they_choose_alike_among_few_and_many(size: int) -> None:
    """The C side passes over blocks, and looks at the likeliest first: no edge of that may show."""
    random, room = np.random.default_rng(size), np.empty((size, 2), np.float32)
    for n in range(40):
        logits = (random.standard_normal(size) * (0.1, 2, 8)[n % 3]).astype(np.float32)
        if n % 5 == 0 and size > 15:
            logits[random.integers(0, size, size // 2)] = -np.inf  # what a grammar forbids
        for how in SETTINGS:
            p_c, state = logits.copy(), ctypes.c_uint64(n)
            given = library.Sampling(how.temperature, how.top_p, how.min_p, 1.0, how.top_k, 0, None)
            one = library.functions().tf_sample(
                p_c.ctypes.data, size, ctypes.byref(given), ctypes.byref(state), room.ctypes.data
            )
            plain = dataclasses.replace(how, repetition_penalty=1.0)
            two, p_python, state_python = sampling.choose(logits, plain, [], n)
            np.testing.assert_allclose(p_c, p_python, rtol=2e-5, atol=1e-9)
            assert (one, state.value) == (two, state_python)
            assert logits[one] > -np.inf


def test_the_likeliest_are_found_in_order() -> None:
    random = np.random.default_rng(1)
    for size in (3, 64, 384, 640, 5003):
        p = random.integers(0, size // 2 + 1, size).astype(np.float32)
        for count in (0, 1, 8, 20):
            best = np.argsort(-p, kind="stable")[:count]
            found = sampling.likeliest(p, count)
            assert [value for _, value in found] == p[best].tolist()
            assert all(p[token] == value for token, value in found)
            assert len({token for token, _ in found}) == min(count, size)


def draws(how: Sampler, runner: Backend, logits: np.ndarray, n: int = 4000) -> np.ndarray:
    counts, state = np.zeros(len(logits)), how.seed
    for _ in range(n):
        token, _, state = runner.choose(logits, how, [], state)
        counts[token] += 1
    return counts / n


def test_draws_follow_the_probabilities(runner: Backend) -> None:
    p = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    logits = np.full(384, -50, np.float32)
    logits[:5] = np.log(p)
    plain = draws(Sampler(temperature=1.0), runner, logits)
    np.testing.assert_allclose(plain[:5], p, atol=0.03)
    sharp = p**2 / (p**2).sum()
    np.testing.assert_allclose(draws(Sampler(temperature=0.5), runner, logits)[:5], sharp, atol=0.03)
    for how, kept in (
        (Sampler(temperature=1.0, top_k=2), 2),
        (Sampler(temperature=1.0, top_p=0.75), 3),  # the third passes 0.75 and belongs to it
        (Sampler(temperature=1.0, min_p=0.6), 2),  # at least 0.6 of the likeliest: 0.24
        (Sampler(temperature=1.0, top_p=0.3), 1),
    ):
        got = draws(how, runner, logits)
        np.testing.assert_allclose(got[:kept], p[:kept] / p[:kept].sum(), atol=0.03)
        assert got[kept:].sum() == 0


def test_penalty_weakens_what_was_said(runner: Backend) -> None:
    logits = np.zeros(384, np.float32)
    logits[7], logits[9], logits[11] = 2.0, 1.9, -1.0
    assert runner.choose(logits, Sampler(repetition_penalty=1.5), [7, 7, 7], 0)[0] == 9
    p = runner.choose(logits, Sampler(repetition_penalty=2.0), [7, 11], 0)[1]
    assert np.log(p[7] / p[0]) == pytest.approx(1.0, abs=1e-5)  # divided once, however often it was said
    assert np.log(p[11] / p[0]) == pytest.approx(-2.0, abs=1e-5)  # a negative one is multiplied
    far = [7] + [0] * sampling.RECENT  # too long ago
    assert runner.choose(logits, Sampler(repetition_penalty=1.5), far, 0)[0] == 7


def test_bias_and_penalties_are_added_as_openai_says() -> None:
    """mu[j] += bias[j] - c[j] * frequency - (c[j] > 0) * presence, c[j]: how often j was sampled before."""
    random = np.random.default_rng(3)
    for _ in range(20):
        made = random.integers(0, 30, random.integers(0, 60)).tolist()
        presence, frequency = random.uniform(-2, 2, 2).tolist()
        bias = {int(token): float(random.uniform(-100, 100)) for token in random.integers(0, 50, 6)}
        logits = random.standard_normal(50).astype(np.float32)
        expected = [
            float(mu) + bias.get(j, 0.0) - made.count(j) * frequency - (j in made) * presence
            for j, mu in enumerate(logits)
        ]
        how = Sampler(presence_penalty=presence, frequency_penalty=frequency, bias=tuple(bias.items()))
        sampling.lean(logits, how, collections.Counter(made))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_ties_go_to_the_lower_id(runner: Backend) -> None:
    logits = np.zeros(384, np.float32)
    logits[[50, 20, 300]] = 3.0
    assert runner.choose(logits, Sampler(), [], 0)[0] == 20
    assert sampling.choose(logits, Sampler(), [], 0)[0] == 20


@pytest.mark.parametrize(
    "how",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": -0.1}, {"top_k": -1},
     {"repetition_penalty": 0}, {"temperature": float("nan")}, {"presence_penalty": float("nan")},
     {"frequency_penalty": float("inf")}, {"bias": ((1, float("nan")),)}],
)  # fmt: skip
def test_settings_out_of_range(how: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        Sampler(**how)  # type: ignore[arg-type]


def test_a_token_that_may_not_come_does_not() -> None:
    logits = np.array([0.0, 9.0, 1.0], np.float32)
    sampling.lean(logits, Sampler(bias=((0, 2.0),)).without([1]), {})
    assert sampling.choose(logits, Sampler(), [], 0)[0] == 0
