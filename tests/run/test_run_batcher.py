"""Many requests at once: each gets the answer that it would get alone, and nobody waits for a lost one."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from tiny_models import random_model

from twofold.base.errors import TwofoldError, UsageError
from twofold.run import Engine, Sampler, open_model
from twofold.run import batcher as batcher_module
from twofold.run.answering import Answering
from twofold.run.batcher import Ask, Batcher, Busy, Closed
from twofold.run.sampling import choose

MODEL = random_model("qwen3")
NEVER = {1 << 30}  # no token ends the answer
COMMON = MODEL.tokenizer.encode("The ferry leaves at seven, and the harbour wakes an hour before it. " * 3)
TEXTS = ("Gulls", " In winter it is dark", "Gulls", " Who", " The twelfth soundings", " sees", "Gulls cry")
PROMPTS = [[*COMMON[: 20 * n], *MODEL.tokenizer.encode(text)] for n, text in enumerate(TEXTS)]


def engine_of(sequences: int, context: int = 128) -> Engine:
    return open_model(MODEL, threads=1, context=context, sequences=sequences)


def alone(prompt, **how) -> list[int]:
    """Return the answer that the engine itself gives."""
    how = {"max_tokens": 20, "stop_ids": {5, 9}, **how}
    return [step.id for step in engine_of(1).generate(prompt, speculate=False, **how)]


def samplers() -> list[Sampler]:
    return [
        Sampler(temperature=(0.0, 0.7, 1.3)[n % 3], top_k=(0, 7)[n % 2], seed=n) for n in range(len(PROMPTS))
    ]


def read(answering: Answering) -> list[int]:
    return [step.id for step in answering]


class Gate:
    """Lets an engine go step by step, and keeps what was run: a list of (token, sequence, position) each."""

    def __init__(self, engine: Engine) -> None:
        self.batches: list[list[tuple[int, int, int]]] = []
        self._permits, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        forward, write = engine.forward, engine.write

        def gated(tokens, sequences, positions, wanted=None):
            self._arrived.release()
            self._permits.acquire()
            self.batches.append(list(zip(tokens, sequences, positions, strict=True)))
            return forward(tokens, sequences, positions, wanted)

        def one_pass(tokens, sequences, positions, *how, stop, most):
            self._arrived.release()
            self._permits.acquire()
            self.batches.append(list(zip(tokens, sequences, positions, strict=True)))
            return write(tokens, sequences, positions, *how, stop=stop, most=1)

        engine.forward, engine.write = gated, one_pass

    def step(self, count: int = 1) -> None:
        """Let that many steps happen, and return when the next is about to."""
        for _ in range(count):
            self._permits.release()
            assert self._arrived.acquire(timeout=20)

    def wait(self) -> None:
        """Return when a step is about to happen."""
        assert self._arrived.acquire(timeout=20)

    def open(self) -> None:
        """Let everything pass from now on."""
        self._permits.release(10_000)


@pytest.fixture
def gated() -> Iterator[tuple[Batcher, Gate]]:
    engine = engine_of(2)
    gate = Gate(engine)
    batcher = Batcher(engine, waiting=4, chunk=24)
    yield batcher, gate
    gate.open()
    batcher.close()


@pytest.mark.parametrize(("sequences", "chunk"), [(1, 256), (3, 256), (3, 5), (8, 40)])
def test_an_answer_does_not_depend_on_what_runs_beside_it(sequences, chunk):
    batcher = Batcher(engine_of(sequences), chunk=chunk)
    for _ in range(2):  # the second time everything is known already
        asked = [
            batcher.submit(
                Ask(ids=prompt, max_tokens=20, sampler=sampler, stop_ids={5, 9}, owner=f"owner {n % 2}")
            )
            for n, (prompt, sampler) in enumerate(zip(PROMPTS, samplers(), strict=True))
        ]
        for prompt, sampler, answering in zip(PROMPTS, samplers(), asked, strict=True):
            found = read(answering)
            assert found == alone(prompt, sampler=sampler)
            assert answering.finish == ("stop" if found[-1] in {5, 9} else "length")
            assert answering.prompt_tokens == len(prompt)
    figures = batcher.figures()
    assert figures["requests"] == 2 * len(PROMPTS)
    assert figures["running"] == figures["waiting"] == 0
    assert figures["cached_tokens"] > figures["prompt_tokens"] / 3
    batcher.close()


def test_many_readers_in_one_event_loop():
    batcher = Batcher(engine_of(4))

    async def answer(prompt, sampler):
        ask = Ask(ids=prompt, max_tokens=20, sampler=sampler, stop_ids={5, 9})
        together, found = [], []
        async for step in (answering := batcher.submit(ask)):
            together.append(step.id)
            if not answering.more:
                found += together
                together = []
        return found + together

    async def everyone():
        return await asyncio.gather(*map(answer, PROMPTS, samplers()))

    expected = [alone(prompt, sampler=sampler) for prompt, sampler in zip(PROMPTS, samplers(), strict=True)]
    assert asyncio.run(everyone()) == expected
    batcher.close()


@pytest.mark.parametrize(("pace_s", "woken"), [(60.0, range(2, 4)), (0.0, range(8, 22))])
def test_a_reader_is_woken_for_the_first_token_the_last_and_as_often_as_paced(monkeypatch, pace_s, woken):
    monkeypatch.setattr(batcher_module, "_PACE_S", pace_s)
    monkeypatch.setattr(batcher_module, "_PACE_MOST_S", pace_s)
    times, wake = [], batcher_module.wake

    def counted(answers):
        answers = list(answers)
        times.extend(answers)
        wake(answers)

    monkeypatch.setattr(batcher_module, "wake", counted)
    batcher = Batcher(engine_of(2))
    answering = batcher.submit(Ask(ids=[7], max_tokens=20, stop_ids={MODEL.config.vocab_size - 1}))
    assert len(read(answering)) == 20
    batcher.close()
    assert len(times) in woken  # guesses bring several tokens at once


def test_a_long_prompt_holds_nobody_up(gated):
    batcher, gate = gated
    short = batcher.submit(Ask(ids=PROMPTS[0], max_tokens=12, stop_ids=NEVER))
    gate.wait()
    gate.step(2)
    long = batcher.submit(Ask(ids=COMMON, max_tokens=3, stop_ids=NEVER))
    before = len(gate.batches)
    gate.step(4)
    for batch in gate.batches[before + 1 :]:
        assert [sequence for _, sequence, _ in batch].count(0) == 1  # a token of the answer in each
        assert 1 < len(batch) <= 25
    gate.open()
    assert read(long) == alone(COMMON, max_tokens=3, stop_ids=NEVER)
    assert read(short) == alone(PROMPTS[0], max_tokens=12, stop_ids=NEVER)


def test_where_reading_is_slow_less_is_read_beside_an_answer(gated):
    batcher, gate = gated
    batcher.submit(Ask(ids=PROMPTS[0], max_tokens=9, stop_ids=NEVER))
    gate.wait()
    gate.step(2)
    long = batcher.submit(Ask(ids=COMMON, max_tokens=2, stop_ids=NEVER))
    batcher._token_s = 1.0  # seconds
    gate.step(2)
    assert len(gate.batches[-1]) == 16 + 1
    gate.open()
    assert read(long) == alone(COMMON, max_tokens=2, stop_ids=NEVER)


def test_what_two_prompts_begin_with_is_read_once(gated):
    batcher, gate = gated
    first = batcher.submit(Ask(ids=COMMON, max_tokens=4, stop_ids=NEVER))
    gate.wait()
    second = batcher.submit(Ask(ids=[*COMMON, 7], max_tokens=4, stop_ids=NEVER))
    gate.open()
    assert read(first) == alone(COMMON, max_tokens=4, stop_ids=NEVER)
    assert read(second) == alone([*COMMON, 7], max_tokens=4, stop_ids=NEVER)
    read_tokens = sum(position < len(COMMON) for batch in gate.batches for _, _, position in batch)
    assert read_tokens == len(COMMON)
    assert (first.cached_tokens, second.cached_tokens) == (0, len(COMMON))
    again = batcher.submit(Ask(ids=COMMON, max_tokens=4, stop_ids=NEVER))
    read(again)
    assert again.cached_tokens == len(COMMON) - 1  # the last is run for its logits


def test_the_sequence_unused_for_longest_gives_way():
    batcher = Batcher(engine_of(2))
    chats = [[n, *COMMON] for n in range(3)]
    for chat in (chats[0], chats[1], chats[2]):  # the third takes the place of the first
        read(batcher.submit(Ask(ids=chat, max_tokens=2, stop_ids=NEVER)))
    cached = {}
    for n in (2, 1, 0):
        answering = batcher.submit(Ask(ids=[*chats[n], 8], max_tokens=2, stop_ids=NEVER))
        read(answering)
        cached[n] = answering.cached_tokens
    assert cached == {2: len(COMMON) + 1, 1: len(COMMON) + 1, 0: 0}
    batcher.close()


def test_cancelling_frees_the_place_before_the_next_step(gated):
    batcher, gate = gated
    asked = [batcher.submit(Ask(ids=PROMPTS[n], max_tokens=50, stop_ids=NEVER)) for n in range(4)]
    gate.wait()
    gate.step(3)
    asked[0].cancel()  # it runs
    asked[2].cancel()  # it waits
    assert asked[2].finish == "cancelled"
    assert read(asked[2]) == []
    gate.step(2)
    first = gate.batches[0][0][1]
    assert [sequence for _, sequence, _ in gate.batches[-2]].count(first) == 1  # it was going on
    assert [sequence for _, sequence, _ in gate.batches[-1]].count(first) > 1  # the next one's prompt
    gate.open()
    found = read(asked[0])
    assert asked[0].finish == "cancelled"
    assert 3 <= len(found) <= 4  # the step that was going on may have made one more
    assert found == alone(PROMPTS[0], max_tokens=50, stop_ids=NEVER)[: len(found)]
    assert len(read(asked[3])) == 50
    asked[3].cancel()
    assert asked[3].finish == "length"


def test_owners_get_equal_shares():
    engine = engine_of(4)
    gate = Gate(engine)
    batcher = Batcher(engine)
    greedy = [
        batcher.submit(Ask(ids=[n, 3], max_tokens=60, stop_ids=NEVER, owner="greedy")) for n in range(9)
    ]
    gate.wait()
    gate.step(5)
    modest = [
        batcher.submit(Ask(ids=[n, 4, 4], max_tokens=60, stop_ids=NEVER, owner="modest")) for n in range(3)
    ]
    gate.step(2)
    assert batcher.figures()["pauses"] == 2  # two of the four places
    late = batcher.submit(Ask(ids=[9, 9], max_tokens=5, stop_ids=NEVER, owner="late"))
    gate.step(7)
    assert late.finish == "length"
    assert {answering.finish for answering in [*greedy, *modest]} == {None}
    gate.open()
    assert read(late) == alone([9, 9], max_tokens=5, stop_ids=NEVER)
    for n, answering in enumerate(greedy):
        assert read(answering) == alone([n, 3], max_tokens=60, stop_ids=NEVER)
    for n, answering in enumerate(modest):
        assert read(answering) == alone([n, 4, 4], max_tokens=60, stop_ids=NEVER)
    batcher.close()


def test_owners_who_have_gone_are_forgotten():
    batcher = Batcher(engine_of(4))
    for n in range(600):
        read(batcher.submit(Ask(ids=[5], max_tokens=1, owner=f"owner {n}")))
    assert len(batcher._served) < 300
    batcher.close()


def test_who_asks_for_what_cannot_be_is_told(gated):
    batcher, gate = gated
    for ids in ([], [1] * 129, [1, 384], [-1]):
        with pytest.raises(UsageError):
            batcher.submit(Ask(ids=ids, max_tokens=5))
    with pytest.raises(UsageError, match="max_tokens"):
        batcher.submit(Ask(ids=[1], max_tokens=0))
    batcher.submit(Ask(ids=[1], max_tokens=9))
    gate.wait()  # it has left the queue
    for _ in range(4):
        batcher.submit(Ask(ids=[1], max_tokens=5))
    with pytest.raises(Busy, match="later"):
        batcher.submit(Ask(ids=[1], max_tokens=5))


def test_the_end_of_the_room_ends_an_answer():
    batcher = Batcher(engine_of(2, context=32))
    answering = batcher.submit(Ask(ids=COMMON[:30], max_tokens=50, stop_ids=NEVER))
    assert len(read(answering)) == 3  # two that are run, and one that needs not be
    assert answering.finish == "length"
    assert len(read(batcher.submit(Ask(ids=COMMON[:32], max_tokens=50, stop_ids=NEVER)))) == 1
    batcher.close()


def test_closing_lets_answers_end_that_can():
    batcher = Batcher(engine_of(2))
    asked = [batcher.submit(Ask(ids=prompt, max_tokens=10, stop_ids=NEVER)) for prompt in PROMPTS]
    batcher.close(grace_s=60)
    assert [len(read(answering)) for answering in asked] == [10] * len(PROMPTS)
    with pytest.raises(Closed):
        batcher.submit(Ask(ids=[1], max_tokens=1))


def test_closing_at_once_cancels():
    engine = engine_of(2)
    gate = Gate(engine)
    batcher = Batcher(engine)
    asked = [batcher.submit(Ask(ids=prompt, max_tokens=20, stop_ids=NEVER)) for prompt in PROMPTS]
    gate.wait()
    gate.step(3)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    while not batcher._closed:
        time.sleep(0.001)
    gate.open()
    closing.join()
    assert {answering.finish for answering in asked} == {"cancelled"}
    assert [len(read(answering)) for answering in asked][2:] == [0] * (len(PROMPTS) - 2)


def test_a_failure_of_the_engine_reaches_everybody():
    engine = engine_of(2)

    def fails(*_):
        raise MemoryError("no room")

    engine.forward = fails
    batcher = Batcher(engine)
    asked = [batcher.submit(Ask(ids=[n + 1], max_tokens=5)) for n in range(3)]
    for answering in asked:
        with pytest.raises(TwofoldError, match="no room"):
            read(answering)
        assert answering.finish == "error"
    with pytest.raises(Closed, match="no room"):
        batcher.submit(Ask(ids=[1], max_tokens=5))
    batcher.close()


def test_who_is_alone_is_written_by_guesses():
    batcher = Batcher(engine_of(2))
    batcher._pacer.length = lambda: 3  # what passes take is not for a test to say
    sampler = Sampler(temperature=0.3, repetition_penalty=1.01, seed=3)
    prompt = [3, 4, 5, 6, 7, 8] * 8
    answering = batcher.submit(Ask(ids=prompt, max_tokens=70, sampler=sampler, stop_ids=NEVER))
    assert read(answering) == alone(prompt, max_tokens=70, sampler=sampler, stop_ids=NEVER)
    assert batcher.figures()["steps"] < 66
    assert batcher.figures()["tokens"] == 70
    batcher.close()


@pytest.mark.parametrize("guesses", [0, 3])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_penalties_count_the_answer_and_a_bias_always_holds(temperature, guesses):
    """Against the formula of OpenAI's API, token by token, with each one's logits computed anew."""
    presence, frequency, bias = 0.4, 0.7, {33: 2.5, 70: -4.0}
    prompt, expected = [3, 4, 5, 6, 7, 8] * 4, []
    engine, state = engine_of(1), 11
    for _ in range(40):
        ids = [*prompt, *expected]
        logits = engine.forward(ids, [0] * len(ids), range(len(ids)))[-1]
        for token, gain in bias.items():
            logits[token] += gain
        for token in set(expected):
            logits[token] -= presence + frequency * expected.count(token)
        token, _, state = choose(logits, Sampler(temperature=temperature), [], state)
        expected.append(token)

    batcher = Batcher(engine_of(2))
    batcher._pacer.length = lambda: guesses
    sampler = Sampler(
        temperature=temperature, presence_penalty=presence, frequency_penalty=frequency,
        bias=tuple(bias.items()), seed=11,
    )  # fmt: skip
    assert read(batcher.submit(Ask(ids=prompt, max_tokens=40, sampler=sampler, stop_ids=NEVER))) == expected
    batcher.close()
    plain = dataclasses.replace(sampler, presence_penalty=0.0, frequency_penalty=0.0)
    assert alone(prompt, max_tokens=40, sampler=plain, stop_ids=NEVER) != expected


@pytest.mark.parametrize("chunk", [7, 256])
def test_a_prompt_can_be_read_back(chunk):
    engine = engine_of(2)
    prompt = PROMPTS[3]
    logits = engine.forward(prompt, np.zeros(len(prompt)), np.arange(len(prompt))).astype(np.float64)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    batcher = Batcher(engine, chunk=chunk)
    beside = batcher.submit(Ask(ids=PROMPTS[1], max_tokens=9, stop_ids=NEVER))
    answering = batcher.submit(Ask(ids=prompt, max_tokens=0, echo=True, alternatives=4))
    assert read(answering) == []
    assert answering.finish == "length"
    assert [step.id for step in answering.echo] == prompt[1:]
    np.testing.assert_allclose(
        [step.probability for step in answering.echo], p[np.arange(len(prompt) - 1), prompt[1:]], rtol=1e-4
    )
    for step, row in zip(answering.echo, p, strict=False):
        assert [token for token, _ in step.alternatives] == np.argsort(-row)[:4].tolist()
    assert read(beside) == alone(PROMPTS[1], max_tokens=9, stop_ids=NEVER)
    more = batcher.submit(Ask(ids=prompt, max_tokens=6, echo=True, stop_ids=NEVER))
    assert read(more) == alone(prompt, max_tokens=6, stop_ids=NEVER)
    assert len(more.echo) == len(prompt) - 1
    batcher.close()


def test_alternatives_are_named_when_asked_for():
    batcher = Batcher(engine_of(2))
    steps = list(batcher.submit(Ask(ids=PROMPTS[2], max_tokens=5, stop_ids=NEVER, alternatives=8)))
    assert steps == list(engine_of(1).generate(PROMPTS[2], max_tokens=5))
    plain = list(batcher.submit(Ask(ids=PROMPTS[2], max_tokens=5, stop_ids=NEVER)))
    assert [(step.id, step.probability) for step in plain] == [(s.id, s.probability) for s in steps]
    assert all(step.alternatives == () for step in plain)
    batcher.close()


class Failing:
    """A constraint that gives up at the third token."""

    def __init__(self) -> None:
        self.taken, self.done = 0, False

    def mask(self, left: int) -> None:
        if self.taken == 3:
            raise TwofoldError("too complex")

    def take(self, token: int) -> None:
        self.taken += 1

    def forced(self) -> list[int]:
        return []


def test_a_constraint_that_gives_up_ends_one_answer():
    batcher = Batcher(engine_of(3))
    asked = [
        batcher.submit(
            Ask(ids=PROMPTS[n], max_tokens=9, stop_ids=NEVER, constraint=Failing() if n == 1 else None)
        )
        for n in range(3)
    ]
    found: list[int] = []
    with pytest.raises(TwofoldError, match="too complex"):
        found.extend(step.id for step in asked[1])
    assert found == alone(PROMPTS[1], max_tokens=9, stop_ids=NEVER)[:3]
    for n in (0, 2):
        assert read(asked[n]) == alone(PROMPTS[n], max_tokens=9, stop_ids=NEVER)
    batcher.close()


def test_who_only_write_are_not_handed_over_token_by_token():
    engine = engine_of(3)
    write, runs = engine.write, []

    def counted(*what, **how):
        found = write(*what, **how)
        runs.append(len(found[0]))
        return found

    engine.write = counted
    batcher = Batcher(engine)
    batcher._pass_s = dict.fromkeys((1, 2, 3), 1e-9)  # what passes take is not for a test to say
    asked = [
        batcher.submit(Ask(ids=prompt, max_tokens=20, sampler=sampler, stop_ids={5, 9}))
        for prompt, sampler in zip(PROMPTS, samplers(), strict=True)
    ]
    expected = [alone(prompt, sampler=sampler) for prompt, sampler in zip(PROMPTS, samplers(), strict=True)]
    assert [read(answering) for answering in asked] == expected
    assert max(runs) > 5
    assert batcher.figures()["tokens"] == sum(map(len, expected))
    runs.clear()
    named = batcher.submit(Ask(ids=PROMPTS[0], max_tokens=5, alternatives=2, stop_ids=NEVER))
    assert all(step.alternatives for step in named)
    assert not runs  # what else is asked for needs each token's logits
    batcher.close()
