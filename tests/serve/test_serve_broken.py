"""A model that breaks down in the middle of an answer: each family's stream says so in its own form."""

import json
from collections.abc import Iterator

import pytest
from serving import Serving, serve, teach_to_break

MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def breaking() -> Iterator[Serving]:
    """Return a server of a model that says three tokens and then raises what no code expects."""
    with serve("box") as running:
        teach_to_break(running, "breaks")
        yield running


def test_openai(breaking: Serving) -> None:
    body = {"model": "breaks", "messages": MESSAGES, "stream": True}
    lines = [line for line in breaking.post("/v1/chat/completions", body).text.splitlines() if line]
    assert "has stopped" in json.loads(lines[-1].removeprefix("data: "))["error"]["message"]
    assert "data: [DONE]" not in lines


def test_anthropic(breaking: Serving) -> None:
    body = {"model": "breaks", "messages": MESSAGES, "stream": True, "max_tokens": 50}
    *_, name, data = [line for line in breaking.post("/v1/messages", body).text.splitlines() if line]
    assert name == "event: error"
    error = json.loads(data.removeprefix("data: "))
    assert (error["type"], error["error"]["type"]) == ("error", "api_error")


def test_ollama(breaking: Serving) -> None:
    body = {"model": "breaks", "messages": MESSAGES}
    last = breaking.post("/api/chat", body).text.splitlines()[-1]
    assert "has stopped" in json.loads(last)["error"]


def test_without_a_stream_it_is_a_status_and_the_server_goes_on(breaking: Serving) -> None:
    answer = breaking.post("/v1/chat/completions", {"model": "breaks", "messages": MESSAGES})
    assert answer.status_code == 500
    assert "has stopped" in answer.json()["error"]["message"]
    assert breaking.post("/v1/chat/completions", {"model": "breaks", "messages": MESSAGES}).status_code == 503
    good = breaking.post("/v1/chat/completions", {"model": "box", "messages": MESSAGES, "max_tokens": 2})
    assert good.status_code == 200
