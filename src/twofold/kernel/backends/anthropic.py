"""Anthropic's messages.

Thoughts of earlier turns are not sent back, since their signatures are not kept; so a turn that goes on with
the results of tools is asked without thoughts. Not covered: tools that run there, pictures, caching marks.
"""

from collections.abc import AsyncIterator
from typing import Any

from twofold.kernel import elsewhere
from twofold.kernel.elsewhere import Chat, ElsewhereError, End, Event, Kernel, Lines, count, record, text
from twofold.tokens.speech import Piece

URL = "https://api.anthropic.com"
KEY: str | None = "ANTHROPIC_API_KEY"
_VERSION = "2023-06-01"
_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
_LEAST_THOUGHTS, _TOKENS = 1024, 4096
_CHOICES = {"auto": "auto", "required": "any"}


def headers(key: str | None) -> dict[str, str]:
    """Return how the key is shown, and which version of the API is meant."""
    return {"anthropic-version": _VERSION, **({"x-api-key": key} if key else {})}


def request(kernel: Kernel, chat: Chat) -> tuple[str, dict[str, Any]]:
    """Return path and body. Raises ElsewhereError."""
    body: dict[str, Any] = {
        "model": kernel.model,
        "messages": _messages(chat),
        "max_tokens": chat.max_tokens or _TOKENS,
        "stream": True,
        **elsewhere.only(kernel, chat.sampling, _SAMPLING),
    }
    if system := "\n\n".join(m["content"] for m in chat.messages if m["role"] == "system" and m["content"]):
        body["system"] = system
    if chat.stops:
        body["stop_sequences"] = list(chat.stops)
    if chat.tools:
        body["tools"] = [_tool(tool["function"]) for tool in chat.tools]
        kind = _CHOICES.get(chat.choice)
        body["tool_choice"] = {"type": kind} if kind else {"type": "tool", "name": chat.choice}
        if not chat.parallel:
            body["tool_choice"]["disable_parallel_tool_use"] = True
    if chat.schema is True:
        raise elsewhere.refused(kernel, "JSON of any form: give it a schema")
    if chat.schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": chat.schema}}
    if chat.thoughts and chat.messages[-1]["role"] != "tool":
        budget = max(_LEAST_THOUGHTS, chat.thoughts)
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        body["max_tokens"] += budget  # there they count as part of the answer
    return "/v1/messages", body


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    about = {"description": function["description"]} if function.get("description") else {}
    return {"name": function["name"], **about, "input_schema": schema}


def _messages(chat: Chat) -> list[dict[str, Any]]:
    """Return the conversation without the system; results of tools that follow each other are one message."""
    found: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for message in chat.messages:
        role, content = message["role"], message.get("content") or ""
        if role == "system":
            continue
        if role == "tool":
            if not results:
                found.append({"role": "user", "content": results})
            results.append(
                {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": content}
            )
            continue
        results = []
        blocks: list[dict[str, Any]] = [{"type": "text", "text": content}] if content else []
        for call in message.get("tool_calls") or ():
            function = call["function"]
            used = {"id": call["id"], "name": function["name"], "input": function.get("arguments") or {}}
            blocks.append({"type": "tool_use", **used})
        if blocks:
            found.append({"role": role, "content": blocks})
    return found


async def events(lines: Lines) -> AsyncIterator[Event]:
    """Yield the pieces and the end. Raises ElsewhereError."""
    usage: dict[str, Any] = {}
    end: dict[str, Any] = {}
    name, arguments, begun = "", "", {}
    async for data in elsewhere.events(lines):
        value = elsewhere.read(data)
        kind, delta = value.get("type"), record(value.get("delta"))
        if kind == "message_start":
            usage |= record(record(value.get("message")).get("usage"))
        elif kind == "content_block_start":
            block = record(value.get("content_block"))
            name, arguments, begun = "", "", record(block.get("input"))
            if block.get("type") == "tool_use":
                name = text(block.get("name"))
        elif kind == "content_block_delta":
            arguments += text(delta.get("partial_json"))
            if thought := text(delta.get("thinking")):
                yield Piece("thought", thought)
            if said := text(delta.get("text")):
                yield Piece("text", said)
        elif kind == "content_block_stop" and name:
            yield elsewhere.called(name, arguments or begun)
            name = ""
        elif kind == "message_delta":
            end |= delta
            usage |= {key: one for key, one in record(value.get("usage")).items() if one is not None}
        elif kind == "message_stop":
            break
    if not text(end.get("stop_reason")):
        raise ElsewhereError("it broke off before the answer was whole.")
    cached = count(usage.get("cache_read_input_tokens"))
    fresh = count(usage.get("input_tokens")) + count(usage.get("cache_creation_input_tokens"))
    yield End(
        length=end["stop_reason"] in ("max_tokens", "model_context_window_exceeded"),
        stopped=text(end.get("stop_sequence")) or None,
        prompt_tokens=fresh + cached,
        cached_tokens=cached,
        tokens=count(usage.get("output_tokens")),
    )
