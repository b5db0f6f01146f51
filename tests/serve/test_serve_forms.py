"""Answers of a form: JSON schemas and calls of tools hold even for a model that talks nonsense."""

import json
from collections.abc import Iterator
from typing import Literal

import anthropic
import jsonschema_rs
import ollama
import openai
import pydantic
import pytest
from serving import Serving

ASK = [{"role": "user", "content": "Who are you?"}]
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["kind", "age"],
    "additionalProperties": False,
}
ADD = {"name": "add", "parameters": {**SCHEMA}}
SUB = {
    "name": "sub",
    "parameters": {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]},
}
TOOLS = [{"type": "function", "function": one} for one in (ADD, SUB)]


class Animal(pydantic.BaseModel):
    kind: Literal["cat", "dog"]
    tame: bool


@pytest.fixture
def client(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def valid(text: str) -> dict:
    value = json.loads(text)
    jsonschema_rs.validate(SCHEMA, value)
    return value


@pytest.mark.parametrize("seed", range(4))
def test_a_schema_holds_in_every_api(client: openai.OpenAI, serving: Serving, seed: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA, "strict": True}}
    how = {"model": "tiny", "temperature": 1, "seed": seed}
    found = client.chat.completions.create(messages=ASK, response_format=wanted, **how)
    assert found.choices[0].finish_reason == "stop"
    value = valid(found.choices[0].message.content)
    stream = client.chat.completions.create(messages=ASK, response_format=wanted, stream=True, **how)
    assert json.loads("".join(chunk.choices[0].delta.content or "" for chunk in stream)) == value
    how.pop("seed")
    flat = {"format": {"type": "json_schema", "name": "animal", "schema": SCHEMA}}
    assert valid(client.responses.create(input="x", text=flat, **how).output_text)
    with ollama.Client(serving.url) as other:
        options = {"temperature": 1, "seed": seed}
        assert valid(other.chat("tiny", ASK, format=SCHEMA, options=options).message.content)
        assert valid(other.generate("tiny", "x", format=SCHEMA, options=options, raw=True).response)


def test_clients_parse_it_themselves(client: openai.OpenAI, serving: Serving) -> None:
    found = client.chat.completions.parse(model="tiny", messages=ASK, response_format=Animal, seed=1)
    assert isinstance(found.choices[0].message.parsed, Animal)
    with anthropic.Anthropic(base_url=serving.url, api_key="none", max_retries=0) as other:
        said = other.messages.parse(model="tiny", max_tokens=200, messages=ASK, output_format=Animal)
    assert isinstance(said.parsed_output, Animal)


def test_any_json(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="box", messages=ASK, response_format={"type": "json_object"}, seed=2, max_tokens=200
    )
    if found.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(found.choices[0].message.content), dict)
    else:
        assert found.choices[0].message.content.startswith("{")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_is_made(client: openai.OpenAI, seed: int, stream: bool) -> None:
    how = {"model": "tiny", "messages": ASK, "tools": TOOLS, "temperature": 1, "seed": seed}
    choice = {"type": "function", "function": {"name": "add"}}
    found = client.chat.completions.create(tool_choice=choice, stream=stream, **how)
    if stream:
        chunks = [chunk.choices[0] for chunk in found]
        (call,) = [call for chunk in chunks for call in chunk.delta.tool_calls or ()]
        finish = chunks[-1].finish_reason
    else:
        (call,) = found.choices[0].message.tool_calls
        finish = found.choices[0].finish_reason
        assert found.choices[0].message.content is None
    assert call.function.name == "add"
    assert valid(call.function.arguments)
    assert finish == "tool_calls"


def test_whichever_tool_is_called_its_arguments_are_right(client: openai.OpenAI, serving: Serving) -> None:
    found = client.chat.completions.create(
        model="tiny",
        messages=ASK,
        tools=TOOLS,
        tool_choice="required",
        temperature=1,
        seed=7,
        parallel_tool_calls=False,
    )
    (call,) = found.choices[0].message.tool_calls
    schema = next(one for one in (ADD, SUB) if one["name"] == call.function.name)["parameters"]
    jsonschema_rs.validate(schema, json.loads(call.function.arguments))
    with anthropic.Anthropic(base_url=serving.url, api_key="none", max_retries=0) as other:
        tools = [{"name": "add", "input_schema": SCHEMA}]
        choice = {"type": "any", "disable_parallel_tool_use": True}
        said = other.messages.create(
            model="tiny", max_tokens=300, messages=ASK, tools=tools, tool_choice=choice
        )
    assert said.stop_reason == "tool_use"
    jsonschema_rs.validate(SCHEMA, said.content[-1].input)


def test_thoughts_are_free_and_the_answer_has_its_form(client: openai.OpenAI) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    found = client.chat.completions.create(
        model="tiny", messages=ASK, response_format=wanted, reasoning_effort="minimal", seed=5
    ).choices[0]
    assert found.message.reasoning_content
    assert valid(found.message.content)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"response_format": {"type": "json_schema"}}, "needs a `schema`"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": 5}}}},
            "cannot be used",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}]},
            "cannot be used",
        ),
        ({"tool_choice": "required"}, "no `tools`"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "mul"}}}, "no tool 'mul'"),
    ],
    ids=["no schema", "bad schema", "bad tool", "no tools", "another tool"],
)
def test_what_cannot_be_a_form_is_refused(client: openai.OpenAI, change, sentence: str) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.chat.completions.create(model="tiny", messages=ASK, **change)


@pytest.mark.parametrize("seed", range(6))
def test_tools_beside_a_format_are_called_or_the_format_holds(client: openai.OpenAI, seed: int) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "animal", "schema": SCHEMA}}
    found = client.chat.completions.create(
        model="tiny", messages=ASK, response_format=wanted, tools=TOOLS[1:], temperature=1.5, seed=seed
    ).choices[0]
    if found.finish_reason == "tool_calls":
        assert {call.function.name for call in found.message.tool_calls} == {"sub"}
        assert found.message.content is None
    else:
        assert valid(found.message.content)
