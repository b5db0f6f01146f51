"""The policy: which method it takes, when it stops, and that the same seed gives the same answer."""

import dataclasses
import itertools
import re

import pytest
from tiny_models import random_model

from twofold.base.errors import UsageError
from twofold.run import Engine, Sampler, open_model
from twofold.think import Budget, Found, Question, Thinker, ask, think
from twofold.think.writing import Thoughts

MODEL = random_model("qwen3")
TOKENIZER = MODEL.tokenizer
ANSWERS = Sampler(temperature=0.9, seed=3)


def prompt(text: str) -> list[int]:
    return TOKENIZER.chat([{"role": "user", "content": text}])


PLAIN = Question(prompt("When does the ferry leave?"))


def opened(sequences: int = 9) -> Engine:
    return open_model(MODEL, threads=1, context=128, sequences=sequences)


def answered(question: Question, budget: str, **how: object) -> Found:
    how = {"sampler": ANSWERS, "max_tokens": 8, **how}
    return think(opened(), question, Budget.parse(budget), **how)


def test_the_question_decides_the_method() -> None:
    checked = dataclasses.replace(PLAIN, verifier=lambda _: 0.0)
    scored = dataclasses.replace(PLAIN, scorer=lambda texts: [len(text) for text in texts])
    cold = Sampler(temperature=0.0)
    for question, sampler, method in (
        (PLAIN, ANSWERS, "vote"), (PLAIN, cold, "greedy"), (checked, ANSWERS, "search"),
        (checked, cold, "search"), (scored, ANSWERS, "best"), (scored, cold, "greedy"),
    ):  # fmt: skip
        assert answered(question, "40", sampler=sampler).method == method
    assert answered(checked, "40", method="best").method == "best"


def test_texts_that_a_task_can_check_are_known_and_others_are_not() -> None:
    question = ask("Make 24 from 8, 8 and 11.", [1], prompt)
    assert question.verifier is not None
    assert (question.verifier("8 * (11 - 8)"), question.verifier("8 + 8")) == (1.0, 0.0)
    game = ask("| - xxx ooo - - - o |", [1], prompt)
    assert game.position is not None
    assert game.position.text == "| - xxx ooo - - - o |"
    for text in ("Make tea from water.", "What is 93 - 56?", "x o", "| oooo xxx - - - - - |", "- - - -", ""):
        assert ask(text, [1], prompt) == Question([1])


@pytest.mark.parametrize("text", ["Hello", "Make 24 from 8, 8 and 11.", "| x - oxo - - - o |"])
@pytest.mark.parametrize("tokens", [1, 7, 60, 400])
def test_tokens_and_seed_give_the_same_answer_within_the_budget(text: str, tokens: int) -> None:
    question = ask(text, prompt(text), prompt)
    one, other = (answered(question, str(tokens)) for _ in range(2))
    assert _timeless(one) == _timeless(other)
    longest = len(question.ids) if question.position else 1
    assert one.tokens <= tokens + 8 * longest  # one pass more at most
    assert re.search(r"; \d+ of [\d,]+ tokens? in ", one.how)


def _timeless(found: Found) -> Found:
    return dataclasses.replace(found, seconds=0.0, how=re.sub(r" in [\d.]+ m?s$", "", found.how))


def test_it_stops_as_soon_as_an_answer_is_right() -> None:
    all_of_them = answered(PLAIN, "400", method="best").candidates
    target = Thinker(opened(), PLAIN, Budget(tokens=400), sampler=ANSWERS, max_tokens=8, method="best")
    *_, _ = target.run()
    wanted = target.candidates[len(target.candidates) // 2].text
    question = dataclasses.replace(PLAIN, verifier=lambda text: float(text == wanted), checker="the test")
    found = answered(question, "400", method="best")
    assert (found.text, found.right) == (wanted, True)
    assert found.candidates < all_of_them
    assert "answers until one passed the test" in found.how
    hopeless = dataclasses.replace(PLAIN, verifier=lambda _: 0.0)
    assert "none of" in answered(hopeless, "100").how
    assert not answered(hopeless, "100").right


def test_a_search_finds_what_its_verifier_wants() -> None:
    target = Thinker(opened(), PLAIN, Budget(tokens=600), sampler=ANSWERS, max_tokens=3, method="search")
    for _ in target.run():
        pass
    wanted = target.candidates[-1].text
    question = dataclasses.replace(PLAIN, verifier=lambda text: float(text == wanted))
    found = answered(question, "600", max_tokens=3)
    assert (found.text, found.right) == (wanted, True)


def test_the_scorers_favourite_is_given() -> None:
    question = dataclasses.replace(PLAIN, scorer=lambda texts: [text.count("e") for text in texts])
    found = answered(question, "200")
    drawn = answered(PLAIN, "200", method="best")
    assert found.candidates == drawn.candidates
    assert found.text.count("e") >= drawn.text.count("e")
    assert "by its score" in found.how


def test_seconds_end_it_by_the_clock() -> None:
    """Each look at the clock takes a hundredth of a second here."""
    count = itertools.count()

    def clock() -> float:
        return next(count) / 100

    found = answered(PLAIN, "1s", clock=clock)
    assert 0.5 < found.seconds < 1.2
    assert found.candidates > 2
    assert found.how.endswith("of 1 s")


def test_the_best_so_far_can_be_had_at_any_time() -> None:
    for question in (PLAIN, dataclasses.replace(PLAIN, verifier=lambda _: 0.0)):
        thinker = Thinker(opened(), question, Budget(tokens=300), sampler=ANSWERS, max_tokens=8)
        before = thinker.found()
        assert (before.text, before.cut) == ("", True)
        run = thinker.run()
        for _ in range(3):
            next(run)
        early = thinker.found()
        for _ in run:
            pass
        assert early.tokens < thinker.found().tokens
    game = ask("| x - oxo - - - o |", prompt("| x - oxo - - - o |"), prompt)
    thinker = Thinker(opened(), game, Budget(tokens=300), sampler=ANSWERS, max_tokens=8)
    assert "the model's own move" in thinker.found().how


def test_a_model_that_thinks_is_seen_from_its_probabilities() -> None:
    """A large embedding of <think> makes it likely where it was not."""
    thoughts = Thoughts(TOKENIZER)
    engine = opened()
    plain = Thinker(engine, PLAIN, Budget(tokens=50), sampler=ANSWERS, max_tokens=8)
    assert not plain.thinks
    tensors = dict(MODEL.tensors)
    table = tensors["token_embd.weight"].copy()
    logits = engine.forward(PLAIN.ids, [0] * len(PLAIN.ids), range(len(PLAIN.ids)))[-1]
    table[thoughts.open_id] = 1.2 * table[int(logits.argmax())]
    tensors["token_embd.weight"] = table
    other = open_model(dataclasses.replace(MODEL, tensors=tensors), threads=1, context=128, sequences=9)
    thinker = Thinker(other, PLAIN, Budget(tokens=80), sampler=ANSWERS, max_tokens=8)
    assert thinker.thinks
    for _ in thinker.run():
        pass
    found = thinker.found()
    assert found.ids[0] == thoughts.open_id
    assert found.thought_tokens == thoughts.end(found.ids) > 0
    assert "thoughts" in found.how


def test_moves_are_for_games() -> None:
    with pytest.raises(UsageError, match="games"):
        answered(PLAIN, "10", method="moves")
