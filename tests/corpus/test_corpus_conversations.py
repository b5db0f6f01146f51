"""Conversations: what is accepted, and exactly which tokens the mask lets count."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus import Conversation, conversations, open_corpus, prepare_conversations
from twofold.corpus.conversations import LONGEST_LINE, SHOWN, encode, held_out_conversations
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
        ({"messages": [{"role": "user", "content": "a"}], "prompt": 1}, "no message of the assistant"),
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


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(name: str = "add", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": '{"a": 1}'}
    return {"role": "assistant", "content": None, "tool_calls": [{"function": {**function, **more}}]}


TOOL = {"role": "tool", "content": "3"}
SAID = {"role": "assistant", "content": "Three."}


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([user("a"), TOOL, SAID], "message 2: a tool answers, and no call asked"),
        ([user("a"), call(), user("b"), TOOL, SAID], "message 4: a tool answers, and no call asked"),
        ([user("a"), call(name=""), TOOL], "message 2: a call of a tool needs the `name`"),
        ([user("a"), call(arguments="{"), TOOL], "message 2: the arguments of 'add' are no JSON object"),
        ([user("a"), call(arguments=[1]), TOOL], "message 2: the arguments of 'add' are no JSON object"),
        ([user("a"), call("sub"), TOOL], "message 2: calls 'sub', which is not among the tools"),
        ([{**user("a"), "tool_calls": [1]}, SAID], "message 1: only the assistant can have `tool_calls`"),
        ([{"role": "bot", "content": "a"}], "one of system, user, assistant, tool, not 'bot'"),
        ([user("a"), {**SAID, "weight": 0}], "has weight 0"),
        ([user("a"), {**SAID, "weight": 3}], "message 2: its `weight` must be 0 or 1"),
        ([user([{"text": "a"}]), SAID], "message 1: each part of its `content` needs a `type`"),
        ([user([{"type": "text"}]), SAID], "message 1: a part of type text has no `text`"),
        ([user("a"), {**SAID, "content": [{"type": "image_url"}]}], "message 2: an answer .* only be text"),
        ([user("a"), {**SAID, "content": "\ud800"}], "message 2: half a character"),
        ([{**user("a"), "thinking": "x"}, SAID], "`reasoning_content` is text, and the assistant's only"),
    ],
)
def test_tools_parts_and_thinking_are_checked(messages: Messages, reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"messages": messages, "tools": [{"function": {"name": "add"}}]})
    with pytest.raises(BadFileError, match=rf"line 1.*{reason}"):
        list(conversations(path))


def test_all_that_chats_hold_is_learned_from(tokenizer: Tokenizer, tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    rows: list[Any] = [
        {"messages": [user("add"), {**call(), "reasoning_content": "Sum."}, {**TOOL, "name": "add"}, SAID]},
        {"messages": [user([{"type": "text", "text": "What is"}, picture]), SAID]},
        {"messages": [user("a"), {**SAID, "content": "No.", "weight": 0}, user("b"), SAID]},
        {"messages": [{"role": "developer", "content": "Be brief."}, user("a"), SAID]},
    ]
    learned = []
    for conversation in conversations(write(tmp_path / "a.jsonl", *rows)):
        ids, mask = encode(conversation, tokenizer)
        learned.append(tokenizer.decode([i for i, counts in zip(ids, mask, strict=True) if counts]))
    tool = '<think>\nSum.\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    assert learned == [f"{tool}<|im_end|>Three.<|im_end|>", *["Three.<|im_end|>"] * 3]
    corpus = prepare_conversations(tmp_path / "a.jsonl", tmp_path / "out", tokenizer=tokenizer)
    assert any("1 conversations the attachments" in skip["reason"] for skip in corpus.skipped)


def test_every_bad_line_is_told_and_none_is_lost(tokenizer: Tokenizer, tmp_path: Path) -> None:
    good = [json.dumps({"messages": chat(f"Hello {n}", "Hello there.")}) for n in range(6)]
    long = json.dumps({"messages": chat("x" * 10_000_000, "y")})
    shares = json.dumps({"conversations": [{"from": "human", "value": "Hi"}]})
    lines = [good[0], "{broken", good[1], long, good[2], "", shares, "[1]", *good[3:], *["{}"] * SHOWN]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(lines))  # and the last line has no end
    assert len(long) > LONGEST_LINE
    with pytest.raises(BadFileError) as caught:
        prepare_conversations(path, tmp_path / "out", tokenizer=tokenizer)
    told = str(caught.value).splitlines()
    assert told[0].startswith(f"{4 + SHOWN} lines are not conversations")
    assert "line 2: not JSON" in told[1]
    assert "line 4: is 10.0 MB long" in told[2]
    assert "line 7: no list of messages" in told[3]
    assert "found `conversations`" in told[3]
    assert "line 8: expected an object" in told[4]
    assert told[SHOWN + 1].strip() == "… and 4 more lines."
    corpus = prepare_conversations(path, tmp_path / "out", tokenizer=tokenizer, bad_lines="skip")
    assert corpus.documents == 6
    assert len(corpus.skipped) == SHOWN + 1


def test_anything_is_read_or_refused_in_a_sentence(tokenizer: Tokenizer, tmp_path: Path) -> None:
    chance = random.Random(0)
    whole = {"messages": [user("a"), call(), TOOL, SAID], "tools": [{"function": {"name": "add"}}]}
    odd = (None, 1, -1.5, "", "x", [], {}, [None], {"role": 1}, True, "\ud800", [[]], {"function": {}})

    def mutated(value: Any) -> Any:
        if chance.random() < 0.03:
            return chance.choice(odd)
        if isinstance(value, dict):
            return {key: mutated(item) for key, item in value.items() if chance.random() < 0.98}
        return [mutated(item) for item in value] if isinstance(value, list) else value

    lines = [json.dumps(mutated(whole)).encode() for _ in range(1500)]
    for line in list(lines[:500]):
        spot = chance.randrange(len(line))
        lines.append(line[:spot] + chance.randbytes(1) + line[spot + 1 :])
    lines += [b"[" * 100_000, b'{"messages": ' + b"9" * 5000 + b"}", b"\xff\xfe"]
    lines = [line.replace(b"\n", b" ") for line in lines]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    bad: list[str] = []
    good = list(conversations(tmp_path / "a.jsonl", bad=bad.append))
    blank = sum(not line.strip() for line in lines)
    assert len(good) + len(bad) + blank == len(lines)
    assert len(good) > 100
    assert all("a.jsonl, line " in sentence and sentence.endswith(".") for sentence in bad)
    for conversation in good:
        try:
            ids, mask = encode(conversation, tokenizer)
        except (BadFileError, UsageError):
            continue
        assert len(ids) == len(mask)
        assert sum(mask) > 0


@pytest.mark.parametrize(("count", "held_out"), [(10, (1, 4)), (100, (12, 30)), (2000, (25, 60))])
def test_the_held_out_part_follows_the_number(
    count: int, held_out: tuple[int, int], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    given = [Conversation(chat(f"Hi {n}", "Ho"), "made") for n in range(count)]
    corpus = prepare_conversations(given, tmp_path / "out", tokenizer=tokenizer, val_fraction=None)
    assert held_out[0] <= corpus.val_documents <= held_out[1]
    written = held_out_conversations(tmp_path / "out")
    assert len(written) == corpus.val_documents
    wanted = {tuple(encode(one, tokenizer)[0]) for one in written}
    starts = np.flatnonzero(corpus.val == tokenizer.special_id("<|endoftext|>"))
    found = {tuple(part.tolist()) for part in np.split(np.asarray(corpus.val), starts[1:])}
    assert found == wanted
