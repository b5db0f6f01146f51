"""The stream that the box reads: prose first, then a mixture; renewing the mixture leaves the prose alone."""

import json
import random
from pathlib import Path

import box_dialogues
import box_stream
import numpy as np
import pytest

from twofold.base.errors import UsageError
from twofold.corpus import Conversation, Corpus, prepare

WORDS = [
    "the",
    "fox",
    "met",
    "a",
    "hen",
    "near",
    "old",
    "barn",
    "and",
    "said",
    "that",
    "it",
    "was",
    "cold",
    "under",
    "big",
    "oak",
    "tree",
    "by",
    "river",
]
GLOSSES = [f"word{n}, noun: a thing of kind {n}." for n in range(300)]


def talk(count: int, mark: str) -> list[Conversation]:
    call = {"name": mark, "arguments": {"sum": "1 + 1"}}
    messages = [
        {"role": "user", "content": f"Say {mark}."},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": f"It is {mark}."},
    ]
    return [Conversation(messages, "own") for _ in range(count)]


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Return a corpus of 200 documents, whose tokenizer was learned from talk too."""
    folder = tmp_path_factory.mktemp("prose")
    rng = random.Random(0)
    texts = [f"{n}: " + " ".join(rng.choices(WORDS, k=60)) for n in range(200)]
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokenizer = box_stream.learn_tokenizer(folder / "tokenizer.json", path, talk(50, "zebra"), 448)
    return prepare(path, folder / "corpus", tokenizer=tokenizer)


def test_the_tokenizer_learns_from_talk_too_and_is_kept(prose: Corpus, tmp_path: Path) -> None:
    tokenizer = prose.tokenizer
    assert len(tokenizer.encode("zebra")) == 1, "it only occurs in the talk"
    assert len(tokenizer.encode("1234")) == 4, "each digit is a token of its own"
    kept = tmp_path / "tokenizer.json"
    tokenizer.save(kept)
    again = box_stream.learn_tokenizer(kept, tmp_path / "missing", [], 999)
    assert again.vocab_size == tokenizer.vocab_size


def test_prose_comes_first_then_the_mixture(
    prose: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(box_stream, "shuffle", lambda *_: None)  # which cuts documents into windows
    wanted = 6000
    made = box_stream.make(tmp_path, prose, GLOSSES, talk(500, "zebra"), wanted, context=50)
    ids = np.asarray(made.corpus.train)
    assert wanted < len(ids) < wanted + 400
    assert made.border == 3900 == 78 * 50
    calls = np.flatnonzero(ids == prose.tokenizer.special_id("<tool_call>"))
    assert len(calls) > 4
    assert calls.min() >= made.border
    separator = prose.tokenizer.special_id("<|endoftext|>")
    kinds = {"prose": 0, "glosses": 0, "talk": 0}
    for document in box_stream.documents(ids, separator):
        text = prose.tokenizer.decode(document[1:].tolist())
        kinds["talk" if "<|im_start|>" in text else "glosses" if "noun:" in text else "prose"] += len(
            document
        )
    mixed = wanted - made.border
    for kind in ("glosses", "talk"):
        assert kinds[kind] == pytest.approx(box_stream.SHARES[kind] * mixed, abs=350)
    assert len(made.corpus.val) == len(prose.val)
    assert made.corpus.val_bytes == prose.val_bytes


def test_renewing_the_mixture_leaves_what_comes_before(prose: Corpus, tmp_path: Path) -> None:
    first = box_stream.make(tmp_path, prose, GLOSSES, talk(500, "zebra"), 6000, context=50)
    before = np.array(first.corpus.train)
    found = box_stream.make(tmp_path, prose, [], talk(9, "camel"), 6000, context=50)
    assert np.array_equal(found.corpus.train, before), "what is there is used"
    renewed = box_stream.make(tmp_path, prose, GLOSSES, talk(500, "camel"), 6000, context=50, anew=True)
    after = np.array(renewed.corpus.train)
    assert np.array_equal(after[: first.border], before[: first.border])
    assert not np.array_equal(after[:6000], before[:6000])


def test_windows_are_shuffled_within_each_part(
    prose: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = box_stream.make(tmp_path / "a", prose, GLOSSES, talk(500, "zebra"), 6000, context=50)
    monkeypatch.setattr(box_stream, "shuffle", lambda *_: None)
    plain = box_stream.make(tmp_path / "b", prose, GLOSSES, talk(500, "zebra"), 6000, context=50)
    a, b = (np.asarray(one.corpus.train) for one in (shuffled, plain))
    assert len(a) == len(b)
    windows = [[tuple(ids[at : at + 50].tolist()) for at in range(0, len(a) - 50, 50)] for ids in (a, b)]
    for part in (slice(0, 78), slice(78, None)):
        mine, theirs = (some[part] for some in windows)
        assert mine != theirs
        assert sorted(mine) == sorted(theirs)
    assert windows[0][:3] != windows[1][:3]


def test_too_little_prose_is_said(prose: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tokens short of 900,000: read more tiers or shards"):
        box_stream.make(tmp_path, prose, GLOSSES, talk(5, "zebra"), 900_000, context=50)


def test_dialogues_take_turns() -> None:
    turns = [
        {"role": "agent_1", "text": "Hi  there."}, {"role": "agent_1", "text": "Well?"},
        {"role": "agent_2", "text": "Yes."}, {"role": "agent_1", "text": "Bye."},
    ]  # fmt: skip
    (piece,) = box_dialogues.pieces(turns)
    assert piece == [
        {"role": "user", "content": "Hi there. Well?"}, {"role": "assistant", "content": "Yes."},
    ]  # fmt: skip


def test_text_for_tuning_fits_the_window_and_all_of_it_counts(prose: Corpus, tmp_path: Path) -> None:
    made = box_stream.text_for_tuning(tmp_path / "text", prose, 20_000, window=300, seed=1)
    assert made.train.size + made.val.size >= 20_000
    separator = prose.tokenizer.special_id("<|endoftext|>")
    assert made.train_mask is not None
    starts = np.flatnonzero(made.train == separator)
    assert np.array_equal(np.flatnonzero(made.train_mask == 0), starts)
    assert max(np.diff([*starts, made.train.size])) <= 300
    written = (tmp_path / "text" / "train.bin").stat().st_mtime_ns
    again = box_stream.text_for_tuning(tmp_path / "text", prose, 20_000, window=300, seed=1)
    assert np.array_equal(again.train, made.train)
    assert (tmp_path / "text" / "train.bin").stat().st_mtime_ns == written, "found, and not made again"
