"""Bits per byte: the sum over windows is the sum over tokens, whatever the window."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TEXT, random_model

from twofold import measure, parameters, run
from twofold.base.errors import UsageError
from twofold.run import Engine


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    parameters.save_gguf(random_model(request.param), path, "F32")
    return run.load(path, threads=1, backend="numpy")


def by_hand(engine: Engine, document: str) -> tuple[float, int]:
    """Return the nats and the number of predicted tokens of a short document, in one pass."""
    vocabulary = engine.tokenizer.vocabulary
    if vocabulary.add_bos:
        ids = [vocabulary.bos_id, *engine.tokenizer.encode(document), vocabulary.eos_id]
    else:
        end = engine.tokenizer.special_id("<|endoftext|>")
        ids = [end, *engine.tokenizer.encode(document), end]
    logits = engine.forward(ids, [0] * len(ids), list(range(len(ids)))).astype(np.float64)
    nats = 0.0
    for row, target in zip(logits, ids[1:], strict=False):
        nats += math.log(sum(math.exp(x) for x in row)) - row[target]
    return nats, len(ids) - 1


def test_a_short_document_is_one_pass(engine: Engine) -> None:
    documents = ["The ferry leaves at seven.", "Möwen, 船は", ""]
    score = measure.bits_per_byte(engine, documents)
    parts = [by_hand(engine, document) for document in documents]
    size = sum(len(document.encode()) for document in documents)
    assert score.nats == pytest.approx(sum(nats for nats, _ in parts), rel=1e-5)
    assert (score.tokens, score.bytes, score.documents) == (sum(count for _, count in parts), size, 3)
    assert score.bits_per_byte == pytest.approx(score.nats / math.log(2) / size)
    assert score.perplexity == pytest.approx(math.exp(score.nats / score.tokens))
    assert score.compression_ratio == pytest.approx(8 / score.bits_per_byte)


@pytest.mark.parametrize(("window", "overlap"), [(2, 0), (7, 3), (16, 15 - 1), (50, 0), (128, 64)])
def test_each_token_counts_once_whatever_the_window(engine: Engine, window: int, overlap: int) -> None:
    score = measure.bits_per_byte(engine, [TEXT[:300]], window=window, overlap=overlap)
    assert score.tokens == len(engine.tokenizer.encode(TEXT[:300])) + 1


def test_a_window_of_two_sees_one_token_back(engine: Engine) -> None:
    document = "The ferry leaves at seven."
    score = measure.bits_per_byte(engine, [document], window=2, overlap=0)
    vocabulary = engine.tokenizer.vocabulary
    start = vocabulary.bos_id if vocabulary.add_bos else vocabulary.eos_id
    ids = [start, *engine.tokenizer.encode(document), vocabulary.eos_id]
    nats = 0.0
    for token, target in itertools.pairwise(ids):
        row = engine.forward([token], [0], [0])[0].astype(np.float64)
        nats += math.log(np.exp(row).sum()) - row[target]
    assert score.nats == pytest.approx(nats, rel=1e-5)


def test_more_overlap_sees_more(engine: Engine) -> None:
    long = TEXT * 2
    whole = [measure.bits_per_byte(engine, [long], window=64, overlap=overlap) for overlap in (0, 32, 62)]
    assert len({score.tokens for score in whole}) == 1
    assert len({score.nats for score in whole}) == 3


def test_the_limit_and_the_progress(engine: Engine) -> None:
    seen: list[int] = []
    documents = iter(["abc", "def", "ghi", "jkl"])
    score = measure.bits_per_byte(engine, documents, limit_bytes=6, progress=seen.append)
    assert (score.bytes, score.documents, seen) == (6, 2, [3, 6])
    assert next(documents) == "ghi"


@pytest.mark.parametrize(
    ("documents", "settings", "message"),
    [
        ([], {}, "no text"),
        ([""], {}, "no text"),
        (["a"], {"window": 129}, "2 to 128 tokens"),
        (["a"], {"window": 1}, "2 to 128 tokens"),
        (["a"], {"window": 8, "overlap": 7}, "0 to 6"),
    ],
)
def test_mistakes_are_sentences(
    engine: Engine, documents: list[str], settings: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        measure.bits_per_byte(engine, documents, **settings)


def test_the_quantised_file_scores_like_the_exact_one(tmp_path: Path) -> None:
    model = random_model("qwen3")
    scores = []
    for kind in ("F32", "Q8_0"):
        parameters.save_gguf(model, tmp_path / f"{kind}.gguf", kind)
        loaded = run.load(tmp_path / f"{kind}.gguf", threads=1, backend="numpy")
        scores.append(measure.bits_per_byte(loaded, [TEXT]).bits_per_byte)
    assert scores[0] != scores[1]
    assert scores[1] == pytest.approx(scores[0], rel=0.01)
