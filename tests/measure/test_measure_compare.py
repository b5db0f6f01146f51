"""Two models on the same items: the figures, their intervals, and what they allow to say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_models import random_model

from twofold import parameters, run
from twofold.base.errors import UsageError
from twofold.measure import compare
from twofold.measure.bits_per_byte import bits_per_byte
from twofold.measure.compare import Cost
from twofold.measure.evaluation import Answers, evaluate, prepare
from twofold.tokens.conversation import Conversation, encode

LN2 = math.log(2)


def test_a_difference_common_to_all_items_is_sure_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    before = [Cost(float(x), 10) for x in rng.uniform(5, 30, 40)]
    better = [
        Cost(cost.nats - 1 + float(e), 10) for cost, e in zip(before, rng.normal(0, 0.3, 40), strict=True)
    ]
    noise = [Cost(cost.nats + float(e), 10) for cost, e in zip(before, rng.normal(0, 3, 40), strict=True)]
    sure = compare.row("a", before, better)
    assert sure.difference == pytest.approx(-1 / LN2 / 10, rel=0.1)
    assert sure.better
    assert not sure.worse(0.0)
    unsure = compare.row("b", before, noise)
    assert not unsure.better
    assert not unsure.worse(0.0)  # noise
    assert compare.row("c", better, before).worse(0.02)
    assert not compare.row("c", better, before).worse(0.5)  # within the margin
    assert compare.row("d", before[:1], better[:1]).error is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits, rounds, truth = 0, 400, -0.05
    for _ in range(rounds):
        size = rng.integers(20, 200, 12)
        before = [Cost(float(x), int(n)) for x, n in zip(rng.uniform(1, 2, 12) * size, size, strict=True)]
        gain = truth * size + rng.normal(0, 1, 12) * np.sqrt(size)
        after = [Cost(c.nats + float(g), c.bytes) for c, g in zip(before, gain, strict=True)]
        found = compare.row("a", before, after)
        assert found.error is not None
        hits += abs(found.difference - truth / LN2) < found.error
    assert 0.91 < hits / rounds < 0.985


def test_nothing_to_compare_is_said() -> None:
    with pytest.raises(UsageError, match="nothing to compare on: a"):
        compare.row("a", [], [])


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[run.Engine]:
    folder = tmp_path_factory.mktemp("two")
    found = []
    for number in range(2):
        model = random_model("qwen3")
        tensors = {name: array * (1 + 0.2 * number) for name, array in model.tensors.items()}
        parameters.save_gguf(
            parameters.Model(model.config, model.tokenizer, {"name": "random"}, tensors),
            folder / f"{number}.gguf",
            "F32",
        )
        found.append(run.load(folder / f"{number}.gguf", threads=1, sequences=4))
    return found


def talk(answer: str) -> Conversation:
    return Conversation([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}], "made")


def test_answers_cost_what_their_tokens_cost(engines: list[run.Engine]) -> None:
    engine, conversation = engines[0], talk("Hello there, it is a fine day.")
    (cost,) = compare.of_answers(engine, [conversation])
    ids, mask = encode(conversation, engine.tokenizer)
    ids, mask = ids[1:], mask[1:]
    logits = engine.forward(ids, [0] * len(ids), list(range(len(ids)))).astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -sum(log_p[n - 1, ids[n]] for n in range(len(ids)) if mask[n])
    assert cost.nats == pytest.approx(nats, rel=1e-4)
    assert cost.bytes == len("Hello there, it is a fine day.")
    (long,) = compare.of_answers(engine, [talk("word " * 300)])  # beyond the window: as far as it goes
    assert math.isfinite(long.nats)


def test_a_model_is_no_better_than_itself(engines: list[run.Engine]) -> None:
    same = compare.compare(
        engines[0], engines[0], {"x": [talk("a b c"), talk("d e")]}, text=["The cat.", "A dog."]
    )
    assert [row.name for row in same] == ["x", compare.GENERAL]
    assert all(row.difference == 0 and not row.better for row in same)
    rows = compare.compare(
        engines[0], engines[1], {"x": [talk("a b c")], "none": []}, text=["The cat.", "A dog."]
    )
    assert rows[-1].before == pytest.approx(bits_per_byte(engines[0], ["The cat.", "A dog."]).bits_per_byte)
    assert rows[-1].after == pytest.approx(bits_per_byte(engines[1], ["The cat.", "A dog."]).bits_per_byte)
    assert compare.spelled(rows)[0][:2] == ("x", "1")


def test_benchmarks_at_hand_join_the_rows(
    engines: list[run.Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        {"UID": f"u{n % 3}", "term": "t", "good": f"The {n} gulls argue.", "bad": f"The {n} gulls argues."}
        for n in range(40)
    ]
    (tmp_path / "blimp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setenv("TWOFOLD_DATA", str(tmp_path))
    texts = {"x": [talk("a b c")]}
    rows = compare.compare(*engines, texts, text=["The cat."], tasks=("blimp", "piqa"))
    assert [row.name for row in rows] == ["x", compare.GENERAL, "blimp"]  # nothing of piqa is there
    last, task = rows[-1], prepare("blimp", tmp_path)
    right = [
        np.array([grades["acc"] for grades in evaluate(engine, task, Answers({})).grades])
        for engine in engines
    ]
    assert (last.items, last.unit) == (40, compare.RIGHT)
    assert (last.before, last.after) == pytest.approx((right[0].mean(), right[1].mean()))
    assert last.error == pytest.approx(1.96 * (right[1] - right[0]).std(ddof=1) / 40**0.5)
    assert compare.spelled(rows)[-1][:3] == ("blimp, right", "40", f"{100 * last.before:.1f} %")
    monkeypatch.setenv("TWOFOLD_DATA", str(tmp_path / "none"))
    assert [row.name for row in compare.compare(*engines, texts, text=["The cat."], tasks=("blimp",))] == [
        "x", compare.GENERAL,
    ]  # fmt: skip


def test_more_right_answers_are_better() -> None:
    more = compare.Row(name="a", items=9, before=0.5, after=0.6, error=0.05, unit=compare.RIGHT)
    fewer = compare.Row(name="a", items=9, before=0.6, after=0.5, error=0.05, unit=compare.RIGHT)
    assert more.better
    assert not more.worse(0.0)
    assert fewer.worse(0.02)
    assert not fewer.worse(0.3)
    assert not fewer.better


def test_the_general_text_is_plain(root: Path) -> None:
    passages = compare.general_text()
    assert 35_000 < sum(len(passage.encode()) for passage in passages) < 60_000
    assert len(set(passages)) == len(passages) >= 50
