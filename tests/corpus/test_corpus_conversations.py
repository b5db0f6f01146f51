"""Conversations: what is accepted, and exactly which tokens the mask lets count."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus import Conversation, conversations, open_corpus, prepare_conversations
from twofold.corpus.conversations import encode
from twofold.tokens import Tokenizer

Messages = list[dict[str, Any]]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Hello there. How are you? I am fine, thank you. user assistant system"], 384)


def chat(*contents: str, system: str | None = None) -> Messages:
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return ([{"role": "system", "content": system}] if system else []) + messages


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_mask_covers_what_the_assistant_says(tokenizer: Tokenizer) -> None:
    messages = chat("Hello", "Hello there.", "How are you?", "I am fine.", system="You are fine.")
    ids, mask = encode(Conversation(messages, "test"), tokenizer)
    assert len(ids) == len(mask)
    assert ids == [
        tokenizer.special_id("<|endoftext|>"),
        *tokenizer.chat(messages, add_generation_prompt=False),
    ]
    learned = tokenizer.decode([token for token, counts in zip(ids, mask, strict=True) if counts])
    assert learned == "Hello there.<|im_end|>I am fine.<|im_end|>"


def test_special_tokens_in_content_stay_text_and_end_no_turn(tokenizer: Tokenizer) -> None:
    messages = chat("a <|im_end|> b", "c <|im_end|> d <|endoftext|>")
    ids, mask = encode(Conversation(messages, "test"), tokenizer)
    learned = [token for token, counts in zip(ids, mask, strict=True) if counts]
    assert tokenizer.decode(learned) == "c <|im_end|> d <|endoftext|><|im_end|>"
    assert learned.count(tokenizer.special_id("<|im_end|>")) == 1
    assert ids.count(tokenizer.special_id("<|endoftext|>")) == 1


def test_an_answer_with_odd_edges_starts_where_the_prompt_ends(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"messages": chat("Hello", "\n\n  Hello there. \n")})
    (conversation,) = conversations(path)
    ids, mask = encode(conversation, tokenizer)
    prompt = tokenizer.chat(conversation.messages[:1], add_generation_prompt=True)
    assert mask.index(1) == 1 + len(prompt)
    assert ids[1 : 1 + len(prompt)] == prompt


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no list of messages"),
        ({"messages": []}, "no list of messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "message 1: needs a `role`"),
        ({"messages": [{"role": "user", "content": 5}]}, "message 1: its `content` must be text"),
        ({"messages": chat("Hi", "  ")}, "message 2: its `content` is empty"),
        ({"messages": chat("Hi")}, "no message of the assistant"),
        ({"messages": chat("Hi", "Ho"), "tools": "hammer"}, "`tools` must be a list"),
        ([1], "expected an object"),
    ],
)
def test_bad_lines_are_named(row: object, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"messages": chat("Hi", "Ho")}, row)
    with pytest.raises(BadFileError, match=rf"a\.jsonl, line 2.*{reason}"):
        list(conversations(path))


def test_only_jsonl_holds_conversations(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=r"\.jsonl"):
        list(conversations(tmp_path / "a.txt"))
    write(tmp_path / "b.jsonl", {"messages": chat("Hi", "Ho")})
    assert len(list(conversations(tmp_path))) == 1


def test_prepare(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [{"messages": chat(f"Hello {n}", f"Hello there {n}.")} for n in range(100)]
    path = write(tmp_path / "a.jsonl", *rows)
    corpus = prepare_conversations(path, tmp_path / "out", tokenizer=tokenizer, val_fraction=0.1)
    assert corpus.documents == 100
    assert corpus.train_mask is not None
    assert corpus.val_mask is not None
    assert corpus.train.shape == corpus.train_mask.shape
    counted = corpus.tokenizer.decode(corpus.val[corpus.val_mask == 1].tolist())
    assert counted.count("Hello there") == corpus.val_documents
    assert len(counted.replace("<|im_end|>", "")) == corpus.val_bytes
    again = open_corpus(tmp_path / "out")
    assert np.array_equal(again.train, corpus.train)
    assert np.array_equal(again.train_mask, corpus.train_mask)


def test_prepare_from_a_list_leaves_long_ones_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    given = [Conversation(chat("Hi", f"Ho {n}"), "made") for n in range(5)]
    given.append(Conversation(chat("Hi", "Ho " * 200), "made"))
    corpus = prepare_conversations(given, tmp_path / "out", tokenizer=tokenizer, max_tokens=100)
    assert corpus.documents == 5
    assert corpus.val_documents >= 1
    assert corpus.skipped == [{"path": "made", "reason": "1 conversations longer than 100 tokens"}]
    assert corpus.sources == [{"path": "made", "sha256": None, "bytes": 5 * 4}]
    mixed: list[Any] = [given[0], tmp_path]
    with pytest.raises(UsageError, match="not both"):
        prepare_conversations(mixed, tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(BadFileError, match="At least two"):
        prepare_conversations(given[:1], tmp_path / "one", tokenizer=tokenizer)
