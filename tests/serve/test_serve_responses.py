"""OpenAI's responses, by its own client."""

from collections.abc import Iterator

import openai
import pytest
from serving import Serving, teach

WHO = "I am twofold's model in the box, a very small language model."
ADD = {
    "type": "function",
    "name": "add",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}},
}


@pytest.fixture
def client(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_response_and_its_stream(client: openai.OpenAI) -> None:
    found = client.responses.create(model="box", input="Who are you?", temperature=0)
    assert found.output_text.startswith(WHO)
    assert found.status == "completed"
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens
    with client.responses.stream(model="box", input="Who are you?", temperature=0) as stream:
        events = list(stream)
        assert stream.get_final_response().output_text == found.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"


def test_a_conversation_is_remembered(client: openai.OpenAI) -> None:
    first = client.responses.create(model="box", input="My name is Ada.", temperature=0)
    second = client.responses.create(
        model="box", input="Hello!", previous_response_id=first.id, instructions="Be kind.", temperature=0
    )
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match="no response"):
        client.responses.create(model="box", input="x", previous_response_id=first.id)
    unkept = client.responses.create(model="box", input="Hello!", store=False, max_output_tokens=2)
    assert unkept.status == "incomplete"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)


def test_calls_and_thoughts_are_items(client: openai.OpenAI, serving: Serving) -> None:
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    teach(serving.state, "caller", f"<think>\nHm.\n</think>\n\nWait.\n{call}", "It is 2.")
    with client.responses.stream(model="caller", input="1 + 1?", tools=[ADD]) as stream:
        kinds = [event.type for event in stream]
        found = stream.get_final_response()
    thought, said, called = found.output
    assert (thought.type, thought.content[0].text) == ("reasoning", "Hm.")
    assert (said.type, said.content[0].text) == ("message", "Wait.")
    assert (called.type, called.name, called.arguments) == ("function_call", "add", '{"a": 1}')
    assert "response.function_call_arguments.done" in kinds
    told = {"type": "function_call_output", "call_id": called.call_id, "output": "2"}
    after = client.responses.create(model="caller", input=[told], previous_response_id=found.id, tools=[ADD])
    assert after.output_text == "It is 2."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"input": []}, "takes 1 or more"),
        ({"tools": [{"type": "web_search"}]}, "Only tools of type function"),
        ({"input": [{"type": "computer_call"}]}, "Items of type computer_call"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "needs a `schema`"),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_a_sentence(client: openai.OpenAI, change, sentence: str) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.responses.create(**{"model": "box", "input": "x", **change})
