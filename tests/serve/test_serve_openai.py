"""OpenAI's own client: chat completions, models, embeddings."""

from collections.abc import Iterator

import openai
import pytest
from serving import Serving, teach

ASK = [{"role": "user", "content": "Who are you?"}]
WHO = "I am twofold's model in the box, a very small language model."


@pytest.fixture
def client(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_an_answer_with_its_cost(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="box", messages=ASK, temperature=0)
    assert found.choices[0].message.content.startswith(WHO)
    assert found.choices[0].finish_reason == "stop"
    assert found.usage.prompt_tokens == 15
    assert found.usage.total_tokens == 15 + found.usage.completion_tokens
    again = client.chat.completions.create(model="box", messages=ASK, temperature=0)
    assert again.choices[0].message.content == found.choices[0].message.content
    assert again.usage.prompt_tokens_details.cached_tokens == 14


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="box", messages=ASK, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model="box", messages=ASK, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len(chunks) > 10


def test_the_same_seed_gives_the_same_answers_and_n_of_them_differ(client: openai.OpenAI) -> None:
    def ask(seed: int) -> list[str]:
        found = client.chat.completions.create(
            model="tiny", messages=ASK, n=3, seed=seed, temperature=1, max_tokens=8
        )
        assert [choice.index for choice in found.choices] == [0, 1, 2]
        return [choice.message.content for choice in found.choices]

    first = ask(1)
    assert ask(1) == first
    assert ask(9) != first
    assert len(set(first)) == 3


def test_several_answers_stream_beside_each_other(client: openai.OpenAI) -> None:
    said = {0: "", 1: ""}
    for chunk in client.chat.completions.create(model="box", messages=ASK, n=2, temperature=0, stream=True):
        said[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert said[0] == said[1]
    assert said[0].startswith(WHO)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_across_tokens(client: openai.OpenAI, stream: bool) -> None:
    found = client.chat.completions.create(
        model="box", messages=ASK, temperature=0, stop=["box, a v", "never"], stream=stream
    )
    if stream:
        said = "".join(chunk.choices[0].delta.content or "" for chunk in found)
    else:
        said = found.choices[0].message.content
        assert found.choices[0].finish_reason == "stop"
    assert said == "I am twofold's model in the "


def test_probabilities_of_each_token_with_its_bytes(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="box", messages=ASK, temperature=0, logprobs=True, top_logprobs=3, max_tokens=6
    )
    entries = found.choices[0].logprobs.content
    assert len(entries) == 6
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == found.choices[0].message.content
    for entry in entries:
        tops = [top.logprob for top in entry.top_logprobs]
        assert len(tops) == 3
        assert tops == sorted(tops, reverse=True)
        assert entry.logprob == tops[0] <= 0
    chunks = client.chat.completions.create(
        model="box", messages=ASK, temperature=0, logprobs=True, top_logprobs=3, max_tokens=6, stream=True
    )
    streamed = [entry for chunk in chunks if (given := chunk.choices[0].logprobs) for entry in given.content]
    assert streamed == entries


def test_an_answer_that_was_begun_goes_on(client: openai.OpenAI) -> None:
    whole = (
        client.chat.completions.create(model="box", messages=ASK, temperature=0).choices[0].message.content
    )
    begun = [*ASK, {"role": "assistant", "content": "I am twofold's model in"}]
    more = {"continue_final_message": True}
    rest = client.chat.completions.create(model="box", messages=begun, temperature=0, extra_body=more)
    assert "I am twofold's model in" + rest.choices[0].message.content == whole
    steps = (
        client.chat.completions.create(model="box", messages=ASK, temperature=0, logprobs=True, max_tokens=4)
        .choices[0]
        .logprobs.content
    )
    more = {"continue_tokens": [step.id for step in steps]}
    rest = client.chat.completions.create(model="box", messages=ASK, temperature=0, extra_body=more)
    assert "".join(step.token for step in steps) + rest.choices[0].message.content == whole


def test_only_the_assistant_is_gone_on_with(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="last message of the assistant"):
        client.chat.completions.create(model="box", messages=ASK, extra_body={"continue_final_message": True})


def test_roles_parts_and_names(client: openai.OpenAI) -> None:
    messages = [
        {"role": "developer", "content": "Be short."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Who "}, {"type": "text", "text": "are you?"}],
            "name": "x",
        },
    ]
    assert (
        client.chat.completions.create(model="box", messages=messages, max_tokens=4)
        .choices[0]
        .message.content
    )
    messages[1]["content"] = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    with pytest.raises(openai.BadRequestError, match="reads text only, not image_url"):
        client.chat.completions.create(model="box", messages=messages)


@pytest.mark.parametrize(
    ("change", "where", "sentence"),
    [
        ({"model": "boxx"}, "model", "Did you mean 'box'"),
        ({"messages": []}, "messages", "takes 1 or more"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", "must be one of system"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "messages", "sees 2,560"),
        ({"temperature": "hot"}, "temperature", "must be a number from 0 to 2"),
        ({"temperature": 3}, "temperature", "must be a number from 0 to 2"),
        ({"n": 1000}, "n", "from 1 to 128"),
        ({"frequency_penalty": 3}, "frequency_penalty", "from -2 to 2"),
        ({"logit_bias": {"box": 1}}, "logit_bias", "a token's id"),
        ({"logit_bias": {"7": 101}}, "logit_bias", "from -100 to 100"),
        ({"logit_bias": {"7": True}}, "logit_bias", "from -100 to 100"),
        ({"logit_bias": {str(n): 1 for n in range(1025)}}, "logit_bias", "1,024 tokens at most"),
        ({"stop": 5}, "stop", "must be"),
        ({"seed": 0.5}, "seed", "whole number"),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_a_sentence(
    client: openai.OpenAI, change, where: str, sentence: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**{"model": "box", "messages": ASK, **change})
    assert caught.value.status_code == (404 if where == "model" else 400)
    error = caught.value.body
    assert sentence in error["message"]
    assert error["message"].endswith((".", "none"))
    assert error["param"] == where


def test_penalties_and_a_bias(client: openai.OpenAI, serving: Serving) -> None:
    story = [{"role": "user", "content": "Tell me a story about a cat."}]

    def said(count: int, **how) -> list[str]:
        found = client.chat.completions.create(
            model="box", messages=story, temperature=0, max_tokens=count, logprobs=True, **how
        )
        return [one.token for one in found.choices[0].logprobs.content]

    [token] = serving.post("/tokenize", {"prompt": "7", "add_special_tokens": False}).json()["tokens"]
    assert said(9, logit_bias={str(token): 100}) == ["7"] * 9
    assert said(3, logit_bias={str(token): 100}, frequency_penalty=2, presence_penalty=2) == ["7"] * 3
    plain, shy = said(40), said(40, presence_penalty=2, frequency_penalty=2)
    fond = said(40, presence_penalty=-2, frequency_penalty=-2)
    assert shy != plain
    assert len(set(fond)) < len(set(plain)) <= len(set(shy))
    with pytest.raises(openai.BadRequestError, match="999,999, which is not in 0 to"):
        said(1, logit_bias={"999999": 1})


def test_models_are_listed_and_the_first_is_the_default(client: openai.OpenAI, serving: Serving) -> None:
    assert [model.id for model in client.models.list()][:2] == ["box", "tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("none/such")
    assert serving.post("/v1/chat/completions", {"messages": ASK, "max_tokens": 1}).json()["model"] == "box"


def test_embeddings_of_kin_texts_are_nearer(client: openai.OpenAI) -> None:
    texts = ["The cat sleeps on the mat.", "A cat is sleeping on a mat.", "Two ships sailed to war."]
    found = client.embeddings.create(model="box", input=texts)
    a, b, c = (item.embedding for item in found.data)
    assert len(a) == 384

    def near(x: list[float], y: list[float]) -> float:
        return sum(p * q for p, q in zip(x, y, strict=True))

    assert near(a, a) == pytest.approx(1, abs=1e-5)
    assert near(a, b) > near(a, c) + 0.2
    plain = client.embeddings.create(model="box", input=texts[0], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(a)
    with pytest.raises(openai.BadRequestError, match="384 numbers"):
        client.embeddings.create(model="box", input="x", dimensions=3)
    with pytest.raises(openai.BadRequestError, match="empty text"):
        client.embeddings.create(model="box", input="")


def test_thoughts_are_apart_from_the_answer(client: openai.OpenAI, serving: Serving) -> None:
    teach(serving.state, "thinker", "<think>\nHm.\n</think>\n\nYes.")
    found = client.chat.completions.create(model="thinker", messages=ASK).choices[0].message
    assert (found.content, found.reasoning_content) == ("Yes.", "Hm.")
    chunks = list(client.chat.completions.create(model="thinker", messages=ASK, stream=True))
    deltas = [chunk.choices[0].delta for chunk in chunks]
    assert "".join(delta.content or "" for delta in deltas) == "Yes."
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Hm."


def test_thoughts_end_with_their_budget(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(
        model="tiny", messages=ASK, reasoning_effort="minimal", max_tokens=5, seed=3
    )
    details = found.usage.completion_tokens_details
    assert 0 < details.reasoning_tokens <= 64
    assert found.usage.completion_tokens - details.reasoning_tokens <= 5
    assert found.choices[0].message.reasoning_content


def test_without_tools_no_call_begins(serving: Serving) -> None:
    body = {"model": "box", "messages": [{"role": "user", "content": "What is 348 * 27?"}], "max_tokens": 60}
    for seed in range(12):
        said = serving.post("/v1/chat/completions", {**body, "seed": seed}).json()["choices"][0]["message"]
        assert '"name"' not in said["content"]
