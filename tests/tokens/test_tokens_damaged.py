"""Damaged tokenizers: whatever the bytes, the answer is a tokenizer or a BadFileError, never another
exception."""

import contextlib
import copy
import json
import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tokens_encode import small_spm

from twofold.base.errors import BadFileError
from twofold.tokens import Tokenizer, Vocabulary, ggml, huggingface, protobuf
from twofold.tokens.vocabulary import NORMAL, STAND_INS

ODD = (
    None, True, -1, 0, 1, 7, 2**40, 1.5, float("nan"), float("inf"),
    "", "a", "a b", "\ud800", [], {}, [None], [[]],
)  # fmt: skip


def vocabularies() -> list[Vocabulary]:
    return [Tokenizer.train(["hello hello hello"], 320).vocabulary, small_spm()]


def mutate(value: Any, random_: random.Random) -> Any:
    """Return a copy of a JSON-like value with one thing in it changed, dropped or doubled."""
    value = copy.deepcopy(value)
    holder, key = None, None
    at = value
    while isinstance(at, (dict, list)) and at and (holder is None or random_.random() < 0.85):
        holder, key = at, random_.choice(list(at) if isinstance(at, dict) else range(len(at)))
        at = at[key]
    if holder is None:
        return random_.choice(ODD)
    what = random_.randrange(4)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, list):
        holder.insert(key, at)
    else:
        holder[key] = random_.choice(ODD)
    return value


def accepted(make: Any) -> bool:
    """Return whether `make` gives a tokenizer, which then must work; only BadFileError may stop it."""
    with contextlib.suppress(BadFileError):
        tokenizer: Tokenizer = make()
        tokenizer.decode(tokenizer.encode("hello <s> é\n"))
        tokenizer.to_gguf()
        return True
    return False


@pytest.mark.parametrize("number", [0, 1])
def test_mutated_gguf_metadata(number: int) -> None:
    metadata = Tokenizer(vocabularies()[number]).to_gguf()
    metadata.pop("twofold.unicode", None)
    random_ = random.Random(number)
    outcomes = [accepted(lambda: Tokenizer.from_gguf(mutate(metadata, random_))) for _ in range(250)]
    assert 20 < sum(outcomes) < 230


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("own", [True, False])
def test_mutated_tokenizer_json(number: int, own: bool) -> None:
    data = json.loads(huggingface.to_json(vocabularies()[number]))
    if not own:
        del data["model"]["twofold"]
    random_ = random.Random(number)
    config = {"eos_token": "</s>", "chat_template": "x"}

    def make() -> Tokenizer:
        changed = mutate([data, config], random_)
        first, second = (changed, config) if not isinstance(changed, list) or len(changed) != 2 else changed
        return Tokenizer(huggingface.from_json(first, second, Path("tokenizer.json")))

    outcomes = [accepted(make) for _ in range(250)]
    assert 20 < sum(outcomes) < 250


def test_damaged_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    Tokenizer(small_spm()).save(path)
    whole = path.read_bytes()
    random_ = random.Random(3)
    outcomes = []
    for _ in range(150):
        data = bytearray(whole[: random_.choice((len(whole), random_.randrange(len(whole))))])
        for _ in range(random_.randrange(4)):
            data[random_.randrange(len(data))] = random_.randrange(256)
        path.write_bytes(data)
        outcomes.append(accepted(lambda: Tokenizer.load(path)))
    assert 0 < sum(outcomes) < 150
    path.write_text("[" * 100_000)
    assert not accepted(lambda: Tokenizer.load(path))
    assert not accepted(lambda: Tokenizer.load(tmp_path / "absent.json"))


def model_bytes() -> bytes:
    """A small tokenizer.model, made by hand: pieces, trainer's settings, normaliser's settings."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("<0x41>", 0.0, 6), ("▁", -1.0, 1)]
    pieces += [("a", -2.0, 1), ("▁a", -0.5, 1)]
    parts = [
        field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, type_]))
        for text, score, type_ in pieces
    ]
    return b"".join(parts) + field(2, bytes([3 << 3, 2])) + field(3, bytes([3 << 3, 1]))


def test_a_tokenizer_model_by_hand() -> None:
    v = protobuf.parse(model_bytes())
    assert (v.bos_id, v.eos_id, v.unk_id, v.pad_id, v.add_bos, v.add_space_prefix) == (
        1,
        2,
        0,
        None,
        True,
        True,
    )
    assert Tokenizer(v).encode("a aA") == [6, 6, 3]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_damaged_tokenizer_model(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = bytearray(model_bytes())
    for at, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)
    ):
        whole[at] = byte
    path = tmp_path_factory.mktemp("model") / "tokenizer.model"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    accepted(lambda: Tokenizer.from_hf(path.parent))


def test_an_unigram_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.model"
    settings_of_the_trainer = bytes([2 << 3 | 2, 2, 3 << 3])
    path.write_bytes(model_bytes().replace(settings_of_the_trainer + b"\2", settings_of_the_trainer + b"\1"))
    with pytest.raises(BadFileError, match="BPE"):
        Tokenizer.from_hf(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model", "bert", "bert"),
        ("pre", "deepseek-llm", "deepseek-llm"),
        ("tokens", [], "no tokens"),
        ("tokens", ["a"], "not an id below 1"),
        ("token_type", [1], "as many token types"),
        ("merges", ["a"], "Merge 0"),
        ("merges", ["a qqq"], "Merge 0"),
        ("token_type", [9] * 320, "types from 1 to 6"),
        ("eos_token_id", 320, "not an id below 320"),
        ("add_bos_token", 1, "true or false"),
    ],
)
def test_what_is_wrong_is_said(key: str, value: Any, words: str) -> None:
    metadata = Tokenizer(vocabularies()[0]).to_gguf()
    with pytest.raises(BadFileError, match=words):
        ggml.from_metadata({**metadata, f"tokenizer.ggml.{key}": value})


def test_a_vocabulary_of_150000_opens_in_two_seconds() -> None:
    tokens, merges = list(STAND_INS), []
    for left in STAND_INS[33:127]:
        for middle in STAND_INS[33:127]:
            merges.append(f"{left} {middle}")
            tokens.append(left + middle)
    for pair in tokens[256:]:
        for last in STAND_INS[33:50]:
            merges.append(f"{pair} {last}")
            tokens.append(pair + last)
    assert len(tokens) > 150_000
    types = (NORMAL,) * len(tokens)
    v = Vocabulary(kind="bpe", pre="qwen2", tokens=tuple(tokens), types=types, merges=tuple(merges))
    metadata = Tokenizer(v).to_gguf()
    start = time.process_time()
    Tokenizer.from_gguf(metadata)
    assert time.process_time() - start < 2
