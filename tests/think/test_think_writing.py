"""Answers side by side, and thoughts with a budget."""

import numpy as np
import pytest
from tiny_models import random_model

from twofold.run import Engine, Sampler, open_model
from twofold.think.branches import Branches
from twofold.think.budget import Budget, Meter
from twofold.think.choosing import Candidate
from twofold.think.writing import Thoughts, Writer

MODEL = random_model("qwen3")
TOKENIZER = MODEL.tokenizer
PROMPT = TOKENIZER.chat([{"role": "user", "content": "When does the ferry leave?"}])
NEVER = {MODEL.config.vocab_size + 1}


def opened(sequences: int = 17) -> Engine:
    return open_model(MODEL, threads=1, context=128, sequences=sequences)


def write(
    tokens: int, *, sequences: int = 17, temperature: float = 0.9, stop: set[int] | None = None, **how: object
) -> tuple[list[Candidate], Meter]:
    meter = Meter(Budget(tokens=tokens))
    sampler = Sampler(temperature=temperature, min_p=0.02, seed=7)
    writer = Writer(
        Branches(opened(sequences), PROMPT, meter), sampler, **{"max_tokens": 6, **how},
        stop_ids=TOKENIZER.stop_ids if stop is None else stop,
    )  # type: ignore[arg-type]  # fmt: skip
    return [one for ended in writer.write() for one in ended] or [writer.cut()], meter


def test_the_first_answer_is_the_likeliest_and_no_more_is_spent_than_given() -> None:
    found, meter = write(60, stop=NEVER)
    greedy = [step.id for step in opened().generate(PROMPT, max_tokens=6, stop_ids=NEVER)]
    assert found[0].ids == greedy
    assert len(found) == 10  # of six tokens each
    assert meter.tokens <= 60
    assert len({tuple(one.ids) for one in found}) > 6


def test_an_answer_does_not_depend_on_what_is_written_beside_it() -> None:
    wide, narrow = write(60, sequences=17)[0], write(60, sequences=3)[0]
    assert {tuple(one.ids) for one in narrow[:6]} <= {tuple(one.ids) for one in wide}


def test_the_likelihood_is_that_of_the_logits() -> None:
    for one in write(60)[0]:
        whole = [*PROMPT, *one.ids]
        logits = opened().forward(whole, np.zeros(len(whole)), np.arange(len(whole))).astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected = sum(log_p[len(PROMPT) - 1 + n, token] for n, token in enumerate(one.ids))
        if not one.ended:
            assert one.log_p == pytest.approx(expected, abs=1e-3)
        else:
            assert one.log_p < expected


def test_a_model_that_has_nothing_to_say_comes_to_an_end() -> None:
    found, meter = write(20, stop=set(range(MODEL.config.vocab_size)))
    assert [one.ids for one in found] == [[]] * 20
    assert meter.over


def test_at_temperature_0_there_is_one_answer() -> None:
    assert len(write(500, temperature=0.0)[0]) == 1


def test_a_budget_smaller_than_an_answer_cuts_it() -> None:
    found, meter = write(3, stop=NEVER, max_tokens=50)
    assert len(found) == 1
    assert not found[0].ended
    assert len(found[0].ids) == meter.tokens == 3


@pytest.mark.parametrize("tokens", [24, 60])
def test_thoughts_are_closed_when_they_have_had_their_share(tokens: int) -> None:
    marks = Thoughts(TOKENIZER)
    found, _ = write(tokens, stop=NEVER, thinks=True, temperature=0.0)
    ids = found[0].ids
    assert ids[: len(marks.opening)] == marks.opening
    at = ids.index(marks.close_id)
    closing = len(marks.closing)
    assert abs(ids.index(marks.close_id) + closing - 0.75 * tokens) <= 2
    assert ids[at - marks.closing.index(marks.close_id) :][:closing] == marks.closing
    assert len(ids) - at - 1 == 6  # then an answer of its own length
    assert found[0].closed
    assert found[0].text == TOKENIZER.decode(ids[at + 1 :]).strip()
    assert found[0].thought == TOKENIZER.decode(ids[1 : at - 1]).strip()


def test_who_would_end_the_turn_in_thoughts_must_answer_first() -> None:
    """All tokens end a turn here, so that the first thought would."""
    stop = set(range(MODEL.config.vocab_size))
    marks = Thoughts(TOKENIZER)
    found, _ = write(40, stop=stop - set(marks.closing) - set(marks.opening), thinks=True, temperature=0.0)
    assert found[0].ids == [*marks.opening, *marks.closing]
    assert (found[0].thought, found[0].text, found[0].ended) == ("", "", True)


def test_an_answer_that_thinks_by_itself_is_parted() -> None:
    marks = Thoughts(TOKENIZER)
    ids = [marks.open_id, *TOKENIZER.encode("two and two"), marks.close_id, *TOKENIZER.encode("\n\nfour")]
    assert marks.split(ids, TOKENIZER) == ("two and two", "four")
    assert marks.split(ids[: marks.end(ids) - 1], TOKENIZER) == ("two and two", "")
    assert marks.split(TOKENIZER.encode(" four"), TOKENIZER) == ("", " four")
