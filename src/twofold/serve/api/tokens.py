"""Text to tokens and back: /tokenize, /detokenize and /tokenizer_info, as vLLM has them.

By these lm-evaluation-harness needs no tokenizer of its own. As in /v1/completions, what is spelled like a
control token in `prompt` is one.
"""

import asyncio
from typing import Any

from twofold.serve import asking, openai
from twofold.serve.fields import flag, listed, record, text, whole
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result
from twofold.serve.refusals import Refusal
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]

MESSAGE = record({"role": text(), "content": text()}, ["role", "content"])
TAKES = record(
    {
        "model": openai.MODEL,
        "prompt": text("A text; or `messages`."),
        "messages": listed(MESSAGE, least=1),
        "add_special_tokens": flag("Begin with BOS where the model wants one. Default: true."),
        "return_token_strs": flag(),
    }
)
BACK = record({"model": openai.MODEL, "tokens": listed(whole(0, 1 << 31))}, ["tokens"])


async def tokenize(request: Request) -> Result:
    """Return the tokens of a text or a conversation."""
    body = request.body
    served = await request.model()
    tokenizer = served.engine.tokenizer
    if body.get("messages"):
        ids = await asyncio.to_thread(asking.chat_ids, served, body["messages"])
    elif body.get("prompt") is None:
        raise Refusal("invalid", "There is neither a `prompt` nor `messages`.", where="prompt")
    elif body.get("add_special_tokens") is False:
        ids = await asyncio.to_thread(tokenizer.encode, body["prompt"], specials=True)
    else:
        ids = await asyncio.to_thread(asking.raw_ids, served, body["prompt"])
    found: dict[str, Any] = {"count": len(ids), "max_model_len": served.engine.context, "tokens": ids}
    if body.get("return_token_strs"):
        found["token_strs"] = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]
    return found


async def detokenize(request: Request) -> Result:
    """Return the text of tokens."""
    served = await request.model()
    return {"prompt": served.engine.tokenizer.decode(request.body["tokens"])}


async def info(request: Request) -> Result:
    """Return what the first model's tokenizer is like; of another one with ?model=NAME.

    bos_token: what a document begins with, whether or not the model wants it before each text.
    """
    async with request.state.models.use(request.query.get("model")) as served:
        known, context = served.engine.tokenizer.vocabulary, served.engine.context
        begin = served.engine.tokenizer.separator_id if known.bos_id is None else known.bos_id
    names = {"bos_token": begin, "eos_token": known.eos_id, "pad_token": known.pad_id}
    return {
        "tokenizer_class": "twofold",
        "model_max_length": context,
        "chat_template": known.chat_template,
        **{name: None if token is None else known.tokens[token] for name, token in names.items()},
    }


OPERATIONS = [
    Operation("POST", "/tokenize", "The tokens of a text.", tokenize, TAKES),
    Operation("POST", "/detokenize", "The text of tokens.", detokenize, BACK),
    Operation("GET", "/tokenizer_info", "What the tokenizer is like.", info),
]
