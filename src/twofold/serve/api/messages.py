"""Anthropic's messages: /v1/messages, and /v1/messages/count_tokens.

Pictures, documents and tools that run at Anthropic are refused. A last message of the assistant is gone on
with, as there. `output_config.format` (or `output_format`) of type json_schema is followed.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twofold.kernel.elsewhere import Kernel
from twofold.serve import asking, openai
from twofold.serve.fields import Schema, either, flag, listed, number, record, text, whole
from twofold.serve.models import Served
from twofold.serve.operations import Family, Operation, Result, event
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Answer
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]

_TYPES = {
    "key": "authentication_error", "forbidden": "permission_error", "unknown": "not_found_error",
    "large": "request_too_large", "busy": "overloaded_error", "upstream": "api_error",
    "bug": "api_error",
}  # fmt: skip
_REASONS = {"stop": "end_turn", "length": "max_tokens", "calls": "tool_use"}
_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def refuse(no: Refusal) -> dict[str, Any]:
    """Return the body of a refusal."""
    return {
        "type": "error",
        "error": {"type": _TYPES.get(no.kind, "invalid_request_error"), "message": str(no)},
    }


FAMILY = Family("Anthropic", refuse, lambda no: event(refuse(no), "error"), statuses={"busy": 529})

BLOCK = record(
    {
        "type": text(),
        "text": text(),
        "thinking": text(),
        "signature": text(),
        "id": text(),
        "name": text(),
        "input": record({}),
        "tool_use_id": text(),
        "content": either(text(), listed(record({"type": text(), "text": text()}, ["type"]))),
        "is_error": flag(),
    },
    ["type"],
)
TEXTS = either(text(), listed(record({"type": text(choices=["text"]), "text": text()}, ["type", "text"])))
FORMAT = record({"type": text(choices=["json_schema"]), "schema": openai.PARAMETERS}, ["type", "schema"])
ASKED: dict[str, Schema] = {
    "model": openai.MODEL,
    "messages": listed(
        record(
            {"role": text(choices=["user", "assistant", "system"]), "content": either(text(), listed(BLOCK))},
            ["role", "content"],
        ),
        least=1,
    ),
    "system": TEXTS,
    "tools": listed(
        record({"name": text(), "description": text(), "input_schema": openai.PARAMETERS}, ["name"])
    ),
    "tool_choice": record(
        {
            "type": text(choices=["auto", "any", "tool", "none"]),
            "name": text(),
            "disable_parallel_tool_use": flag(),
        },
        ["type"],
    ),
    "thinking": record(
        {"type": text(choices=["enabled", "disabled", "adaptive"]), "budget_tokens": whole(1, 1 << 31)},
        ["type"],
    ),
}
TAKES = record(
    {
        **ASKED,
        "max_tokens": whole(1, 1 << 31),
        "stop_sequences": listed(text(), most=16),
        "stream": flag(),
        "temperature": number(0, 1),
        "top_p": number(0, 1),
        "top_k": whole(0, 1 << 20),
        "metadata": record({"user_id": text()}),
        "output_format": FORMAT,
        "output_config": record({"format": FORMAT}),
    },
    ["messages", "max_tokens"],
)


async def answer(request: Request) -> Result:
    """Return the message, or a stream of the events that it is made of."""
    body = request.body
    served = await request.speaker()
    wish = await asyncio.to_thread(
        _turn,
        request,
        served,
        schema=openai.format_of((body.get("output_config") or {}).get("format") or body.get("output_format")),
        max_tokens=body["max_tokens"],
        options=body,
        stops=asking.stops(body.get("stop_sequences")),
    )
    reply = await request.begin(served, wish)
    head = {"id": openai.new_id("msg_"), "type": "message", "role": "assistant", "model": served.name}
    if body.get("stream"):
        return _stream(request, reply, head)
    said = await reply.whole()
    content: list[dict[str, Any]] = []
    if said.thought:
        content.append({"type": "thinking", "thinking": said.thought, "signature": ""})
    if said.text:
        content.append({"type": "text", "text": said.text})
    for call in said.calls:
        content.append({**_tool_use(call.name), "input": json.loads(call.arguments)})
    request.count([reply])
    return {**head, "content": content, **_end(reply), "usage": _usage(reply)}


async def count(request: Request) -> Result:
    """Return how many tokens the messages are."""
    served = await request.model()
    wish = await asyncio.to_thread(_turn, request, served)
    assert isinstance(wish, asking.Wish)
    return {"input_tokens": len(wish.ids)}


def _turn(request: Request, served: Served | Kernel, **how: Any) -> asking.Turn:
    body = request.body
    messages = [one for n, message in enumerate(body["messages"]) for one in _messages(message, n)]
    if system := asking.plain(body.get("system"), "system"):
        messages.insert(0, {"role": "system", "content": system})
    thinking, choice = body.get("thinking") or {}, body.get("tool_choice") or {"type": "auto"}
    if choice["type"] == "tool" and not choice.get("name"):
        raise Refusal("invalid", "A choice of type tool needs the `name` of one.", where="tool_choice.name")
    thoughts = {"enabled": thinking.get("budget_tokens") or openai.EFFORTS["medium"], "disabled": 0}
    return asking.turn(
        request,
        served,
        messages,
        tools=[_tool(tool) for tool in body.get("tools") or ()],
        choice=choice["name"] if choice["type"] == "tool" else _CHOICES[choice["type"]],
        parallel=not choice.get("disable_parallel_tool_use"),
        thoughts=thoughts.get(thinking.get("type", "")),
        goes_on=messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"),
        **how,
    )


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    parameters = tool.get("input_schema") or {"type": "object", "properties": {}}
    known = {"name": tool["name"], "description": tool.get("description") or "", "parameters": parameters}
    return {"type": "function", "function": known}


def _messages(message: dict[str, Any], number_: int) -> list[dict[str, Any]]:
    """Return a message as conversations here have it; results of tools are messages of their own."""
    role, content, where = message["role"], message["content"], f"messages[{number_}].content"
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    found: list[dict[str, Any]] = []
    said: dict[str, Any] = {"role": role, "content": ""}
    for block in content:
        kind = block["type"]
        if kind == "text":
            said["content"] += block.get("text") or ""
        elif kind == "thinking":
            said["reasoning_content"] = said.get("reasoning_content", "") + (block.get("thinking") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name") or "", "arguments": block.get("input") or {}}
            call = {"id": block.get("id") or "", "type": "function", "function": function}
            said.setdefault("tool_calls", []).append(call)
        elif kind == "tool_result":
            result = asking.plain(block.get("content"), where)
            found.append({"role": "tool", "tool_call_id": block.get("tool_use_id") or "", "content": result})
        elif kind != "redacted_thinking":
            raise Refusal("invalid", f"This model reads text only, not {kind}.", where=where)
    return [*found, said] if said["content"] or len(said) > 2 or not found else found


def _tool_use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": openai.new_id("toolu_"), "name": name, "input": {}}


def _end(reply: Answer) -> dict[str, Any]:
    if reply.stopped is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": reply.stopped}
    return {"stop_reason": _REASONS[reply.finish], "stop_sequence": None}


def _usage(reply: Answer) -> dict[str, int]:
    return {
        "input_tokens": reply.prompt_tokens - reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_tokens,
        "output_tokens": reply.tokens,
    }


async def _stream(request: Request, reply: Answer, head: dict[str, Any]) -> AsyncIterator[str]:
    def say(kind: str, **data: Any) -> str:
        return event({"type": kind, **data}, kind)

    begun = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(reply)}
    yield say("message_start", message=begun)
    index, kind = -1, ""
    async for piece in reply:
        if piece.kind != kind or piece.call:
            if kind:
                yield say("content_block_stop", index=index)
            index, kind = index + 1, piece.kind
            yield say("content_block_start", index=index, content_block=_block(piece.kind, piece.call))
        yield say("content_block_delta", index=index, delta=_delta(piece.kind, piece.text, piece.call))
    if kind:
        yield say("content_block_stop", index=index)
    request.count([reply])
    yield say("message_delta", delta=_end(reply), usage=_usage(reply))
    yield say("message_stop")


def _block(kind: str, call: Any) -> dict[str, Any]:
    if call:
        return _tool_use(call.name)
    return (
        {"type": "text", "text": ""}
        if kind == "text"
        else {"type": "thinking", "thinking": "", "signature": ""}
    )


def _delta(kind: str, said: str, call: Any) -> dict[str, Any]:
    if call:
        return {"type": "input_json_delta", "partial_json": call.arguments}
    return (
        {"type": "text_delta", "text": said}
        if kind == "text"
        else {"type": "thinking_delta", "thinking": said}
    )


OPERATIONS: Sequence[Operation] = [
    Operation("POST", "/v1/messages", "Answer a conversation, as Anthropic's clients ask.", answer, TAKES),
    Operation(
        "POST",
        "/v1/messages/count_tokens",
        "Count a conversation's tokens.",
        count,
        record(ASKED, ["messages"]),
    ),
]
