"""OpenAI's chat completions, which vLLM, llama-server, LM Studio and many others speak, too.

What is said of sampling is handed on as it is: servers differ in what they know, and say so themselves.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

from twofold.kernel import elsewhere
from twofold.kernel.elsewhere import (
    Chat,
    ElsewhereError,
    End,
    Event,
    Kernel,
    Lines,
    count,
    first,
    record,
    text,
)
from twofold.tokens.speech import Piece

URL = "https://api.openai.com/v1"
KEY: str | None = "OPENAI_API_KEY"
_EFFORTS = {0: "none", 64: "minimal", 256: "low", 1024: "medium", 1 << 53: "high"}  # by tokens of thoughts


def headers(key: str | None) -> dict[str, str]:
    """Return how the key is shown."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def request(kernel: Kernel, chat: Chat) -> tuple[str, dict[str, Any]]:
    """Return path and body. Raises ElsewhereError."""
    if chat.goes_on:  # most servers would begin a new turn without a word
        raise elsewhere.refused(kernel, "going on with an answer that was begun")
    body: dict[str, Any] = {
        "model": kernel.model,
        "messages": [_message(one) for one in chat.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        **chat.sampling,
    }
    if chat.max_tokens:  # the old name is the one that others know
        body["max_completion_tokens" if kernel.url == URL else "max_tokens"] = chat.max_tokens
    if chat.stops:
        body["stop"] = list(chat.stops)
    if chat.tools:
        body["tools"] = list(chat.tools)
        named = {"type": "function", "function": {"name": chat.choice}}
        body["tool_choice"] = chat.choice if chat.choice in ("auto", "required") else named
        if not chat.parallel:
            body["parallel_tool_calls"] = False
    if chat.schema is True:
        body["response_format"] = {"type": "json_object"}
    elif chat.schema is not None:
        form = {"name": "answer", "schema": chat.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    if chat.thoughts is not None:
        body["reasoning_effort"] = next(word for most, word in _EFFORTS.items() if chat.thoughts <= most)
    return "/chat/completions", body


def _message(message: elsewhere.Message) -> dict[str, Any]:
    found = {"role": message["role"], "content": message.get("content") or ""}
    if message["role"] == "tool":
        found["tool_call_id"] = message["tool_call_id"]
    if calls := message.get("tool_calls"):
        found["content"] = found["content"] or None
        found["tool_calls"] = [_call(call) for call in calls]
    return found


def _call(call: dict[str, Any]) -> dict[str, Any]:
    arguments = json.dumps(call["function"].get("arguments") or {})
    return {
        "id": call["id"], "type": "function",
        "function": {"name": call["function"]["name"], "arguments": arguments},
    }  # fmt: skip


async def events(lines: Lines) -> AsyncIterator[Event]:
    """Yield the pieces and the end. Raises ElsewhereError."""
    calls: dict[int, list[str]] = {}  # name and arguments by number: both come in parts
    finish = ""
    usage: dict[str, Any] = {}
    async for data in elsewhere.events(lines):
        if data == "[DONE]":
            break
        chunk = elsewhere.read(data)
        usage = record(chunk.get("usage")) or usage
        choice = first(chunk.get("choices"))
        finish = text(choice.get("finish_reason")) or finish
        delta = record(choice.get("delta"))
        if thought := text(delta.get("reasoning_content")) or text(delta.get("reasoning")):
            yield Piece("thought", thought)
        if said := text(delta.get("content")) or text(delta.get("refusal")):
            yield Piece("text", said)
        for part in delta.get("tool_calls") or ():
            call = calls.setdefault(count(record(part).get("index")), ["", ""])
            function = record(record(part).get("function"))
            call[0] += text(function.get("name"))
            call[1] += text(function.get("arguments"))
    if not finish:
        raise ElsewhereError("it broke off before the answer was whole.")
    for name, arguments in calls.values():
        yield elsewhere.called(name, arguments)
    yield End(
        length=finish == "length",
        prompt_tokens=count(usage.get("prompt_tokens")),
        cached_tokens=count(record(usage.get("prompt_tokens_details")).get("cached_tokens")),
        tokens=count(usage.get("completion_tokens")),
        thought_tokens=count(record(usage.get("completion_tokens_details")).get("reasoning_tokens")),
    )
