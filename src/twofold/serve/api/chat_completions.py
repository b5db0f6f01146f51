"""OpenAI's chat completions: /v1/chat/completions.

Beyond OpenAI's: `top_k`, `min_p`, `repetition_penalty`; `reasoning_content` in messages; a last message of
the assistant goes on with `continue_final_message`, and `continue_tokens` (ids, as `logprobs` lists them)
goes on from exactly these; `chat_template_kwargs` for the chat template.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twofold.kernel.elsewhere import Kernel
from twofold.serve import asking, openai
from twofold.serve.fields import either, flag, listed, record, text, whole
from twofold.serve.models import Served
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result, event
from twofold.serve.replies import Answer, Reply, merged
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]

PART = record({"type": text(), "text": text()}, ["type"])
CALLED = record({"name": text(), "arguments": text()}, ["name"])
MESSAGE = record(
    {
        "role": text(choices=["system", "developer", "user", "assistant", "tool"]),
        "content": either(text(), listed(PART)),
        "reasoning_content": text("What the assistant thought."),
        "tool_calls": listed(record({"id": text(), "type": text(), "function": CALLED}, ["function"])),
        "tool_call_id": text(),
        "name": text(),
    },
    ["role"],
)
FUNCTION = record({"name": text(), "description": text(), "parameters": openai.PARAMETERS}, ["name"])
TOOL = record({"type": text(choices=["function"]), "function": FUNCTION}, ["function"])
CHOICE = record(
    {"type": text(choices=["function"]), "function": record({"name": text()}, ["name"])}, ["function"]
)
TAKES = record(
    {
        "model": openai.MODEL,
        "messages": listed(MESSAGE, least=1),
        "max_tokens": whole(1, 1 << 31),
        "max_completion_tokens": whole(1, 1 << 31),
        "n": whole(1, 128),
        "stream": flag(),
        "stream_options": record({"include_usage": flag()}),
        "logprobs": flag(),
        "top_logprobs": whole(0, 20, "8 at most are given."),
        "tools": listed(TOOL),
        "tool_choice": either(text(choices=["none", "auto", "required"]), CHOICE),
        "parallel_tool_calls": flag(),
        "response_format": record(
            {
                "type": text(choices=["text", "json_object", "json_schema"]),
                "json_schema": record({"name": text(), "schema": openai.PARAMETERS, "strict": flag()}),
            },
            ["type"],
        ),
        "reasoning_effort": openai.EFFORT,
        "continue_final_message": flag("Go on with the last message, which is the assistant's."),
        "continue_tokens": listed(whole(0, 1 << 31), "Ids with which the answer begins."),
        "chat_template_kwargs": record({}),
        **openai.SAMPLING,
    },
    ["messages"],
)


async def answer(request: Request) -> Result:
    """Return the completion, or a stream of its chunks."""
    served = await request.speaker()
    wish = await asyncio.to_thread(_wish, request, served)
    replies = [
        await request.begin(served, asking.numbered(wish, index))
        for index in range(request.body.get("n") or 1)
    ]
    head = {"id": openai.new_id("chatcmpl-"), "created": int(time.time()), "model": served.name}
    if request.body.get("stream"):
        return _stream(request, replies, head)
    choices = await asyncio.gather(*(_choice(request, n, reply) for n, reply in enumerate(replies)))
    request.count(replies)
    return {**head, "object": "chat.completion", "choices": choices, "usage": openai.usage(replies)}


def _wish(request: Request, served: Served | Kernel) -> asking.Turn:
    body = request.body
    messages = [
        {**message, "content": asking.plain(message.get("content"), f"messages[{n}].content")}
        for n, message in enumerate(body["messages"])
    ]
    choice = body.get("tool_choice") or "auto"
    return asking.turn(
        request,
        served,
        messages,
        tools=body.get("tools") or (),
        choice=choice if isinstance(choice, str) else choice["function"]["name"],
        parallel=body.get("parallel_tool_calls") is not False,
        schema=openai.format_of(body.get("response_format")),
        thoughts=openai.thoughts(body.get("reasoning_effort")),
        goes_on=bool(body.get("continue_final_message")),
        ids=body.get("continue_tokens") or (),
        values=body.get("chat_template_kwargs"),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        options=body,
        stops=asking.stops(body.get("stop")),
        probabilities=min(8, body.get("top_logprobs") or 0) if body.get("logprobs") else None,
    )


def _logprobs(request: Request, reply: Answer, steps: Sequence[Any]) -> dict[str, Any] | None:
    if not request.body.get("logprobs") or not isinstance(
        reply, Reply
    ):  # null: another server's are not told
        return None
    return {"content": openai.entries(reply.served.engine.tokenizer, steps), "refusal": None}


async def _choice(request: Request, index: int, reply: Answer) -> dict[str, Any]:
    said = await reply.whole()
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
    if said.thought:
        message["reasoning_content"] = said.thought
    if said.calls:
        message |= {"content": said.text or None, "tool_calls": [openai.call(call) for call in said.calls]}
    logprobs = _logprobs(request, reply, said.steps)
    finish = openai.FINISH[reply.finish]
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


async def _stream(request: Request, replies: Sequence[Answer], head: dict[str, Any]) -> AsyncIterator[str]:
    with_usage = bool((request.body.get("stream_options") or {}).get("include_usage"))

    def chunk(
        index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, finish: str | None = None
    ) -> str:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return whole_chunk([choice], None)

    def whole_chunk(choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> str:
        more = {"usage": usage} if with_usage else {}
        return event({**head, "object": "chat.completion.chunk", "choices": choices, **more})

    for index in range(len(replies)):
        yield chunk(index, {"role": "assistant", "content": ""})
    async for index, piece in merged(replies):
        reply = replies[index]
        if piece is None:
            yield chunk(index, {}, finish=openai.FINISH[reply.finish])
        elif piece.call:
            yield chunk(index, {"tool_calls": [{"index": reply.calls - 1, **openai.call(piece.call)}]})
        elif piece.kind == "text":
            yield chunk(index, {"content": piece.text}, _logprobs(request, reply, piece.notes))
        else:
            yield chunk(index, {"reasoning_content": piece.text})
    request.count(replies)
    if with_usage:
        yield whole_chunk([], openai.usage(replies))
    yield event("[DONE]")


OPERATIONS = [Operation("POST", "/v1/chat/completions", "Answer a conversation.", answer, TAKES)]
