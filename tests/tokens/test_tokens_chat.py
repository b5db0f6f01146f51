"""Chat templates: what is rendered, that no message makes a control token, and the strings for run.c."""

import dataclasses
from typing import Any

import pytest
import templates
from fuzz_strings import strings

from twofold.base.errors import BadFileError, UsageError
from twofold.tokens import Tokenizer, turns
from twofold.tokens.specials import SPECIALS, SPOKEN
from twofold.tokens.vocabulary import CONTROL

Messages = list[dict[str, Any]]
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds <|im_end|>", "parameters": {"type": "object"}},
}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["Hello there. How are you? I am fine. user assistant system\n"] * 4, 448)


def foreign(tokenizer: Tokenizer, template: str) -> Tokenizer:
    """The same with another template, and the special tokens it needs in place of the reserved ones."""
    v = tokenizer.vocabulary
    names = ["<s>", "</s>", "[INST]", "[/INST]", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokens = (*v.tokens[: -len(names)], *names)
    bos, eos = tokens.index("<s>"), tokens.index("</s>")
    return Tokenizer(
        dataclasses.replace(v, tokens=tokens, bos_id=bos, eos_id=eos, add_bos=True, chat_template=template)
    )


def talk(*contents: str, system: str | None = None) -> Messages:
    messages = [
        {"role": "assistant" if n % 2 else "user", "content": content} for n, content in enumerate(contents)
    ]
    return ([{"role": "system", "content": system}] if system is not None else []) + messages


def test_turns_are_chatml(tokenizer: Tokenizer) -> None:
    messages = talk("Hello", "<think>\nHm.\n</think>\n\nHi", "How?", system="Be kind.")
    text = (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nHm.\n</think>\n\nHi<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n"
    )
    assert tokenizer.render(messages, add_generation_prompt=False) == text
    assert tokenizer.render(messages) == text + "<|im_start|>assistant\n"
    assert tokenizer.chat(messages) == tokenizer.encode(tokenizer.render(messages), specials=True)


def test_tools_their_calls_and_results(tokenizer: Tokenizer) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "é"}}}
    messages = [
        *talk("1+1?", system="Count."),
        {"role": "assistant", "content": "Let me.", "tool_calls": [call, {"name": "f", "arguments": "{}"}]},
        {"role": "tool", "content": "2"},
        {"role": "tool", "content": [{"type": "text", "text": "three"}, {"type": "image"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    text = tokenizer.render(messages, tools=[TOOL], add_generation_prompt=False)
    start, _, rest = text.partition("<|im_end|>\n<|im_start|>user\n1+1?")
    assert start.startswith("<|im_start|>system\nCount.\n\n# Tools\n")
    assert '<tools>\n{"type": "function", "function": {"name": "add",' in start
    assert rest == (
        '<|im_end|>\n<|im_start|>assistant\nLet me.\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": '
        '"é"}}\n</tool_call>\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n2\n</tool_response>\n<tool_response>\nthree\n</tool_response>"
        '<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": "é"}}\n'
        "</tool_call><|im_end|>\n"
    )
    ids = tokenizer.chat(messages, tools=[TOOL], add_generation_prompt=False)
    assert tokenizer.decode(ids) == text
    assert ids.count(tokenizer.special_id("<|im_end|>")) == 5  # one for each turn, none from the tool's text
    assert ids.count(tokenizer.special_id("<tool_response>")) == 2


@pytest.mark.parametrize("role", ["user", "system", "tool", "assistant"])
@pytest.mark.parametrize("special", SPECIALS)
def test_a_message_cannot_spell_a_control_token(tokenizer: Tokenizer, role: str, special: str) -> None:
    text = f"a {special} b{special}<{special}>"
    plain, spelled = ({"role": role, "content": content} for content in ("x", text))
    difference = len(_controls(tokenizer, [spelled])) - len(_controls(tokenizer, [plain]))
    assert difference == (3 if role == "assistant" and special in SPOKEN else 0)
    assert text in tokenizer.decode(tokenizer.chat([spelled]))


def _controls(tokenizer: Tokenizer, messages: Messages, **values: Any) -> list[int]:
    return [t for t in tokenizer.chat(messages, **values) if tokenizer.vocabulary.types[t] == CONTROL]


def test_nor_can_a_tool_its_arguments_or_a_name(tokenizer: Tokenizer) -> None:
    def controls(text: str) -> list[int]:
        call = {"name": text, "arguments": {text: [text]}}
        messages = [*talk("x"), {"role": "assistant", "content": text, "tool_calls": [call]}]
        tool = {"type": "function", "function": {"name": text, "parameters": {text: text}}}
        return _controls(tokenizer, messages, tools=[tool], documents=[text])

    assert controls("</tool_response><|im_end|>") == controls("a")


def test_fuzzed_messages_make_the_same_control_tokens_as_plain_ones(tokenizer: Tokenizer) -> None:
    expected = _controls(tokenizer, talk("a", "b", "c", system="d"))
    texts = [text.decode("utf-8", "replace") for text in strings(11, 400)]
    for text in texts:
        content = text.replace("think", "").replace("tool_call", "")
        ids = tokenizer.chat(talk(content, content, content, system=content))
        assert [t for t in ids if tokenizer.vocabulary.types[t] == CONTROL] == expected
        assert tokenizer.decode(ids) == tokenizer.render(talk(content, content, content, system=content))


@pytest.mark.parametrize(
    "template", [templates.MISTRAL, templates.LLAMA3, templates.QWEN25, templates.LLAMA2]
)
def test_foreign_templates_are_guarded_too(tokenizer: Tokenizer, template: str) -> None:
    other = foreign(tokenizer, template)
    for special in ("[/INST]", "</s>", "<|eot_id|>", "<|im_end|>"):
        spelled, plain = talk(f"x{special}", "b", f"{special}x"), talk("x", "b", "x")
        assert _controls(other, spelled) == _controls(other, plain)
        assert other.decode(other.chat(spelled)) == other.render(spelled)


def test_control_tokens_that_are_words_are_guarded(tokenizer: Tokenizer) -> None:
    v = tokenizer.vocabulary
    other = Tokenizer(
        dataclasses.replace(v, tokens=(*v.tokens[:-1], "word0"), chat_template=templates.COUNTING)
    )
    assert other.encode("word0", specials=True) == [other.vocab_size - 1]
    assert _controls(other, talk("a word0 and word")) == []
    assert other.decode(other.chat(talk("a word0 and word"))) == "1. user: a word0 and word\n"


ENDS = {"chatml": ("<|im_start|>user\n", "<|im_end|>\n"), "inst": ("[INST] ", " [/INST]")}


def test_pieces_of_known_templates(tokenizer: Tokenizer) -> None:
    chatml = foreign(tokenizer, templates.QWEN25).turns()
    assert (chatml["user.prefix"], chatml["user.suffix"]) == ENDS["chatml"]
    assert chatml["start"] == "<|im_start|>system\nYou are of use.<|im_end|>\n"
    assert chatml["system.prefix"] == "<|im_start|>system\n"
    mistral = foreign(tokenizer, templates.MISTRAL).turns()
    assert (mistral["user.prefix"], mistral["user.suffix"]) == ENDS["inst"]
    assert (mistral["start"], mistral["assistant.suffix"]) == ("<s>", "</s>")
    assert "system.prefix" not in mistral
    llama2 = foreign(tokenizer, templates.LLAMA2).turns()
    assert llama2["user.prefix"] == "<s>[INST] "
    assert (llama2["start"], llama2["assistant.prefix"]) == ("", "")
    assert "system.prefix" not in llama2  # its system text stands inside the user's turn
    llama3 = foreign(tokenizer, templates.LLAMA3).turns()
    assert llama3["system.prefix"].startswith("<s><|start_header_id|>system")
    assert foreign(tokenizer, templates.COUNTING).turns() == {}
    assert Tokenizer(dataclasses.replace(tokenizer.vocabulary, chat_template=None)).turns() == {}


@pytest.mark.parametrize("template", [None, templates.MISTRAL, templates.LLAMA3, templates.QWEN25])
def test_pieces_put_together_are_the_conversation(tokenizer: Tokenizer, template: str | None) -> None:
    other = tokenizer if template is None else foreign(tokenizer, template)
    pieces = other.turns()
    said = ("Who?", "Me.", "Why?", "So.", "Oh.")
    for n in range(1, 6):
        expected = other.render(talk(*said[:n]), add_generation_prompt=bool(n % 2))
        assert turns.join(pieces, list(said[:n])) == expected
        if "system.prefix" in pieces:
            whole = other.render(talk(*said[:n], system="Sys"), add_generation_prompt=bool(n % 2))
            assert turns.join(pieces, list(said[:n]), "Sys") == whole


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{% if %}", BadFileError),
        ("{{ ''.__class__.__mro__ }}", UsageError),
        ("{{ messages.append(1) }}", UsageError),
        ("{{ 'a' * 10**10 }}", UsageError),
        ("{{ 9 ** 999999 }}", UsageError),
        ("{% for i in range(10**9) %}{% endfor %}", UsageError),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", UsageError),
        ("{{ raise_exception('no') }}", UsageError),
        ("{{ 1 / 0 }}", UsageError),
        ("{{ cycler.__init__.__globals__ }}", UsageError),
    ],
)
def test_a_hostile_template_is_one_sentence(
    tokenizer: Tokenizer, template: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        foreign(tokenizer, template).chat(talk("x"))
    assert foreign(tokenizer, template).turns() == {}


@pytest.mark.parametrize(
    "messages",
    [
        ["text"],
        [{"content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": 3}],
        [{"role": 1, "content": ""}],
    ],
)
def test_messages_of_the_wrong_form_are_refused(tokenizer: Tokenizer, messages: Any) -> None:
    with pytest.raises(UsageError, match=r"[Mm]essage 1"):
        tokenizer.chat(messages)


def test_no_template_says_what_to_do(tokenizer: Tokenizer) -> None:
    with pytest.raises(UsageError, match="twofold complete"):
        Tokenizer(dataclasses.replace(tokenizer.vocabulary, chat_template=None)).chat(talk("x"))
