"""Models on other servers: twofold's own server stands in for OpenAI, Anthropic and Ollama."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import ollama
import openai
import pytest
from serving import Serving, serve, teach, teach_to_break

from twofold.base.errors import UsageError
from twofold.serve.models import Models

KEY = "sk-very-secret-0123456789"
FAMILIES = ("openai", "anthropic", "ollama")
ASK = [{"role": "user", "content": "Who are you?"}]
WHO = "I am twofold's model in the box, a very small language model."
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "enum": [1, 2]}}, "required": ["a"]}
SCHEMA["additionalProperties"] = False
ADD = {"type": "function", "function": {"name": "add", "parameters": SCHEMA}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


@pytest.fixture(scope="module")
def far() -> Iterator[Serving]:
    """Return the other server, which asks for a key."""
    with serve("box", key=KEY) as running:
        running.http.headers["Authorization"] = f"Bearer {KEY}"
        yield running


def write(home: Path, url: str, **more: str) -> None:
    """Name the other server's models: FAMILY the one in the box, FAMILY-caller one that calls a tool."""
    lines = []
    for family in FAMILIES:
        for model in ("box", "caller", "breaks"):
            name = family if model == "box" else f"{family}-{model}"
            path = "/v1" if family == "openai" else ""
            lines.append(f'[{name}]\nfamily = "{family}"\nmodel = "{model}"\nurl = "{url}{path}"')
            lines += [f"{key} = {value}" for key, value in {"key": '"env:FAR_KEY"', **more}.items()]
    (home / "twofold").mkdir()
    (home / "twofold" / "kernels.toml").write_text("\n".join(lines))


@pytest.fixture
def near(far: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """Return the server here, behind whose names the other one stands."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("FAR_KEY", KEY)
    write(tmp_path, far.url)
    with serve() as running:
        yield running


def lines(answer) -> list:
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize("family", FAMILIES)
def test_openais_client_whatever_is_behind(near: Serving, family: str) -> None:
    with openai.OpenAI(base_url=f"{near.url}/v1", api_key="none", max_retries=0) as client:
        found = client.chat.completions.create(model=family, messages=ASK, temperature=0)
        assert found.choices[0].message.content.startswith(WHO)
        assert found.choices[0].finish_reason == "stop"
        assert (found.model, found.usage.prompt_tokens) == (family, 15)
        stream = client.chat.completions.create(
            model=family, messages=ASK, temperature=0, stream=True, stream_options={"include_usage": True}
        )
        *chunks, last = list(stream)
        assert len(chunks) > 10, "it comes piece by piece"
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert said == found.choices[0].message.content
        assert last.usage.completion_tokens == found.usage.completion_tokens > 10
        short = client.chat.completions.create(model=family, messages=ASK, max_tokens=3)
        assert short.choices[0].finish_reason == "length"
        answer = client.responses.create(model=family, input="Who are you?", temperature=0)
        assert answer.output_text == said
        assert answer.usage.input_tokens == 15


@pytest.mark.parametrize("family", FAMILIES)
def test_anthropics_client_whatever_is_behind(near: Serving, family: str) -> None:
    with anthropic.Anthropic(base_url=near.url, api_key="none", max_retries=0) as client:
        ask = {"model": family, "max_tokens": 64, "messages": ASK, "extra_body": {"temperature": 0}}
        found = client.messages.create(**ask)
        assert found.content[0].text.startswith(WHO)
        with client.messages.stream(**ask) as stream:
            assert "".join(stream.text_stream) == found.content[0].text
            assert stream.get_final_message().usage.output_tokens == found.usage.output_tokens > 10
        cut = client.messages.create(**{**ask, "stop_sequences": ["x, a"]})
        assert cut.content[0].text == "I am twofold's model in the bo"
        begun = [*ASK, {"role": "assistant", "content": "I am twofold's model in"}]
        if family == "openai":
            with pytest.raises(anthropic.BadRequestError, match="without going on with an answer"):
                client.messages.create(**{**ask, "messages": begun})
        else:
            rest = client.messages.create(**{**ask, "messages": begun}).content[0].text
            assert "I am twofold's model in" + rest == found.content[0].text


@pytest.mark.parametrize("family", FAMILIES)
def test_ollamas_client_whatever_is_behind(near: Serving, family: str) -> None:
    with ollama.Client(near.url) as client:
        found = client.chat(family, ASK, options={"temperature": 0})
        assert found.message.content.startswith(WHO)
        assert (found.done_reason, found.prompt_eval_count) == ("stop", 15)
        stream = client.generate(f"{family}:latest", "Who are you?", options={"temperature": 0}, stream=True)
        assert "".join(line.response for line in stream) == found.message.content
        assert client.generate(family, "").done_reason == "load"
        assert family in [model.model for model in client.list().models]
        assert client.show(family).capabilities == ["completion", "tools"]


@pytest.mark.parametrize("family", FAMILIES)
def test_tools_and_thoughts_and_their_results(near: Serving, far: Serving, family: str) -> None:
    teach(far.state, "caller", f"<think>\nHm.\n</think>\n\nWait.\n{CALL}", "It is 2.")
    body = {"model": f"{family}-caller", "messages": ASK, "tools": [ADD]}
    message = near.post("/v1/chat/completions", body).json()["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("Hm.", "Wait.")
    call = message["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("add", {"a": 1})
    result = {"role": "tool", "tool_call_id": call["id"], "content": "2"}
    again = near.post("/v1/chat/completions", {**body, "messages": [*ASK, message, result]}).json()
    assert again["choices"][0]["message"]["content"] == "It is 2."

    with ollama.Client(near.url) as client:  # whose calls have no ids
        message = client.chat(f"{family}-caller", ASK, tools=[ADD]).message
        assert message.tool_calls[0].function.arguments == {"a": 1}
        messages = [*ASK, message, {"role": "tool", "tool_name": "add", "content": "2"}]
        assert client.chat(f"{family}-caller", messages, tools=[ADD]).message.content == "It is 2."


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_has_the_form_that_was_asked_for(near: Serving, family: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    body = {"model": family, "messages": ASK, "response_format": form, "max_tokens": 200, "temperature": 0}
    answer = near.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    assert list(json.loads(answer)) == ["a"]


def test_a_tool_that_must_be_called(near: Serving) -> None:
    for family in ("openai", "anthropic"):
        body = {"model": family, "messages": ASK, "tools": [ADD], "tool_choice": "required", "temperature": 0}
        choice = near.post("/v1/chat/completions", body).json()["choices"][0]
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "add"


@pytest.mark.parametrize(
    ("path", "change", "sentence"),
    [
        ("chat/completions", {"continue_tokens": [1]}, "without `continue_tokens`"),
        ("chat/completions", {"model": "anthropic", "seed": 1}, "without `seed`"),
        ("chat/completions", {"model": "anthropic", "response_format": {"type": "json_object"}}, "a schema"),
        ("chat/completions", {"model": "ollama", "tools": [ADD], "tool_choice": "required"}, "a say in"),
        ("chat/completions", {"logit_bias": {"box": 1}}, "a token's id"),  # the other side's own words
        ("chat/completions", {"messages": [{"role": "tool", "content": "2"}]}, "belongs to no call"),
        ("completions", {"prompt": "Once"}, "can be talked to, and no more"),
        ("embeddings", {"input": "Once"}, "can be talked to, and no more"),
    ],
    ids=str,
)
def test_what_cannot_be_done_elsewhere_is_refused(near: Serving, path: str, change, sentence: str) -> None:
    answer = near.post(f"/v1/{path}", {"model": "openai", "messages": ASK, **change})
    assert answer.status_code == 400
    assert sentence in answer.json()["error"]["message"]


def test_probabilities_are_not_told(near: Serving) -> None:
    body = {"model": "openai", "messages": ASK, "logprobs": True, "top_logprobs": 5, "max_tokens": 3}
    choice = near.post("/v1/chat/completions", body).json()["choices"][0]
    assert choice["message"]["content"]
    assert choice["logprobs"] is None, "as the web app asks, whatever is behind"


def test_models_are_listed_and_never_meant_by_no_name(near: Serving) -> None:
    owners = {one["id"]: one["owned_by"] for one in near.http.get("/v1/models").json()["data"]}
    assert (owners["openai"], owners["ollama-caller"], owners["box"]) == ("openai", "ollama", "this machine")
    assert near.http.get("/v1/models/anthropic").json()["owned_by"] == "anthropic"
    answer = near.post("/v1/chat/completions", {"messages": ASK, "max_tokens": 2}).json()
    assert answer["model"] == "box"
    unknown = near.post("/v1/chat/completions", {"model": "anthropc", "messages": ASK})
    assert "Did you mean 'anthropic'" in unknown.json()["error"]["message"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key_is_said_and_never_shown(
    near: Serving,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    family: str,
    stream: bool,
) -> None:
    wrong = "sk-wrong-but-still-secret"
    monkeypatch.setenv("FAR_KEY", wrong)
    with caplog.at_level(logging.DEBUG):
        answer = near.post("/v1/chat/completions", {"model": family, "messages": ASK, "stream": stream})
    assert answer.status_code == 502, "a stream has not begun yet"
    assert answer.json()["error"]["message"] == (
        f"{family} ({family}): the key is not accepted (look at env:FAR_KEY)."
    )
    monkeypatch.delenv("FAR_KEY")
    missing = near.post("/v1/messages", {"model": family, "messages": ASK, "max_tokens": 9})
    assert missing.status_code == 502
    assert "FAR_KEY, which is not set" in missing.json()["error"]["message"]
    told = answer.text + near.http.get("/metrics").text + caplog.text + "".join(capfd.readouterr())
    assert wrong not in told
    assert KEY not in told


@pytest.mark.parametrize("family", FAMILIES)
def test_what_breaks_there_is_said_here(near: Serving, far: Serving, family: str) -> None:
    teach_to_break(far, "breaks")
    body = {"model": f"{family}-breaks", "messages": ASK, "stream": True}
    answer = near.post("/v1/chat/completions", body)
    assert "[DONE]" not in answer.text
    assert "has stopped" in lines(answer)[-1]["error"]["message"]
    assert near.post("/v1/chat/completions", {**body, "stream": False}).status_code == 503, "it says: later"


@pytest.mark.parametrize("family", FAMILIES)
def test_who_hangs_up_here_hangs_up_there(near: Serving, far: Serving, family: str) -> None:
    teach(far.state, "caller", "a " * 400, context=1024)
    body = {"model": f"{family}-caller", "messages": ASK, "stream": True, "max_tokens": 380}
    runner = far.served("caller").engine.runner
    forward = runner.forward
    runner.forward = lambda *given: (time.sleep(0.02), forward(*given))[1]
    with near.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if '"content": "a' in line:
                break
    batcher = far.served("caller").batcher
    deadline = time.monotonic() + 20
    while batcher.figures()["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert batcher.figures()["running"] == 0
    assert batcher.figures()["tokens"] < 380


def test_only_what_was_named_is_served_and_what_is_here_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    write(tmp_path, "http://127.0.0.1:9")
    models = Models(["openai:some-model", "ollama"])
    assert models.names() == ["openai:some-model", "ollama"]
    assert models.kernel(None).model == "some-model"
    assert models.kernel("openai:some-model").key == "env:OPENAI_API_KEY"
    assert Models(["box", "ollama"]).kernel(None) is None
    (tmp_path / "twofold" / "kernels.toml").write_text('[box]\nfamily = "ollama"\nmodel = "x"\n')
    assert Models().kernel("box") is None, "a name that is here never leads elsewhere"
    (tmp_path / "twofold" / "kernels.toml").write_text(
        f'[gpt]\nfamily = "openai"\nmodel="x"\nkey = "{KEY}"\n'
    )
    with pytest.raises(UsageError, match="is not the key itself") as caught:
        Models()
    assert KEY not in str(caught.value)
