"""What a model says: characters, stop strings, thoughts and calls, whatever the borders of the tokens are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import bpe_tokenizer, spm_tokenizer

from twofold.tokens.speech import Call, Speech, calls

TOKENIZER = bpe_tokenizer()
LLAMA = spm_tokenizer()  # without tokens for thoughts and calls
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


def say(text: str, tokenizer=TOKENIZER, **how):
    """Return what a text comes to when a model says it: text, thoughts, calls, and the stop string it met."""
    speech = Speech(tokenizer, **how)
    ids = tokenizer.encode(text, specials=True)
    pieces = [piece for token in ids for piece in speech.take(token, token)] + speech.end()
    said = ["".join(piece.text for piece in pieces if piece.kind == kind) for kind in ("text", "thought")]
    return (*said, [piece.call for piece in pieces if piece.call], speech.stopped)


@given(text=st.text(st.characters(codec="utf-8", exclude_characters="<"), max_size=40))
@settings(max_examples=60, deadline=None)
def test_text_comes_out_as_it_was(text: str) -> None:
    clean = TOKENIZER.decode(TOKENIZER.encode(text))
    assert say(text)[0] == clean
    assert say(text, tools=True)[0] == clean


@given(
    before=st.text("abE N", max_size=8),
    after=st.text("abEND ", max_size=8),
    stop=st.sampled_from(["END", "E", "\n\nE"]),
)
@settings(max_examples=80, deadline=None)
def test_a_stop_string_ends_the_text_wherever_tokens_part(before: str, after: str, stop: str) -> None:
    whole = before + stop + after
    text, _, _, stopped = say(whole, stops=[stop, "never"])
    assert text == whole[: whole.index(stop)]
    assert stopped == stop


def test_what_only_begins_like_a_stop_string_is_said() -> None:
    assert say("the EN", stops=["END"])[0] == "the EN"
    speech = Speech(TOKENIZER, stops=["END"])
    out = [piece.text for token in TOKENIZER.encode("x E y") for piece in speech.take(token)]
    assert "".join(out) == "x E y", "it comes out as soon as it is certain"


def test_the_earlier_of_two_stop_strings_counts() -> None:
    assert say("a bb c", stops=["c", "b"])[::3] == ("a ", "b")


@pytest.mark.parametrize("tokenizer", [TOKENIZER, LLAMA], ids=["marks are tokens", "marks are text"])
def test_thoughts_and_calls_are_told_from_text(tokenizer) -> None:
    said = say(f"<think>\nso, hm.\n</think>\n\nSure.\n{CALL}\n{CALL}", tokenizer, tools=True, strip=True)
    assert said == ("Sure.", "so, hm.", [Call("add", '{"a": 1}')] * 2, None)


def test_thoughts_that_the_prompt_has_opened() -> None:
    assert say("so\n</think>\n\nYes.", thinking=True) == ("Yes.", "so", [], None)
    assert say("so", thinking=True) == ("", "so", [], None)


def test_stop_strings_in_thoughts_are_thoughts() -> None:
    assert say("<think>a END b</think>c END d", stops=["END"]) == ("c ", "a END b", [], "END")


def test_a_call_without_tools_or_in_a_raw_text_is_text() -> None:
    assert say(CALL)[2] == []
    assert say("<think>x</think>y", LLAMA, marks=False)[0].strip() == "<think>x</think>y"


@pytest.mark.parametrize(
    "broken", ["<tool_call>\nadd(1)\n</tool_call>", '<tool_call>{"name": 1}</tool_call>']
)
def test_a_call_that_is_none_is_text(broken: str) -> None:
    text, _, found, _ = say(f"Well. {broken}", tools=True)
    assert found == []
    assert "Well." in text
    assert len(text) > len("Well.")


def test_a_call_that_is_cut_off_is_text() -> None:
    assert say(CALL[:30], tools=True)[0].startswith('{"name"')


def test_the_forms_of_mistral_and_llama() -> None:
    assert say('[TOOL_CALLS][{"name": "f", "arguments": {}}]', LLAMA, tools=True)[2] == [Call("f", "{}")]
    assert say('{"name": "f", "parameters": {"x": 2}}', LLAMA, tools=True, strip=True)[2] == [
        Call("f", '{"x": 2}')
    ]
    assert calls('{"function": {"name": "f", "arguments": "{}"}}') == [Call("f", "{}")]
    assert calls("[1]") == calls("nonsense") == calls("[" * 100_000) == []


def test_every_token_of_the_text_is_noted_once() -> None:
    ids = TOKENIZER.encode("Wörld, there it is. END not this")
    speech = Speech(TOKENIZER, stops=["END"])
    notes = [
        note for token in enumerate(ids) for piece in speech.take(token[1], token[0]) for note in piece.notes
    ]
    assert notes == list(range(len(notes)))
    assert TOKENIZER.decode(ids[: len(notes)]).rstrip() == "Wörld, there it is."


def test_half_a_character_at_the_end_is_shown_as_such() -> None:
    speech = Speech(TOKENIZER)
    token = TOKENIZER.encode("é")[0]
    assert [piece.text for piece in speech.take(token) + speech.end()] in (["\ufffd"], ["é"])
