"""Anthropic's own client."""

from collections.abc import Iterator

import anthropic
import pytest
from serving import Serving, teach

ASK = [{"role": "user", "content": "Who are you?"}]
WHO = "I am twofold's model in the box, a very small language model."
GREEDY = {"extra_body": {"temperature": 0}}
ADD = {"name": "add", "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture
def client(serving: Serving) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=serving.url, api_key="none", max_retries=0) as made:
        yield made


def test_a_message_and_its_stream(client: anthropic.Anthropic) -> None:
    found = client.messages.create(model="box", max_tokens=64, messages=ASK, **GREEDY)
    assert found.content[0].text.startswith(WHO)
    assert found.stop_reason == "end_turn"
    assert found.usage.input_tokens + found.usage.cache_read_input_tokens == 15
    with client.messages.stream(model="box", max_tokens=64, messages=ASK, **GREEDY) as stream:
        assert "".join(stream.text_stream) == found.content[0].text
        assert stream.get_final_message().usage.output_tokens == found.usage.output_tokens


def test_where_it_stops(client: anthropic.Anthropic) -> None:
    found = client.messages.create(
        model="box", max_tokens=64, messages=ASK, stop_sequences=["x, a", "!!"], **GREEDY
    )
    assert found.content[0].text == "I am twofold's model in the bo"
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "x, a")
    assert client.messages.create(model="box", max_tokens=3, messages=ASK).stop_reason == "max_tokens"


def test_an_answer_that_was_begun_goes_on(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model="box", max_tokens=64, messages=ASK, **GREEDY).content[0].text
    begun = [*ASK, {"role": "assistant", "content": "I am twofold's model in"}]
    rest = client.messages.create(model="box", max_tokens=64, messages=begun, **GREEDY).content[0].text
    assert "I am twofold's model in" + rest == whole


def test_tools_and_their_results(client: anthropic.Anthropic, serving: Serving) -> None:
    teach(serving.state, "caller", f"Wait.\n{CALL}", "It is 2.")
    with client.messages.stream(model="caller", max_tokens=90, messages=ASK, tools=[ADD]) as stream:
        found = stream.get_final_message()
    said, called = found.content
    assert (said.text, called.name, called.input) == ("Wait.", "add", {"a": 1})
    assert found.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": called.id, "content": [{"type": "text", "text": "2"}]}
    messages = [
        *ASK,
        {
            "role": "assistant",
            "content": [
                block.model_dump(include={"type", "text", "id", "name", "input"}) for block in found.content
            ],
        },
        {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
    ]
    after = client.messages.create(model="caller", max_tokens=90, messages=messages, tools=[ADD])
    assert after.content[0].text == "It is 2."


def test_thoughts_with_a_budget(client: anthropic.Anthropic) -> None:
    found = client.messages.create(
        model="tiny", max_tokens=4, messages=ASK, thinking={"type": "enabled", "budget_tokens": 12}
    )
    assert found.content[0].type == "thinking"
    assert found.content[0].thinking
    assert found.usage.output_tokens <= 16


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model="box", messages=ASK).input_tokens == 15
    longer = client.messages.count_tokens(model="box", messages=ASK, system="Be kind.", tools=[ADD])
    assert longer.input_tokens > 60
    assert next(iter(client.models.list())).id == "box"


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"model": "boxx"}, "not_found_error", "Did you mean"),
        ({"max_tokens": 0}, "invalid_request_error", "`max_tokens` must be"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "invalid_request_error",
            "text only",
        ),
        ({"tool_choice": {"type": "any"}}, "invalid_request_error", "no `tools`"),
        (
            {"tool_choice": {"type": "tool", "name": "nope"}, "tools": [ADD]},
            "invalid_request_error",
            "no tool",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_its_form(
    client: anthropic.Anthropic, change, kind: str, sentence: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(**{"model": "box", "max_tokens": 5, "messages": ASK, **change})
    assert caught.value.body["error"]["type"] == kind
    assert sentence in caught.value.body["error"]["message"]
