"""Tree search over tokens finds what there is to find, the likeliest first, each once."""

import numpy as np
import pytest
from tiny_models import random_model

from twofold.run import open_model
from twofold.think.branches import Branches
from twofold.think.budget import Budget, Meter
from twofold.think.choosing import Candidate
from twofold.think.search import Search

MODEL = random_model("qwen3")
PROMPT = MODEL.tokenizer.encode("The ferry leaves at")
STOP = {5, 46, 258}


def search(tokens: int, most: int, sequences: int = 33) -> tuple[list[Candidate], Search]:
    engine = open_model(MODEL, threads=1, context=64, sequences=sequences)
    one = Search(Branches(engine, PROMPT, Meter(Budget(tokens=tokens))), max_tokens=most, stop_ids=STOP)
    return [candidate for ended in one.write() for candidate in ended], one


def log_p_of(texts: list[list[int]]) -> np.ndarray:
    """Return the log-probabilities after each text, read one by one."""
    engine = open_model(MODEL, threads=1, context=64)
    rows = []
    for ids in texts:
        whole = [*PROMPT, *ids]
        logits = engine.forward(whole, np.zeros(len(whole)), np.arange(len(whole)))[-1].astype(np.float64)
        rows.append(logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max())
    return np.array(rows)


def test_with_budget_enough_it_finds_every_answer() -> None:
    found, _ = search(100_000, 1)
    ids = [one.ids for one in found]
    first = log_p_of([[]])[0]
    singles = [[token] for token in np.flatnonzero(first > np.log(1e-4)).tolist() if token not in STOP]
    second = log_p_of(singles)
    expected = {
        (token, stop): first[token] + second[n, stop]
        for n, [token] in enumerate(singles)
        for stop in STOP
        if second[n, stop] > np.log(1e-4)
    }
    expected |= {(stop,): first[stop] for stop in STOP if first[stop] > np.log(1e-4)}
    assert len(expected) > 20
    assert sorted(one.log_p for one in found) == pytest.approx(sorted(expected.values()), abs=1e-3)
    assert {tuple(one) for one in ids} == {key[:-1] for key in expected}


def test_the_likely_ones_come_first_and_none_twice() -> None:
    few, one = search(60, 5)
    many, _ = search(4000, 5)
    assert one.branches.meter.tokens <= 60 + one.branches.width
    keys = [(tuple(c.ids), round(c.log_p, 4)) for c in many]
    assert len(set(keys)) == len(keys) > 100
    half = len(many) // 4
    assert np.mean([c.log_p for c in many[:half]]) > np.mean([c.log_p for c in many[-half:]])
    assert {tuple(c.ids) for c in few} <= {tuple(c.ids) for c in many}


def test_the_places_in_the_engine_change_nothing_but_the_cost() -> None:
    narrow, one = search(100_000, 1, sequences=3)
    wide, other = search(100_000, 1, sequences=65)
    assert {(tuple(c.ids), c.log_p) for c in narrow} == {(tuple(c.ids), c.log_p) for c in wide}
    assert one.branches.meter.tokens == other.branches.meter.tokens


def test_what_it_has_when_nothing_ended_is_the_likeliest_beginning() -> None:
    _, one = search(2, 20)
    engine = open_model(MODEL, threads=1, context=64)
    greedy = [step.id for step in engine.generate(PROMPT, max_tokens=2)]
    assert (one.cut().ids, one.cut().ended) == (greedy, False)
