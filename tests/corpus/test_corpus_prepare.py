"""From documents to shards: what is in them, what is held out, and when they are made again."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus import Corpus, open_corpus, prepare
from twofold.corpus import build as build_module
from twofold.corpus.shards import Spool
from twofold.tokens import Tokenizer

WORDS = ["cat", "dog", "sat", "ran", "on", "the", "a", "mat", "hill", "and", "then", "slept"]


def make_text(seed: int, words: int = 60) -> str:
    rng = np.random.default_rng(seed)
    return f"Tale {seed}. " + " ".join(rng.choice(WORDS, words))


@pytest.fixture
def tales(tmp_path: Path) -> Path:
    folder = tmp_path / "tales"
    folder.mkdir()
    lines = [json.dumps({"text": make_text(n)}) + "\n" for n in range(200)]
    (folder / "a.jsonl").write_text("".join(lines[:100]))
    (folder / "b.jsonl").write_text("".join(lines[100:]))
    (folder / "notes.xyz").write_text("no format")
    return folder


def texts_of(corpus: Corpus, split: str) -> list[str]:
    ids = getattr(corpus, split)
    separator = corpus.tokenizer.special_id("<|endoftext|>")
    starts = np.flatnonzero(ids == separator)
    return [corpus.tokenizer.decode(part[1:].tolist()) for part in np.split(ids, starts[1:])]


def test_every_document_is_in_exactly_one_part(tales: Path, tmp_path: Path) -> None:
    corpus = prepare(tales, tmp_path / "out", vocab_size=384, val_fraction=0.1)
    train, val = texts_of(corpus, "train"), texts_of(corpus, "val")
    assert sorted(train + val) == sorted(make_text(n) for n in range(200))
    assert 5 <= len(val) <= 40
    assert (len(train), len(val)) == (corpus.train_documents, corpus.val_documents)
    assert corpus.train_bytes == sum(len(text.encode()) for text in train)
    assert corpus.val_bytes == sum(len(text.encode()) for text in val)
    assert corpus.train.dtype == np.uint16
    assert corpus.train_mask is None
    assert train != sorted(train), "documents are shuffled"
    assert [skip["path"] for skip in corpus.skipped] == [str(tales / "notes.xyz")]
    assert [len(source["sha256"]) for source in corpus.sources] == [64, 64]
    assert sum(source["bytes"] for source in corpus.sources) == corpus.train_bytes + corpus.val_bytes


def test_the_same_texts_are_held_out_in_other_company(tales: Path, tmp_path: Path) -> None:
    whole = prepare(tales, tmp_path / "whole", vocab_size=384, val_fraction=0.1)
    half = prepare(tales / "a.jsonl", tmp_path / "half", tokenizer=whole.tokenizer, val_fraction=0.1)
    assert set(texts_of(half, "val")) < set(texts_of(whole, "val"))
    other = prepare(tales, tmp_path / "seed", tokenizer=whole.tokenizer, val_fraction=0.1, seed=1)
    assert set(texts_of(other, "val")) != set(texts_of(whole, "val"))


def test_reuse_and_renewal(tales: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    first = prepare(tales, out, vocab_size=384)
    train = np.array(first.train)
    monkeypatch.setattr(build_module.Tokenizer, "train", None)  # training again would fail
    again = prepare(tales, out, vocab_size=384)
    assert np.array_equal(again.train, train)
    monkeypatch.undo()
    path = tales / "a.jsonl"
    os.utime(path, ns=(1, 1))
    renewed = prepare(tales, out, vocab_size=384)
    assert np.array_equal(renewed.train, train), "the same input gives the same shards"
    path.write_text(path.read_text() + json.dumps({"text": "One more."}) + "\n")
    assert prepare(tales, out, vocab_size=384).documents == 201


def test_a_stop_halfway_leaves_an_unfinished_folder_that_is_made_anew(
    tales: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def stop(what: str, done: int) -> None:
        if what == "tokenising":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tales, out, vocab_size=384, progress=stop)
    assert list(out.iterdir()) == []
    with pytest.raises(BadFileError, match="no finished corpus"):
        open_corpus(out)
    (out / ".documents.tmp").write_bytes(b"from a killed process")
    os.utime(out / ".documents.tmp", (1, 1))
    assert prepare(tales, out, vocab_size=384).documents == 200
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("how", ["in the folder", "among files", "by val_path"])
def test_own_held_out_file(how: str, tales: Path, tmp_path: Path) -> None:
    val = tales / ("other.jsonl" if how == "by val_path" else "val.jsonl")
    val.write_text(json.dumps({"text": "Held out."}))
    paths = sorted(tales.glob("*.jsonl")) if how == "among files" else tales
    val_path = val if how == "by val_path" else None
    corpus = prepare(paths, tmp_path / "out", vocab_size=384, val_path=val_path)
    assert texts_of(corpus, "val") == ["Held out."]
    assert corpus.train_documents == 200


def test_a_lone_file_called_val_is_learned_from(tales: Path, tmp_path: Path) -> None:
    path = (tales / "a.jsonl").rename(tales / "val.jsonl")
    corpus = prepare(path, tmp_path / "out", vocab_size=384)
    assert corpus.train_documents + corpus.val_documents == 100
    assert corpus.train_documents > 50


def test_a_single_document_gives_its_last_tenth(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    paragraphs = [make_text(n, 20) + "\n\n" for n in range(30)]
    path.write_text("".join(paragraphs))
    corpus = prepare(path, tmp_path / "out", vocab_size=384)
    (train,), (val,) = texts_of(corpus, "train"), texts_of(corpus, "val")
    assert train + val == "".join(paragraphs)
    assert val.startswith("Tale 2")
    assert len(val) < len(train) / 4


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_both_parts_get_a_document(fraction: float, tales: Path, tmp_path: Path) -> None:
    corpus = prepare(tales, tmp_path / "out", vocab_size=384, val_fraction=fraction)
    assert 1 in (corpus.train_documents, corpus.val_documents)
    assert corpus.documents == 200


def test_a_tokenizer_may_be_given_and_a_limit_set(tales: Path, tmp_path: Path) -> None:
    whole = prepare(tales, tmp_path / "whole", vocab_size=384)
    part = prepare(tales, tmp_path / "part", tokenizer=whole.tokenizer, max_bytes=5_000)
    assert part.tokenizer.vocab_size == whole.tokenizer.vocab_size
    assert 5_000 <= part.train_bytes + part.val_bytes < 6_000


def test_the_sample_for_the_tokenizer_is_bounded(
    tales: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build_module, "SAMPLE_BYTES", 10_000)
    seen: list[str] = []
    train = build_module.Tokenizer.train

    def spy(texts: list[str], vocab_size: int) -> object:
        seen.extend(texts)
        return train(texts, vocab_size)

    monkeypatch.setattr(build_module.Tokenizer, "train", spy)
    corpus = prepare(tales, tmp_path / "out", vocab_size=384, val_fraction=0.1)
    assert 2_000 < sum(len(text) for text in seen) <= 10_000
    assert not set(seen) & set(texts_of(corpus, "val")), "held-out text is not for the tokenizer either"
    assert {text in make_text(n) for text in seen[:1] for n in [int(text.split()[1][:-1])]} == {True}


def test_damage_is_noticed(tales: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(tales, out, vocab_size=384)
    (out / "train.bin").write_bytes(b"short")
    with pytest.raises(BadFileError, match=r"train\.bin"):
        open_corpus(out)
    for text in ("{}", "not json", '{"version": 1}'):
        (out / "corpus.json").write_text(text)
        with pytest.raises(BadFileError, match=r"corpus\.json"):
            open_corpus(out)


def test_no_text_and_misuse(tales: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("  \n")
    with pytest.raises(BadFileError, match="no text"):
        prepare(tmp_path / "empty.txt", tmp_path / "out", vocab_size=384)
    with pytest.raises(UsageError, match="between 0 and 1"):
        prepare(tales, tmp_path / "out", val_fraction=0)
    with pytest.raises(UsageError, match="none is left"):
        prepare(tales / "a.jsonl", tmp_path / "out", val_path=tales / "a.jsonl")


def test_documents_of_a_later_phase_come_after_the_others(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["a b"], 320)

    def written(folder: Path, later: int) -> list[int]:
        with Spool(folder, tokenizer.vocab_size, masked=False) as spool:
            for n in range(20):
                spool.add([n], 1, 0, phase=n % 2)
            for n in range(20, 20 + later):
                spool.add(np.array([n]), 1, 0, phase=1)
            spool.add([99], 1, 1)
            about = {"sources": [], "skipped": [], "inputs": {}}
            return [int(n) for n in spool.finish(tokenizer, 0, about).train]

    few, many = written(tmp_path / "few", 0), written(tmp_path / "many", 10)
    assert sorted(few[:10]) == list(range(0, 20, 2))
    assert sorted(few[10:]) == list(range(1, 20, 2))
    assert few[:10] != sorted(few[:10]), "shuffled within a phase"
    assert many[:10] == few[:10], "the first phase does not depend on the second"
