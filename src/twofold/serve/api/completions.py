"""OpenAI's older completions: /v1/completions, which go on with a text or with tokens.

The prompt is the program's own: what is spelled like a control token in it is one. With `echo` and `logprobs`
the prompt's own tokens get probabilities, by which lm-evaluation-harness scores answers (its model
`local-completions`).
"""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twofold.run import Step
from twofold.serve import asking, openai
from twofold.serve.fields import either, flag, listed, record, text, whole
from twofold.serve.models import Served
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result, event
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Reply, merged
from twofold.serve.request import Request
from twofold.tokens import Tokenizer

__all__ = ["FAMILY", "OPERATIONS"]

_DEFAULT = 16  # tokens, as OpenAI has it
IDS = listed(whole(0, 1 << 31))
TAKES = record(
    {
        "model": openai.MODEL,
        "prompt": either(text(), listed(text()), IDS, listed(IDS)),
        "suffix": text("Only empty."),
        "max_tokens": whole(0, 1 << 31, "0 only with `echo`."),
        "n": whole(1, 128),
        "best_of": whole(1, 128, "Only as many as `n`."),
        "stream": flag(),
        "stream_options": record({"include_usage": flag()}),
        "logprobs": whole(0, 8),
        "echo": flag("Begin with the prompt."),
        **openai.SAMPLING,
    },
    ["prompt"],
)


async def answer(request: Request) -> Result:
    """Return the completions of all prompts, or a stream of their chunks."""
    body, settings = request.body, request.state.settings
    if body.get("suffix"):
        raise Refusal("invalid", "`suffix` is not offered: a text is only continued.", where="suffix")
    each = body.get("n") or 1
    if body.get("best_of") not in (None, each):
        raise Refusal("invalid", "`best_of` is offered only with the value of `n`.", where="best_of")
    served = await request.model()
    prompts = _prompts(body["prompt"])
    if not 0 < len(prompts) * each <= settings.items:
        raise Refusal("invalid", f"A request takes 1 to {settings.items} completions.", where="prompt")
    replies = []
    for prompt in prompts:
        ids = prompt
        if isinstance(prompt, str):
            ids = await asyncio.to_thread(asking.raw_ids, served, prompt)
        wish = _wish(request, ids, served)
        for index in range(each):
            sampler = asking.reseeded(wish.sampler, index)
            replies.append(request.reply(served, dataclasses.replace(wish, sampler=sampler)))
    head = {
        "id": openai.new_id("cmpl-"), "object": "text_completion", "created": int(time.time()),
        "model": served.name,
    }  # fmt: skip
    if body.get("stream"):
        return _stream(request, replies, each, head)
    choices = await asyncio.gather(*(_choice(request, n, reply) for n, reply in enumerate(replies)))
    return {**head, "choices": choices, "usage": _usage(request, replies, each)}


def _prompts(given: Any) -> list[Any]:
    """Return the prompts, each a text or a list of ids."""
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


def _wish(request: Request, ids: Sequence[int], served: Served) -> asking.Wish:
    body, settings, context = request.body, request.state.settings, served.engine.context
    wanted = _DEFAULT if body.get("max_tokens") is None else body["max_tokens"]
    echo = bool(body.get("echo"))
    if not wanted and not echo:
        raise Refusal("invalid", "`max_tokens` of 0 goes only with `echo`.", where="max_tokens")
    if not ids:
        raise Refusal("invalid", "A prompt needs at least one token.", where="prompt")
    if len(ids) > context:
        raise Refusal(
            "invalid",
            f"That is {len(ids):,} tokens; {served.name} sees {context:,} with its answer: shorten it.",
            where="prompt",
            code="context_length_exceeded",
        )
    return asking.Wish(
        ids=ids,
        max_tokens=min(wanted, max(1, context - len(ids))),
        sampler=asking.sampler(body, settings, served),
        stops=asking.stops(body.get("stop")),
        alternatives=body.get("logprobs") or 0,
        owner=request.owner,
        chat=False,
        echo=echo and body.get("logprobs") is not None,
    )


async def _choice(request: Request, index: int, reply: Reply) -> dict[str, Any]:
    said = await reply.whole()
    tokenizer = reply.served.engine.tokenizer
    written, before = said.text, ""
    parts: list[dict[str, Any]] = []
    if request.body.get("echo"):
        before = tokenizer.decode(reply.wish.ids)
    if request.body.get("logprobs") is not None:
        if request.body.get("echo"):
            parts.append(_logprobs(tokenizer, reply.read, 0, reply.wish.ids[0]))
        parts.append(_logprobs(tokenizer, [*said.steps, *_end(reply)], len(before)))
    return {
        "index": index,
        "text": before + written,
        "logprobs": {key: [one for part in parts for one in part[key]] for key in parts[0]}
        if parts
        else None,
        "finish_reason": openai.FINISH[reply.finish],
    }


def _end(reply: Reply) -> list[Step]:
    """Return the token that ended the answer, if any: it is listed, though it is no text."""
    return [reply.end] if reply.end else []


def _logprobs(
    tokenizer: Tokenizer, steps: Sequence[Step], offset: int, first: int | None = None
) -> dict[str, Any]:
    """Return steps as completions list them. `first`: a token before them, of which nothing is known."""
    names = [_name(tokenizer, step.id) for step in steps]
    values: list[float | None] = [openai.log_p(step.probability) for step in steps]
    tops: list[dict[str, float] | None] = [_top(tokenizer, step) for step in steps]
    if first is not None:
        names, values, tops = [_name(tokenizer, first), *names], [None, *values], [None, *tops]
    offsets = []
    for name in names:
        offsets.append(offset)
        offset += len(name)
    return {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def _top(tokenizer: Tokenizer, step: Step) -> dict[str, float]:
    """Return the likeliest tokens by name, and the token itself; of two with one name the likelier counts."""
    found: dict[str, float] = {}
    for token, p in (*step.alternatives, (step.id, step.probability)):
        found.setdefault(_name(tokenizer, token), openai.log_p(p))
    return found


def _name(tokenizer: Tokenizer, token: int) -> str:
    raw = tokenizer.token_bytes(token)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _usage(request: Request, replies: Sequence[Reply], each: int) -> dict[str, Any]:
    """Return what all prompts together cost."""
    groups = [replies[n : n + each] for n in range(0, len(replies), each)]
    for group in groups:
        request.count(group)
    parts = [openai.usage(group) for group in groups]
    cached = sum(part["prompt_tokens_details"]["cached_tokens"] for part in parts)
    keys = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {key: sum(part[key] for part in parts) for key in keys} | {
        "prompt_tokens_details": {"cached_tokens": cached}
    }


async def _stream(
    request: Request, replies: Sequence[Reply], each: int, head: dict[str, Any]
) -> AsyncIterator[str]:
    with_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))
    begun: dict[int, int] = {}

    def chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None = None) -> str:
        return event({**head, "choices": choices, **({"usage": usage} if with_usage else {})})

    async for index, piece in merged(replies):
        reply = replies[index]
        tokenizer = reply.served.engine.tokenizer
        choice: dict[str, Any] = {"index": index, "text": "", "logprobs": None, "finish_reason": None}
        if request.body.get("echo") and index not in begun:
            before = tokenizer.decode(reply.wish.ids)
            wanted = request.body.get("logprobs") is not None
            known = _logprobs(tokenizer, reply.read, 0, reply.wish.ids[0]) if wanted else None
            yield chunk([{**choice, "text": before, "logprobs": known}])
            begun[index] = len(before)
        steps = _end(reply) if piece is None else piece.notes
        if request.body.get("logprobs") is not None and steps:
            choice["logprobs"] = _logprobs(tokenizer, steps, begun.get(index, 0))
        if piece is None:
            yield chunk([{**choice, "finish_reason": openai.FINISH[reply.finish]}])
            continue
        begun[index] = begun.get(index, 0) + len(piece.text)
        yield chunk([{**choice, "text": piece.text}])
    usage = _usage(request, replies, each)
    if with_usage:
        yield chunk([], usage)
    yield event("[DONE]")


OPERATIONS = [Operation("POST", "/v1/completions", "Go on with a text.", answer, TAKES)]
