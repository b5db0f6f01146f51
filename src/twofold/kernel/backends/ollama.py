"""Ollama's own chat, by its lines of JSON; it takes no key, but a proxy before it may."""

from collections.abc import AsyncIterator
from typing import Any

from twofold.kernel import elsewhere
from twofold.kernel.elsewhere import Chat, ElsewhereError, End, Event, Kernel, Lines, count, record, text
from twofold.tokens.speech import Piece

URL = "http://127.0.0.1:11434"
KEY: str | None = None
_OPTIONS = {
    name: name
    for name in (
        "temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty",
    )
} | {"repetition_penalty": "repeat_penalty"}  # fmt: skip


def headers(key: str | None) -> dict[str, str]:
    """Return how a key is shown."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def request(kernel: Kernel, chat: Chat) -> tuple[str, dict[str, Any]]:
    """Return path and body. Raises ElsewhereError."""
    options = elsewhere.only(kernel, chat.sampling, _OPTIONS)
    if chat.max_tokens:
        options["num_predict"] = chat.max_tokens
    if chat.stops:
        options["stop"] = list(chat.stops)
    if chat.tools and (chat.choice != "auto" or not chat.parallel):
        raise elsewhere.refused(kernel, "a say in whether and how often tools are called")
    names: dict[str, str] = {}  # of the tools that were called, by the call's id
    body: dict[str, Any] = {
        "model": kernel.model,
        "messages": [_message(one, names) for one in chat.messages],
        "stream": True,
        "options": options,
    }
    if chat.tools:
        body["tools"] = list(chat.tools)
    if chat.schema is not None:
        body["format"] = "json" if chat.schema is True else chat.schema
    if chat.thoughts is not None:
        body["think"] = chat.thoughts > 0
    return "/api/chat", body


def _message(message: elsewhere.Message, names: dict[str, str]) -> dict[str, Any]:
    found = {"role": message["role"], "content": message.get("content") or ""}
    if message.get("reasoning_content"):
        found["thinking"] = message["reasoning_content"]
    if message["role"] == "tool":
        found["tool_name"] = names.get(message["tool_call_id"], "")
    for call in message.get("tool_calls") or ():
        names[call["id"]] = call["function"]["name"]
        function = {"name": call["function"]["name"], "arguments": call["function"].get("arguments") or {}}
        found.setdefault("tool_calls", []).append({"function": function})
    return found


async def events(lines: Lines) -> AsyncIterator[Event]:
    """Yield the pieces and the end. Raises ElsewhereError."""
    async for line in lines:
        if not line.strip():
            continue
        value = elsewhere.read(line)
        message = record(value.get("message"))
        if thought := text(message.get("thinking")):
            yield Piece("thought", thought)
        if said := text(message.get("content")):
            yield Piece("text", said)
        for call in message.get("tool_calls") or ():
            function = record(record(call).get("function"))
            yield elsewhere.called(function.get("name"), function.get("arguments"))
        if value.get("done") is True:
            yield End(
                length=value.get("done_reason") == "length",
                prompt_tokens=count(value.get("prompt_eval_count")),
                tokens=count(value.get("eval_count")),
            )
            return
    raise ElsewhereError("it broke off before the answer was whole.")
