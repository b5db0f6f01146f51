"""Over-optimisation: best of n against drawing, divergence against its definition, win rates, choosing."""

import math

import numpy as np
import pytest
from tiny_models import random_model

from twofold.base.errors import UsageError
from twofold.measure.attempts import Attempt, Turn
from twofold.measure.judge import TAG, Judge, best_answer, best_of
from twofold.measure.overoptimisation import best_of_curve, best_of_distance, divergence, log_ratios
from twofold.measure.wins import at_equal_length, wins
from twofold.parameters import Model
from twofold.run import Answer, answers, open_model


def test_the_curve_of_best_of_n_is_what_drawing_gives():
    chance = np.random.default_rng(0)
    proxy = chance.normal(size=(3, 8))
    gold = proxy + chance.normal(size=(3, 8))
    curve = best_of_curve("n", proxy, gold)
    assert [point.name for point in curve.points] == ["n=1", "n=2", "n=4", "n=8"]
    assert curve.points[0].reward == pytest.approx(0)
    for point, n in zip(curve.points, (1, 2, 4, 8), strict=True):
        assert point.kl_nats == pytest.approx(math.log(n) - (n - 1) / n)
        drawn = []
        for _ in range(4000):
            some = np.array([chance.choice(8, n, replace=False) for _ in range(3)])
            best = np.take_along_axis(some, np.take_along_axis(proxy, some, 1).argmax(1)[:, None], 1)
            drawn.append((np.take_along_axis(gold, best, 1)[:, 0] - gold.mean(1)).mean())
        assert point.reward == pytest.approx(np.mean(drawn), abs=0.05)
    assert best_of_distance(1) == 0
    assert curve.points[curve.turn].reward == max(point.reward for point in curve.points)


@pytest.fixture(scope="module")
def engines():
    found = []
    for scale in (1.0, 1.3):
        model = random_model("qwen3")
        tensors = {name: np.asarray(tensor) * np.float32(scale) for name, tensor in model.tensors.items()}
        changed = Model(model.config, model.tokenizer, {"name": "m", "tags": [TAG]}, tensors)
        found.append(open_model(changed, threads=1, sequences=6))
    return found


def attempt(prompt, answer):
    return Attempt(None, None, [Turn(prompt, Answer(answer, [], True))])


def test_divergence_is_what_many_draws_average_to(engines):
    policy, reference = engines
    prompt = [5, 9, 4, 3]
    assert divergence([attempt(prompt, [7, 8])], policy, policy) == pytest.approx([0], abs=1e-9)
    drawn = answers(policy, [prompt] * 600, max_tokens=2, seeds=range(600), stop_ids=[0])
    tried = [attempt(prompt, one.ids) for one in drawn]
    exact, sampled = divergence(tried, policy, reference), log_ratios(tried, policy, reference)
    assert exact.min() > 0
    assert exact.mean() == pytest.approx(sampled.mean(), abs=4 * sampled.std() / math.sqrt(600))
    assert exact.std() < sampled.std()
    mean = np.mean([sum(one.log_p) for one in drawn])
    assert sampled.mean() + log_ratios(tried, reference, policy).mean() == pytest.approx(0, abs=1e-9)
    assert mean < 0


def test_the_best_is_chosen_by_whoever_gives_rewards(engines):
    assert best_of(["a", "ccc", "bb", "ddd"], lambda some: [len(one) for one in some]) == "ccc"
    with pytest.raises(UsageError, match="no answer"):
        best_of([], lambda some: [])
    engine, judge = engines[0], Judge(engines[1])
    messages = [{"role": "user", "content": "Hello"}]
    ids = engine.tokenizer.chat(messages)
    how = dict(max_tokens=4, temperature=1.0)
    best = best_answer(engine, judge, messages, ids, n=5, seed=7, **how)
    drawn = answers(engine, [ids] * 5, seeds=range(7, 12), **how)
    text = [engine.tokenizer.decode(one.ids[:-1] if one.ended else one.ids) for one in drawn]
    rewards = judge.rewards([(messages, one) for one in text])
    assert best == drawn[int(np.argmax(rewards))]
    assert len({tuple(one.ids) for one in drawn}) > 1
    alone = [judge.rewards([(messages, one)])[0] for one in text]
    assert rewards == pytest.approx(alone, abs=1e-4)


def test_a_model_that_is_no_judge_is_refused():
    with pytest.raises(UsageError, match="is no reward model"):
        Judge(open_model(random_model("qwen3"), threads=1))


def test_win_rates_are_exact_and_length_is_taken_out():
    after, before = np.array([[1.0, 2.0], [0.0, 5.0]]), np.array([[1.0, 0.0], [9.0, 5.0]])
    same = np.ones((2, 2))
    found = wins(after, before, same, same)
    assert found.rate == pytest.approx((3.5 / 4 + 0.5 / 4) / 2)
    assert found.low <= found.rate <= found.high
    chance = np.random.default_rng(0)
    longer = chance.normal(12, 10, size=(200, 16))  # longer answers, and nothing but length wins
    won = (chance.random(longer.shape) < 1 / (1 + np.exp(-longer / 5))).astype(float)
    assert won.mean() > 0.8
    assert at_equal_length(won, longer) == pytest.approx(0.5, abs=0.04)
    assert at_equal_length(won, np.zeros_like(longer)) == pytest.approx(won.mean(), abs=0.01)
