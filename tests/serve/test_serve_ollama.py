"""Ollama's own client."""

from collections.abc import Iterator

import ollama
import pytest
from serving import Serving, teach

ASK = [{"role": "user", "content": "Who are you?"}]
WHO = "I am twofold's model in the box, a very small language model."
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
GREEDY = {"temperature": 0}


@pytest.fixture
def client(serving: Serving) -> Iterator[ollama.Client]:
    with ollama.Client(serving.url) as made:
        yield made


def test_a_chat_and_its_stream(client: ollama.Client) -> None:
    found = client.chat("box", ASK, options=GREEDY)
    assert found.message.content.startswith(WHO)
    assert (found.done, found.done_reason, found.prompt_eval_count) == (True, "stop", 15)
    lines = list(client.chat("box:latest", ASK, options=GREEDY, stream=True))
    assert "".join(line.message.content for line in lines) == found.message.content
    assert [line.done for line in lines[-2:]] == [False, True]
    assert lines[-1].eval_count == found.eval_count > 10
    assert lines[-1].eval_duration > 0


def test_a_prompt_with_and_without_a_template(client: ollama.Client) -> None:
    assert client.generate("box", "Who are you?", options=GREEDY).response.startswith(WHO)
    raw = client.generate("box", "Once upon a time", raw=True, options={**GREEDY, "num_predict": 4})
    assert raw.response.startswith(" there ")
    assert raw.done_reason == "length"


def test_tools_and_thoughts(client: ollama.Client, serving: Serving) -> None:
    teach(serving.state, "caller", f"<think>\nHm.\n</think>\n\nWait.\n{CALL}", "It is 2.")
    found = client.chat("caller", ASK, tools=[ADD])
    message = found.message
    assert (message.thinking, message.content) == ("Hm.", "Wait.")
    assert message.tool_calls[0].function.arguments == {"a": 1}
    messages = [*ASK, message, {"role": "tool", "tool_name": "add", "content": "2"}]
    assert client.chat("caller", messages, tools=[ADD]).message.content == "It is 2."


def test_models_are_listed_shown_loaded_and_unloaded(client: ollama.Client, serving: Serving) -> None:
    assert [model.model for model in client.list().models][:2] == ["box", "tiny"]
    assert client.show("box").parameters.split()[:2] == ["temperature", "0.3"]
    shown = client.show("tiny")
    assert not shown.parameters
    assert "completion" in shown.capabilities
    assert shown.modelinfo["qwen3.context_length"] == 2048
    client.generate("tiny", "")
    assert "tiny" in [model.model for model in client.ps().models]
    assert client.generate("tiny", "", keep_alive=0).done_reason == "unload"
    assert "tiny" not in [model.model for model in client.ps().models]


def test_vectors(client: ollama.Client) -> None:
    assert len(client.embed("box", ["a cat", "a dog"]).embeddings) == 2
    assert len(client.embeddings("box", "a cat").embedding) == 384


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "boxx"}, "Did you mean"),
        ({"options": {"temperature": "hot"}}, "must be a number"),
        ({"options": {"seed": "x"}}, "whole number"),
        ({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "text only"),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_its_form(serving: Serving, change, sentence: str) -> None:
    answer = serving.post("/api/chat", {"model": "box", "messages": ASK, "stream": False, **change})
    assert answer.status_code in (400, 404)
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]
