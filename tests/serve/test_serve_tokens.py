"""Text to tokens and back over HTTP, as lm-evaluation-harness asks."""

from serving import Serving


def test_there_and_back(serving: Serving) -> None:
    info = serving.http.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"]) == ("<|endoftext|>", "<|im_end|>")
    assert "{%" in info["chat_template"]
    text = "The sun is hot. <|im_end|> Größe 🦔"
    found = serving.post(
        "/tokenize", {"prompt": text, "add_special_tokens": False, "return_token_strs": True}
    ).json()
    assert found["count"] == len(found["tokens"]) == len(found["token_strs"])
    assert "<|im_end|>" in found["token_strs"]
    assert serving.post("/detokenize", {"tokens": found["tokens"]}).json() == {"prompt": text}
    (end,) = serving.post("/tokenize", {"prompt": info["bos_token"], "add_special_tokens": False}).json()[
        "tokens"
    ]
    assert serving.post("/tokenize", {"prompt": ""}).json()["tokens"] == [end]
    messages = [{"role": "user", "content": "Who are you?"}]
    assert serving.post("/tokenize", {"messages": messages}).json()["count"] == 15


def test_what_cannot_be_is_refused(serving: Serving) -> None:
    assert "neither" in serving.post("/tokenize", {}).json()["error"]["message"]
    assert "no token 999999" in serving.post("/detokenize", {"tokens": [999999]}).json()["error"]["message"]
    assert serving.http.get("/tokenizer_info?model=none").status_code == 404
