"""OpenAI's older completions, by its own client."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from serving import Serving, serve
from tiny_models import random_model

from twofold import parameters, run
from twofold.measure.likelihood import Scorer

START = "Once upon a time"


@pytest.fixture
def client(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{serving.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def test_a_text_goes_on(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="box", prompt=START, max_tokens=12, temperature=0)
    assert whole.choices[0].text.startswith(" there ")
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    stream = client.completions.create(model="box", prompt=START, max_tokens=12, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text
    assert client.completions.create(model="box", prompt=START).usage.completion_tokens <= 16


def test_the_models_card_advises_on_sampling(tmp_path: Path) -> None:
    made = random_model("qwen3", context=256)
    advised = replace(made, card={**made.card, "sampling": {"temperature": 0}})
    parameters.save_gguf(advised, tmp_path / "advised.gguf", "F32")

    def texts(running: Serving, **more: float) -> set[str]:
        bodies = [{"model": "advised", "prompt": START, "max_tokens": 12, "seed": n, **more} for n in (1, 2)]
        answers = [running.post("/v1/completions", body).json() for body in bodies]
        return {answer["choices"][0]["text"] for answer in answers}

    with serve(tmp_path / "advised.gguf") as running:
        assert len(texts(running)) == 1
        assert len(texts(running, temperature=2)) == 2
    with serve(tmp_path / "advised.gguf", temperature=2.0) as running:  # who serves it knows better
        assert len(texts(running)) == 2


def test_texts_and_tokens_are_the_same_prompt(client: openai.OpenAI, serving: Serving) -> None:
    serving.post("/api/generate", {"model": "box"})
    tokenizer = serving.served("box").engine.tokenizer
    ids = tokenizer.encode(START)
    how = {"model": "box", "max_tokens": 5, "temperature": 0, "n": 2}
    texts = client.completions.create(prompt=[START, "The sun"], **how).choices
    tokens = client.completions.create(prompt=[ids, tokenizer.encode("The sun")], **how).choices
    alone = client.completions.create(prompt=ids, **how).choices
    assert [choice.text for choice in texts] == [choice.text for choice in tokens]
    assert [choice.index for choice in texts] == [0, 1, 2, 3]
    assert [choice.text for choice in alone] == [texts[0].text, texts[1].text]
    assert texts[0].text == texts[1].text != texts[2].text


def test_probabilities_as_completions_list_them(client: openai.OpenAI) -> None:
    choice = client.completions.create(
        model="box", prompt=START, max_tokens=6, temperature=0, logprobs=2
    ).choices[0]
    found = choice.logprobs
    assert "".join(found.tokens) == choice.text
    assert found.text_offset[:2] == [0, len(found.tokens[0])]
    for token, value, top in zip(found.tokens, found.token_logprobs, found.top_logprobs, strict=True):
        assert len(top) == 2
        assert top[token] == value == max(top.values())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"max_tokens": 0}, "only with `echo`"),
        ({"suffix": "end"}, "is not offered"),
        ({"best_of": 5}, "only with the value of `n`"),
        ({"prompt": []}, "takes 1 to 128 completions"),
        ({"prompt": ["a"] * 129}, "takes 1 to 128 completions"),
        ({"prompt": [10**6]}, "token of the prompt"),
        ({"prompt": "word " * 3000}, "sees 2,560"),
    ],
    ids=str,
)
def test_a_mistake_is_answered_in_a_sentence(client: openai.OpenAI, change, sentence: str) -> None:
    with pytest.raises(openai.BadRequestError, match=sentence):
        client.completions.create(**{"model": "box", "prompt": START, **change})


def test_a_prompt_without_a_text_starts_a_document(client: openai.OpenAI) -> None:
    assert client.completions.create(model="box", prompt="", max_tokens=3).usage.prompt_tokens == 1


def test_the_prompts_own_tokens_get_probabilities(client: openai.OpenAI, serving: Serving) -> None:
    """What lm-evaluation-harness asks for: ids, echo, one more token, and its way to read the answer."""
    context, ending = "The sun is", " hot. The moon is not."
    serving.post("/api/generate", {"model": "box"})
    served = serving.served("box")
    ids = served.engine.tokenizer.encode(context + ending)
    size = len(served.engine.tokenizer.encode(context))
    found = client.completions.create(
        model="box", prompt=[ids], max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234
    ).choices[0]
    assert found.text.startswith(context + ending)
    assert found.logprobs.token_logprobs[0] is None
    values = found.logprobs.token_logprobs[size:-1]
    tops = found.logprobs.top_logprobs[size:-1]
    assert len(values) == len(ids) - size
    (likelihood,) = Scorer(run.load(served.path, threads=1)).likelihoods([(context, ending)])
    assert sum(values) == pytest.approx(likelihood.ln_p, abs=1e-4)
    greedy = all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
    assert greedy == likelihood.greedy
    only = client.completions.create(model="box", prompt=ids, max_tokens=0, logprobs=0, echo=True).choices[0]
    assert only.text == context + ending
    assert only.logprobs.token_logprobs[1:] == pytest.approx(found.logprobs.token_logprobs[1:-1])
    stream = client.completions.create(
        model="box", prompt=ids, max_tokens=1, temperature=0, logprobs=1, echo=True, stream=True
    )
    streamed = [
        value for chunk in stream if (given := chunk.choices[0].logprobs) for value in given.token_logprobs
    ]
    assert streamed == found.logprobs.token_logprobs


def test_the_token_that_ends_an_answer_is_listed(client: openai.OpenAI) -> None:
    """lm-evaluation-harness leaves out the last token, whatever it is."""
    prompt = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"
    how = {"model": "box", "prompt": prompt, "max_tokens": 90, "temperature": 0, "logprobs": 0}
    whole = client.completions.create(**how).choices[0]
    assert whole.finish_reason == "stop"
    assert whole.logprobs.tokens[-1] == "<|im_end|>"
    assert "".join(whole.logprobs.tokens[:-1]) == whole.text
    chunks = [chunk.choices[0] for chunk in client.completions.create(**how, stream=True)]
    assert [
        name for chunk in chunks if chunk.logprobs for name in chunk.logprobs.tokens
    ] == whole.logprobs.tokens
