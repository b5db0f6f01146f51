"""Guessing ahead changes how fast tokens come, never which."""

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from engines import saved
from tiny_models import random_model

from twofold import run
from twofold.base.errors import UsageError
from twofold.run import Engine
from twofold.run.sampling import Sampler
from twofold.run.speculation import LENGTHS, Pacer, PromptLookup

HOW = (
    Sampler(),
    Sampler(temperature=1.0, seed=5),
    Sampler(temperature=0.7, seed=6, top_k=9, repetition_penalty=1.2),
    Sampler(
        temperature=0.3, seed=7, presence_penalty=0.3, frequency_penalty=-0.2, bias=((40, 3.0), (41, -9.0))
    ),
)


class Oracle:
    """A draft that knows what will come, with some mistakes put in."""

    def __init__(self, truth: Sequence[int], wrong_every: int) -> None:
        self.truth, self.wrong_every, self.asked = list(truth), wrong_every, 0

    def guess(self, ids: Sequence[int], count: int) -> list[int]:
        self.asked += 1
        ahead = self.truth[len(ids) : len(ids) + count]
        return [t if (len(ids) + i) % self.wrong_every else (t + 1) % 300 for i, t in enumerate(ahead)]


def eager(engine: Engine, monkeypatch: pytest.MonkeyPatch, count: int = 3) -> None:
    """Let every pass check `count` guesses, whatever it costs."""
    monkeypatch.setattr(engine._pacer, "length", lambda: count)


@pytest.mark.parametrize("sampler", HOW, ids=["greedy", "sampled", "filtered", "penalised"])
@pytest.mark.parametrize("count", LENGTHS)
@pytest.mark.parametrize("wrong_every", [1, 2, 5, 1000])
def test_the_output_is_what_it_would_have_been(
    wrong_every: int, count: int, sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(random_model("qwen3"), tmp_path, "Q8_0")
    ids = list(range(5, 17))
    plain = list(run.load(path, backend="c").generate(ids, max_tokens=60, sampler=sampler, speculate=False))
    engine = run.load(path, backend="c")
    eager(engine, monkeypatch, count)
    draft = Oracle([*ids, *(step.id for step in plain)], wrong_every)
    passes = [0]
    forward = engine.forward
    monkeypatch.setattr(engine, "forward", lambda *a: (passes.__setitem__(0, passes[0] + 1), forward(*a))[1])
    assert list(engine.generate(ids, max_tokens=60, sampler=sampler, draft=draft)) == plain
    assert draft.asked
    if wrong_every == 1000:
        assert passes[0] <= 60 // (count + 1) + 3  # several tokens a pass
    # What is in the cache afterwards is right, too: the same tokens again, from where it stands.
    again = engine.generate([*ids, *(s.id for s in plain[:30])], max_tokens=10, sampler=Sampler())
    fresh = run.load(path, backend="c").generate([*ids, *(s.id for s in plain[:30])], max_tokens=10)
    assert [s.id for s in again] == [s.id for s in fresh]


def test_a_stop_token_and_a_full_context_end_it_in_the_middle_of_guesses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(random_model("llama", context=40), tmp_path)
    ids = [3, 4, 5]
    plain = [s.id for s in run.load(path, backend="c").generate(ids, max_tokens=100, speculate=False)]
    assert len(plain) == 38
    for stop in ((), (plain[9],), (plain[20],)):
        engine = run.load(path, backend="c")
        eager(engine, monkeypatch, 7)
        made = engine.generate(ids, max_tokens=100, stop_ids=stop, draft=Oracle([*ids, *plain], 1000))
        end = plain.index(stop[0]) + 1 if stop else len(plain)
        assert [s.id for s in made] == plain[:end]
    for most in (0, 1, 2, 5):
        assert len(list(engine.generate(ids, max_tokens=most, draft=Oracle([*ids, *plain], 1000)))) == most


def test_a_smaller_model_guesses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "draft").mkdir()
    path = saved(random_model("qwen3"), tmp_path)
    small = run.load(saved(random_model("qwen3", layers=1, seed=9), tmp_path / "draft"), backend="c")
    plain = [s.id for s in run.load(path, backend="c").generate([1, 2, 3], max_tokens=40)]
    for draft in (small, run.load(path, backend="c")):  # one that is never right, one that always is
        engine = run.load(path, backend="c")
        eager(engine, monkeypatch)
        assert [s.id for s in engine.generate([1, 2, 3], max_tokens=40, draft=draft)] == plain
    other = run.load(saved(random_model("llama"), tmp_path / "draft", "F16"), backend="c")
    if other.config.vocab_size != engine.config.vocab_size:
        with pytest.raises(UsageError, match="vocabular"):
            engine.generate([1, 2, 3], max_tokens=1, draft=other)


def test_prompt_lookup_finds_what_followed_last() -> None:
    lookup = PromptLookup()
    assert lookup.guess([1, 2], 3) == []
    ids = [1, 2, 3, 4, 5, 9, 2, 3, 7, 8, 6]
    assert lookup.guess(ids, 3) == []
    assert lookup.guess([*ids, 2, 3], 3) == [7, 8, 6]  # the last time that 2 3 stood there
    assert lookup.guess([*ids, 2, 3, 4], 2) == [5, 9]  # three tokens tell more than two
    assert lookup.guess([*ids, 2, 3, 4, 5, 9], 7) == [2, 3, 7, 8, 6, 2, 3]


def test_the_pacer_guesses_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    def after(times: dict[int, float], right: int, made: int) -> int:
        now = [0.0]
        monkeypatch.setattr(time, "perf_counter", lambda: now[0])
        pacer = Pacer()
        assert pacer.length() == 0  # nothing is known yet
        for tokens, seconds in times.items():
            now[0] = seconds
            pacer.timed(tokens, 0.0)
        for _ in range(30):
            pacer.judged(right, made)
        return pacer.length()

    assert after({1: 1.0, 4: 1.1, 8: 1.3}, 7, 7) == 7  # reading weights is all that costs
    assert after({1: 1.0, 4: 1.1, 8: 3.0}, 3, 3) == 3
    assert after({1: 1.0, 4: 3.9, 8: 7.8}, 7, 7) == 0  # arithmetic is
    assert after({1: 1.0, 4: 1.1, 8: 1.3}, 0, 3) == 0  # guesses are wrong


def test_a_prefix_that_any_sequence_holds_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(random_model("qwen3"), tmp_path)
    engine = run.load(path, backend="c", sequences=3)
    prefix = list(range(10, 90))
    list(engine.generate([*prefix, 1], max_tokens=1, sequence=0))
    fed: list[int] = []
    forward = engine.forward
    monkeypatch.setattr(engine, "forward", lambda t, *rest: (fed.append(len(t)), forward(t, *rest))[1])
    made = [s.id for s in engine.generate([*prefix, 2, 3], max_tokens=5, sequence=2, speculate=False)]
    assert fed == [2, 1, 1, 1, 1]
    fresh = run.load(path, backend="c").generate([*prefix, 2, 3], max_tokens=5, speculate=False)
    assert made == [s.id for s in fresh]
