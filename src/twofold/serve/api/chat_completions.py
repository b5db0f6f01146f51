"""OpenAI's chat completions: /v1/chat/completions.

Beyond OpenAI's: `top_k`, `min_p`, `repetition_penalty`; `reasoning_content` in messages; a last message of the
assistant with `continue_final_message` is gone on with, and `continue_tokens` (ids, as `logprobs` gives them)
goes on from exactly these; each of `logprobs` has its `id`.
"""

import asyncio
import dataclasses
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twofold.run import Step
from twofold.serve import asking
from twofold.serve.fields import Schema, either, flag, listed, number, record, text, whole
from twofold.serve.models import Served
from twofold.serve.openai import FAMILY, new_id, usage
from twofold.serve.operations import Operation, Request, Result, event
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Reply, merged
from twofold.tokens import Tokenizer
from twofold.tokens.speech import Piece

__all__ = ["FAMILY", "OPERATIONS"]

_FINISH = {"stop": "stop", "length": "length", "calls": "tool_calls"}
PART = record({"type": text(), "text": text()}, ["type"])
CALL = record(
    {"id": text(), "type": text(), "function": record({"name": text(), "arguments": text()}, ["name"])}
)
MESSAGE = record(
    {
        "role": text(choices=["system", "developer", "user", "assistant", "tool"]),
        "content": either(text(), listed(PART)),
        "reasoning_content": text("What the assistant thought."),
        "tool_calls": listed(CALL),
        "tool_call_id": text(),
        "name": text(),
    },
    ["role"],
)
TOOL = record(
    {
        "type": text(),
        "function": record({"name": text(), "description": text(), "parameters": record({})}, ["name"]),
    },
    ["function"],
)
SAMPLING: dict[str, Schema] = {
    "temperature": number(0, 2, "0 always takes the likeliest token."),
    "top_p": number(0, 1),
    "top_k": whole(-1, 1 << 20),
    "min_p": number(0, 1),
    "repetition_penalty": number(0.01, 100),
    "frequency_penalty": number(-2, 2, "Only 0."),
    "presence_penalty": number(-2, 2, "Only 0."),
    "seed": whole(-(1 << 63), (1 << 63) - 1),
    "stop": either(text(), listed(text(), most=16)),
    "user": text("Who asks: where there is not room for all, each gets an equal share."),
}
TAKES = record(
    {
        "model": text("Default: the first of /v1/models."),
        "messages": listed(MESSAGE, least=1),
        "max_tokens": whole(1, 1 << 31),
        "max_completion_tokens": whole(1, 1 << 31),
        "n": whole(1, 128),
        "stream": flag(),
        "stream_options": record({"include_usage": flag()}),
        "logprobs": flag(),
        "top_logprobs": whole(0, 8),
        "tools": listed(TOOL),
        "continue_final_message": flag(),
        "continue_tokens": listed(whole(0, 1 << 31)),
        **SAMPLING,
    },
    ["messages"],
)


async def answer(request: Request) -> Result:
    """Return the completion, or a stream of its chunks."""
    body = request.body
    served = await request.model()
    wish = _wish(request, served)
    replies = []
    for number_ in range(body.get("n") or 1):
        sampler = asking.reseeded(wish.sampler, number_)
        replies.append(Reply(served, dataclasses.replace(wish, sampler=sampler)))
        request.undo.callback(replies[-1].cancel)
    head = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": served.name}
    if body.get("stream"):
        return _stream(request, replies, head)
    choices = await asyncio.gather(*(_choice(request, n, reply) for n, reply in enumerate(replies)))
    request.count(replies)
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage(replies)}


def _wish(request: Request, served: Served) -> asking.Wish:
    body, settings = request.body, request.state.settings
    messages = [_message(message, n) for n, message in enumerate(body["messages"])]
    goes_on = bool(body.get("continue_final_message"))
    tools = body.get("tools") or []
    ids = asking.chat_ids(served, messages, tools=tools, goes_on=goes_on)
    ids += body.get("continue_tokens") or []
    wanted = body.get("max_completion_tokens") or body.get("max_tokens")
    return asking.Wish(
        ids=ids,
        max_tokens=asking.room(served, ids, wanted, settings),
        sampler=asking.sampler(body, settings),
        stops=asking.stops(body.get("stop")),
        alternatives=_alternatives(body),
        owner=request.owner,
        tools=bool(tools),
        goes_on=goes_on or bool(body.get("continue_tokens")),
    )


def _alternatives(body: dict[str, Any]) -> int:
    return (body.get("top_logprobs") or 0) if body.get("logprobs") else 0


def _message(message: dict[str, Any], number_: int) -> dict[str, Any]:
    """Return a message whose content is text. Raises Refusal for pictures and the like."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    for part in content:
        if part["type"] not in ("text", "input_text", "output_text", "refusal"):
            raise Refusal(
                "invalid",
                f"This model reads text only, not {part['type']}.",
                where=f"messages[{number_}].content",
            )
    return {**message, "content": "".join(part.get("text") or "" for part in content)}


async def _choice(request: Request, index: int, reply: Reply) -> dict[str, Any]:
    said: dict[str, list[str]] = {"text": [], "thought": []}
    calls: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    async for piece in reply:
        if piece.call:
            calls.append(_call(piece))
        else:
            said[piece.kind].append(piece.text)
        if piece.kind == "text":
            entries += _logprobs(request, reply, piece.notes)
    content = "".join(said["text"])
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if calls and not content else content,
        "refusal": None,
    }
    if said["thought"]:
        message["reasoning_content"] = "".join(said["thought"])
    if calls:
        message["tool_calls"] = calls
    logprobs = {"content": entries, "refusal": None} if request.body.get("logprobs") else None
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": _FINISH[reply.finish]}


def _call(piece: Piece) -> dict[str, Any]:
    assert piece.call is not None
    function = {"name": piece.call.name, "arguments": piece.call.arguments}
    return {"id": new_id("call"), "type": "function", "function": function}


async def _stream(request: Request, replies: Sequence[Reply], head: dict[str, Any]) -> AsyncIterator[str]:
    options = request.body.get("stream_options") or {}
    with_usage = {"usage": None} if options.get("include_usage") else {}

    def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
        return event({**head, "object": "chat.completion.chunk", "choices": choices, **with_usage, **more})

    for index in range(len(replies)):
        first = {"role": "assistant", "content": ""}
        yield chunk([{"index": index, "delta": first, "logprobs": None, "finish_reason": None}])
    async for index, piece in merged(replies):
        reply = replies[index]
        if piece is None:
            yield chunk(
                [{"index": index, "delta": {}, "logprobs": None, "finish_reason": _FINISH[reply.finish]}]
            )
            continue
        logprobs = None
        if request.body.get("logprobs") and piece.kind == "text":
            logprobs = {"content": _logprobs(request, reply, piece.notes), "refusal": None}
        if piece.call:
            delta: dict[str, Any] = {"tool_calls": [{"index": reply.calls - 1, **_call(piece)}]}
        else:
            delta = {"content" if piece.kind == "text" else "reasoning_content": piece.text}
        yield chunk([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None}])
    request.count(replies)
    if options.get("include_usage"):
        yield chunk([], usage=usage(replies))
    yield event("[DONE]")


def _logprobs(request: Request, reply: Reply, steps: Sequence[Step]) -> list[dict[str, Any]]:
    if not request.body.get("logprobs"):
        return []
    tokenizer, found = reply.served.engine.tokenizer, []
    for step in steps:
        top = [_named(tokenizer, token, p) for token, p in step.alternatives]
        found.append({**_named(tokenizer, step.id, step.probability), "top_logprobs": top})
    return found


def _named(tokenizer: Tokenizer, token: int, p: float) -> dict[str, Any]:
    raw = tokenizer.token_bytes(token)
    logprob = math.log(p) if p > 0 else -9999.0
    return {"token": raw.decode("utf-8", "replace"), "id": token, "logprob": logprob, "bytes": list(raw)}


OPERATIONS = [Operation("POST", "/v1/chat/completions", "Answer a conversation.", answer, TAKES)]
