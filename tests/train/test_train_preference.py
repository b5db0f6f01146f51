"""Learning from pairs: the losses against their definitions, length control, and the data of a step."""

import dataclasses
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pairs_made import SHAPE, TOKENIZER, fresh, lines, write  # noqa: E402

from twofold.corpus.pairs import prepare_pairs  # noqa: E402
from twofold.measure.judge import TAG, Judge, verdict_ids  # noqa: E402
from twofold.parameters import Model, load  # noqa: E402
from twofold.run import open_model  # noqa: E402
from twofold.tokens.pair import answer_ids  # noqa: E402
from twofold.train.export import from_model  # noqa: E402
from twofold.train.prefer import _begin_alike  # noqa: E402
from twofold.train.preference import (  # noqa: E402
    HeldOutPairs,
    Objective,
    PairData,
    accuracy,
    length_effect,
    parts,
    reference,
)

NET = SHAPE.context, SHAPE.vocab_size


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(fresh(tmp_path_factory.mktemp("fresh") / "fresh.gguf"))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    records = lines(40)
    records[3]["chosen"] = "a much longer answer than the other"
    data = write(folder / "pairs.jsonl", records)
    return prepare_pairs([str(data)], folder / "pairs", tokenizer=TOKENIZER, context=192, val_fraction=0.2)


@torch.no_grad()
def by_hand(net, prompt, answer):
    """Return ln p of an answer, from one row of its own."""
    ids = torch.tensor([[*prompt, *answer]])
    log_p = net.logits(ids)[0].log_softmax(-1)
    places = range(len(prompt) - 1, ids.shape[1] - 1)
    return sum(log_p[place, token] for place, token in zip(places, answer, strict=True))


def test_dpo_is_its_formula_and_starts_at_the_reference(model, pairs):
    net, old = from_model(model), from_model(model)
    objective = Objective(beta=0.3, alpha=0.0)
    known = reference(old, pairs.train, objective)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
    indices = [5, 0, 9, 2]
    (part,) = parts(pairs.train, indices, objective, NET, known)
    losses, margins = (one.detach() for one in objective.losses(net, part))
    for place, index in enumerate(indices):
        prompt, chosen, rejected = pairs.train.texts(index)
        ratio = [by_hand(net, prompt, a) - by_hand(old, prompt, a) for a in (chosen, rejected)]
        margin = 0.3 * float(ratio[0] - ratio[1])
        assert float(margins[place]) == pytest.approx(margin, abs=2e-5)
        assert float(losses[place]) == pytest.approx(math.log1p(math.exp(-margin)), abs=2e-5)
    still, none = (one.detach() for one in objective.losses(old, part))
    assert still.tolist() == pytest.approx([math.log(2)] * 4, abs=1e-6)
    assert none.abs().max() < 1e-5


def test_length_control_adds_what_length_explains(model, pairs):
    net = from_model(model)
    plain, controlled = Objective(0.1, 0.0), Objective(0.1, 0.7)
    everything = range(len(pairs.train))
    found = [[], [], []]
    for part in parts(pairs.train, everything, plain, NET):
        found[0].append(plain.losses(net, part)[1])
        found[1].append(controlled.losses(net, part)[0])
        lengths = part.length_S.reshape(-1, 2)
        found[2].append(lengths[:, 0] - lengths[:, 1])
    margin, loss, longer = (torch.cat(some) for some in found)
    torch.testing.assert_close(loss, -torch.nn.functional.logsigmoid(margin + 0.7 * longer))
    assert longer.abs().max() > 5


def test_length_alone_is_fitted_by_logistic_regression():
    chance = np.random.default_rng(0)
    longer = chance.integers(-40, 41, 4000)
    sign = np.where(chance.random(4000) < 1 / (1 + np.exp(-0.05 * longer)), 1, -1)
    lengths = np.stack([100 + sign * longer, np.full(4000, 100)], 1)
    assert length_effect(lengths) == pytest.approx(0.05, rel=0.1)
    assert length_effect(lengths[:, ::-1]) == pytest.approx(-0.05, rel=0.1)
    assert length_effect(np.array([[5, 5], [7, 7]])) == 0
    always = length_effect(np.array([[9, 5], [8, 6], [7, 6]]))
    assert 0 < always < 10  # finite, though the longer one is always chosen


def test_a_reward_is_a_difference_of_logits_and_run_c_reads_the_same(model, pairs):
    verdicts = verdict_ids(TOKENIZER)
    net, objective = from_model(model), Objective(0.1, 0.0, verdict_ids(TOKENIZER))
    (part,) = parts(pairs.train, [0, 1, 2], objective, NET)
    rewards = objective.rewards(net, part).detach()
    texts = [[*p, *a] for p, *both in map(pairs.train.texts, range(3)) for a in both]
    for reward, text in zip(rewards, texts, strict=True):
        logits = net.logits(torch.tensor([text]))[0, -1].detach()
        assert float(reward) == pytest.approx(float(logits[verdicts[0]] - logits[verdicts[1]]), abs=2e-5)
    named = Model(model.config, model.tokenizer, {"name": "judge", "tags": [TAG]}, model.tensors)
    judge = Judge(open_model(named, threads=1, sequences=4))
    assert judge.of_tokens(texts) == pytest.approx(rewards.tolist(), abs=1e-4)
    pair = pairs.held_out()[0]
    said = answer_ids(pair.conversation("chosen"), TOKENIZER)
    (reward,) = judge.rewards([(pair.messages, str(pair.chosen["content"]))])
    assert reward == pytest.approx(judge.of_tokens([[*said[0], *said[1]]])[0])
    _begin_alike(net, verdicts)
    assert objective.rewards(net, part).abs().max() == 0


def test_each_epoch_reads_every_pair_once_in_a_new_order(pairs):
    objective, count = Objective(0.1, 0.0), len(pairs.train)
    known = np.arange(2 * count, dtype=np.float32).reshape(-1, 2)
    data = PairData(pairs.train, known, objective, count=1, shape=NET, seed=3)
    assert data.epoch_steps == count
    epochs = [[int(data.batch(step).parts[0].reference_S[0]) // 2 for step in range(start, start + count)]
              for start in (0, count)]  # fmt: skip
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(count))
    assert epochs[0] != epochs[1]
    again = PairData(pairs.train, known, objective, count=1, shape=NET, seed=3)
    assert (again.batch(7).parts[0].batch.ids == data.batch(7).parts[0].batch.ids).all()


def test_large_steps_go_through_in_parts_and_cost_the_same(model, pairs, monkeypatch):
    net, objective = from_model(model), Objective(0.1, 0.0)
    whole = list(parts(pairs.train, range(20), objective, NET))
    monkeypatch.setattr("twofold.train.preference.MICRO_TOKENS", 100)
    some = list(parts(pairs.train, range(20), objective, NET))
    assert len(some) > len(whole)
    both = [torch.cat([objective.losses(net, part)[0] for part in found]) for found in (whole, some)]
    torch.testing.assert_close(*both, atol=1e-5, rtol=0)


def test_held_out_pairs_are_scored_and_ties_count_half(model, pairs):
    net, objective = from_model(model), Objective(0.1, 0.0)
    known = reference(net, pairs.val, objective)
    found = list(parts(pairs.val, range(len(pairs.val)), objective, NET, known))
    score = HeldOutPairs(found, objective).score(net)
    assert score.loss_nats == pytest.approx(math.log(2), abs=1e-6)
    assert (score.pairs, score.gold) == (len(pairs.val), None)
    assert accuracy(np.array([1.0, 0.0, -2.0, 3.0])) == 0.625
    kept = dataclasses.replace(score, accuracy=0.75)
    assert type(kept).read({"step": 4, **kept.record()}) == kept
    assert type(kept).read({"step": 4, "loss_nats": 0.3}) is None
