"""Many answers at once are the answers one would get one by one, with their probabilities."""

import numpy as np
import pytest
from engines import saved
from tiny_models import random_model

from twofold import run
from twofold.base.errors import UsageError
from twofold.run import Sampler, answers, open_model

MODEL = random_model("qwen3")
COMMON = MODEL.tokenizer.encode("The ferry leaves at seven, and the harbour wakes an hour before it.")
PROMPTS = [
    [*COMMON, *MODEL.tokenizer.encode(text)] for text in ("Gulls", " In winter", "Gulls", "", " Who", "Gulls")
]


@pytest.fixture(scope="module")
def engine():
    return open_model(MODEL, threads=1, context=96, sequences=3)


def one_by_one(engine, temperature, seeds, count):
    return [
        [step.id for step in engine.generate(
            prompt, max_tokens=count, sampler=Sampler(temperature=temperature, seed=seed), stop_ids={5, 9},
            speculate=False,
        )]
        for prompt, seed in zip(PROMPTS, seeds, strict=True)
    ]  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.3])
def test_answers_are_those_of_one_at_a_time(engine, temperature):
    seeds = [3, 4, 5, 6, 2**63, 8]
    found = answers(engine, PROMPTS, max_tokens=12, seeds=seeds, temperature=temperature, stop_ids={5, 9})
    assert [answer.ids for answer in found] == one_by_one(engine, temperature, seeds, 12)
    assert [answer.ended for answer in found] == [answer.ids[-1] in {5, 9} for answer in found]


def test_the_number_of_sequences_changes_nothing():
    found = [
        answers(open_model(MODEL, threads=1, context=96, sequences=n), PROMPTS, max_tokens=9, seeds=range(6))
        for n in (1, 2, 6, 9)
    ]
    assert all(other == found[0] for other in found)
    assert len({tuple(answer.ids) for answer in found[0]}) > 2  # a seed each: equal prompts, other answers


def test_log_probabilities_are_those_of_the_logits(engine):
    for temperature in (1.0, 0.6):
        found = answers(engine, PROMPTS, max_tokens=8, seeds=range(6), temperature=temperature, stop_ids={5})
        for prompt, answer in zip(PROMPTS, found, strict=True):
            ids = [*prompt, *answer.ids]
            logits = engine.forward(ids[:-1], np.zeros(len(ids) - 1), np.arange(len(ids) - 1))
            logits = logits[len(prompt) - 1 :].astype(np.float64) / temperature
            log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
            expected = log_p[np.arange(len(answer.ids)), answer.ids]
            np.testing.assert_allclose(answer.log_p, expected, atol=1e-4)


def test_an_answer_ends_with_the_room(engine):
    long = [PROMPTS[0][0]] * 90
    found = answers(engine, [long], max_tokens=50, seeds=[0], stop_ids={1 << 30})
    assert len(found[0].ids) == 6
    assert not found[0].ended
    assert answers(engine, [], max_tokens=5, seeds=[]) == []
    for prompts, seeds in (([[]], [0]), ([long + long], [0]), ([long], [])):
        with pytest.raises(UsageError):
            answers(engine, prompts, max_tokens=5, seeds=seeds)


@pytest.mark.parametrize("kind", ["F32", "BF16", "Q8_0"])
def test_a_model_in_memory_runs_as_its_file_does(tmp_path, kind):
    in_memory = open_model(MODEL, file_type=kind, threads=1, context=64)
    on_disk = run.load(saved(MODEL, tmp_path, kind), threads=1, context=64)
    batch = (PROMPTS[0][:30], np.zeros(30), np.arange(30))
    np.testing.assert_array_equal(in_memory.forward(*batch), on_disk.forward(*batch))
