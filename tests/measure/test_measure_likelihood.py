"""Likelihoods and greedy texts: what comes out of shared, batched passes is what single passes give."""

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TEXT, random_model

from twofold import parameters, run
from twofold.base.errors import UsageError
from twofold.measure.likelihood import Scorer, _waves
from twofold.run import Engine
from twofold.run.reference import Reference
from twofold.tokens.vocabulary import CONTROL


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    parameters.save_gguf(random_model(request.param), path, "F32")
    return path


@pytest.fixture(scope="module")
def engine(path: Path) -> Engine:
    return run.load(path, threads=1, sequences=5)


def said(engine: Engine, ids: list[int]) -> str:
    """Return the text of tokens without control tokens."""
    tokenizer = engine.tokenizer
    text = [one for one in ids if tokenizer.vocabulary.types[one] != CONTROL]
    return tokenizer.decode_bytes(text).decode("utf-8", "replace")


def by_hand(path: Path, engine: Engine, context: str, continuation: str) -> tuple[float, bool, int]:
    """Return ln p, greedy and the count by one pass of the numpy reference over the whole text."""
    tokenizer = engine.tokenizer
    v = tokenizer.vocabulary
    start = v.bos_id if v.add_bos else tokenizer.special_id("<|endoftext|>")
    bos = [start] if v.add_bos else []
    if context:
        bare = context.rstrip()
        before = bos + tokenizer.encode(bare)
        rest = (bos + tokenizer.encode(context + continuation))[len(before) :]
    else:
        before, rest = [start], tokenizer.encode(continuation)
    ids = [*before, *rest][-engine.context - 1 :]
    model = parameters.load(path)
    n = len(ids) - 1
    logits = Reference(model, context=n).forward(ids[:-1], [0] * n, list(range(n)), [True] * n)
    ln_p, greedy = 0.0, True
    for row, target in zip(logits[-len(rest) :].astype(np.float64), rest, strict=True):
        ln_p += row[target] - np.log(np.exp(row - row.max()).sum()) - row.max()
        greedy &= int(row.argmax()) == target
    return ln_p, greedy, len(rest)


PAIRS = [
    ("Question: Is there room for one more?\nAnswer:", " yes"),
    ("Question: Is there room for one more?\nAnswer:", " no"),
    ("Question: Is there room for one more?\nAnswer:", " always"),
    ("", "The ferry leaves at seven."),
    ("", " The ferry leaves at seven."),
    ("The ferry leaves at ", "seven"),
    ("The ferry leaves at", " seven"),
    ("The ferry", " leaves at seven, and the harbour wakes an hour before it."),
    ("Möwen", ", 船は七時に出ます。"),
]


def test_each_pair_is_as_the_reference_computes_it(path: Path, engine: Engine) -> None:
    found = Scorer(engine).likelihoods(PAIRS)
    for pair, one in zip(PAIRS, found, strict=True):
        ln_p, greedy, tokens = by_hand(path, engine, *pair)
        assert one.ln_p == pytest.approx(ln_p, abs=1e-4)
        assert (one.greedy, one.tokens, one.cut) == (greedy, tokens, 0)


def test_space_at_the_end_of_a_context_belongs_to_what_follows(engine: Engine) -> None:
    found = Scorer(engine).likelihoods([PAIRS[5], PAIRS[6]])
    assert found[0] == found[1]


def test_order_and_company_change_nothing(path: Path, engine: Engine) -> None:
    """Many texts with common beginnings of all lengths, in any order, in one call or in many."""
    generator = random.Random(5)
    words = TEXT.split()
    pairs = []
    for _ in range(60):
        start = generator.choice([0, 0, 40])
        middle = start + generator.randrange(1, 18)
        end = middle + generator.randrange(1, 6)
        pairs.append((" ".join(words[start:middle]), " " + " ".join(words[middle:end])))
    together = Scorer(engine).likelihoods(pairs)
    again = Scorer(engine)
    shuffled = generator.sample(range(len(pairs)), len(pairs))
    for number in shuffled:
        (alone,) = again.likelihoods([pairs[number]])
        assert alone.ln_p == pytest.approx(together[number].ln_p, abs=1e-4)
        assert alone.greedy == together[number].greedy
    for number in shuffled[:6]:
        assert together[number].ln_p == pytest.approx(by_hand(path, engine, *pairs[number])[0], abs=1e-4)


def test_what_does_not_fit_is_cut_on_the_left(path: Path, engine: Engine) -> None:
    long = TEXT * 2
    (one,) = Scorer(engine).likelihoods([(long, " The ferry leaves")])
    ln_p, _, tokens = by_hand(path, engine, long, " The ferry leaves")
    vocabulary = engine.tokenizer.vocabulary
    whole = len(engine.tokenizer.encode(long + " The ferry leaves")) + vocabulary.add_bos
    assert one.cut == whole - engine.context - 1
    assert one.tokens == tokens
    assert one.ln_p == pytest.approx(ln_p, abs=1e-4)


def test_a_rolling_likelihood_scores_every_token_once(path: Path, engine: Engine) -> None:
    scorer = Scorer(engine)
    short = TEXT[:90]
    assert scorer.rolling(short) == pytest.approx(by_hand(path, engine, "", short)[0], abs=1e-4)
    text = next(TEXT[:end] for end in range(len(TEXT)) if len(engine.tokenizer.encode(TEXT[:end])) == 170)
    ids = engine.tokenizer.encode(text)
    most = engine.context
    first = scorer.of_tokens([([scorer.start], ids[:most])])[0].ln_p
    rest = len(ids) - most  # the second window is as long as the first, and scores what that left
    context = ids[most - 1 - (most - rest) : most]
    assert len(context) + rest == most + 1
    assert scorer.rolling(text) == pytest.approx(first + scorer.of_tokens([(context, ids[most:])])[0].ln_p)


def test_a_continuation_needs_a_token(engine: Engine) -> None:
    with pytest.raises(UsageError, match="without a single token"):
        Scorer(engine).likelihoods([("The ferry", "")])


# --- the tree of passes


def played(
    rows: list[tuple[int, ...]], known: int, kept: tuple[int, ...]
) -> tuple[dict[int, list[int]], int]:
    """Return what each sequence holds after the passes, and how many tokens were run."""
    held: dict[int, list[int]] = {0: list(kept)}
    cost = 0
    for wave in _waves(rows, known):
        for source, target, length in wave.copies:
            assert len(held[source]) >= length
            held[target] = held[source][:length]
        for low, high, start, end in wave.runs:
            for row in rows[low:high]:
                assert row[:end] == rows[low][:end], "a pass is for rows that share it"
            before = held.get(low, [])
            assert tuple(before[:start]) == rows[low][:start], "what a pass builds on is there"
            held[low] = before[:start] + list(rows[low][start:end])
            cost += end - start
    return held, cost


def test_the_passes_leave_each_row_in_its_sequence() -> None:
    generator = random.Random(1)
    for _ in range(400):
        letters, longest = generator.choice([(2, 30), (3, 12), (9, 5)])
        stems = [tuple(generator.choices(range(letters), k=generator.randrange(longest))) for _ in range(3)]
        rows = sorted(
            {
                generator.choice(stems)
                + tuple(generator.choices(range(letters), k=generator.randrange(1, 9)))
                for _ in range(generator.randrange(1, 9))
            }
        )
        kept = rows[0][: generator.randrange(len(rows[0]))]
        held, cost = played(rows, len(kept), kept)
        for number, row in enumerate(rows):
            assert len(held[number]) >= len(row) or row == rows[0]
            assert tuple(held[number][: len(row)]) == row
        assert cost <= sum(map(len, rows)) - len(kept)


def test_a_shared_beginning_is_run_once() -> None:
    stem = tuple(range(100))
    rows = sorted((*stem, 200 + i, 300 + i) for i in range(8))
    assert played(rows, 0, ())[1] == 100 + 8 * 2
    assert played(rows, 90, stem[:90])[1] == 10 + 8 * 2


# --- writing


def greedy(engine: Engine, prompt: str, count: int) -> list[int]:
    vocabulary = engine.tokenizer.vocabulary
    ids = ([vocabulary.bos_id] if vocabulary.add_bos else []) + engine.tokenizer.encode(prompt)
    steps = engine.generate(ids, max_tokens=count, sampler=run.Sampler(temperature=0), stop_ids=())
    return [step.id for step in steps]


PROMPTS = [TEXT[at : at + 20 + at % 17] for at in range(0, 360, 30)]


def test_writing_together_is_as_writing_alone(engine: Engine) -> None:
    alone = [said(engine, greedy(engine, p, 12)) for p in PROMPTS]
    seen: dict[int, str] = {}
    together = Scorer(engine).write(
        PROMPTS, until=(), max_tokens=12, took=lambda number, written: seen.update({number: written.text})
    )
    stops = engine.tokenizer.stop_ids
    assert not any(token in stops for p in PROMPTS for token in greedy(engine, p, 12))
    assert [one.text for one in together] == alone
    assert [seen[number] for number in range(len(PROMPTS))] == alone


def test_a_stop_string_ends_a_text_and_is_left_out(engine: Engine) -> None:
    (whole,) = Scorer(engine).write(PROMPTS[:1], until=(), max_tokens=30)
    stop = whole.text[8:10]
    (short,) = Scorer(engine).write(PROMPTS[:1], until=("never that", stop), max_tokens=30)
    assert short.text == whole.text[: whole.text.index(stop)]


def test_a_stop_token_ends_a_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = greedy(engine, PROMPTS[0], 10)
    at = next(n for n in range(1, 10) if ids[n] not in ids[:n])
    monkeypatch.setattr(type(engine.tokenizer), "stop_ids", frozenset({ids[at]}))
    (written,) = Scorer(engine).write(PROMPTS[:1], until=(), max_tokens=10)
    assert written.text == said(engine, ids[:at])


def test_control_tokens_are_no_text(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = greedy(engine, PROMPTS[0], 10)
    types = list(engine.tokenizer.vocabulary.types)
    types[ids[3]] = CONTROL
    vocabulary = dataclasses.replace(engine.tokenizer.vocabulary, types=tuple(types))
    monkeypatch.setattr(engine.tokenizer, "vocabulary", vocabulary)
    (written,) = Scorer(engine).write(PROMPTS[:1], until=(), max_tokens=10)
    rest = [one for one in ids if one != ids[3]]
    assert written.text == said(engine, rest)
    assert len(written.text) < len(engine.tokenizer.decode(ids))


def test_a_prompt_leaves_room_for_the_answer(engine: Engine) -> None:
    (written,) = Scorer(engine).write([TEXT * 2], until=(), max_tokens=20)
    vocabulary = engine.tokenizer.vocabulary
    count = len(engine.tokenizer.encode(TEXT * 2)) + vocabulary.add_bos
    assert written.cut == count - (engine.context - 20)
