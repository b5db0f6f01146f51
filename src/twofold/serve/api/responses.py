"""OpenAI's responses: /v1/responses, with text, functions and reasoning; nothing runs here on its own.

Responses are kept in memory, the last few hundred of them, so that `previous_response_id` goes on from one
and GET finds it; a restart forgets them. Not covered: tools that OpenAI runs itself, files and pictures,
responses in the background.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from twofold.serve import asking, openai
from twofold.serve.fields import either, flag, listed, record, text, whole
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result, event
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Answer, Reply
from twofold.serve.request import Request
from twofold.tokens.speech import Piece

__all__ = ["FAMILY", "OPERATIONS"]

_KEPT = 256
_INCLUDE = "message.output_text.logprobs"
PART = record({"type": text(), "text": text()}, ["type"])
ITEM = record(
    {
        "type": text(),
        "role": text(choices=["system", "developer", "user", "assistant"]),
        "content": either(text(), listed(PART)),
        "call_id": text(),
        "name": text(),
        "arguments": text(),
        "output": either(text(), listed(PART)),
        "summary": listed(PART),
    }
)
CHOICE = record({"type": text(), "name": text()}, ["type"])
FORMAT = record(
    {
        "type": text(choices=["text", "json_object", "json_schema"]),
        "name": text(),
        "schema": openai.PARAMETERS,
    },
    ["type"],
)
TAKES = record(
    {
        "model": openai.MODEL,
        "input": either(text(), listed(ITEM, least=1)),
        "instructions": text(),
        "previous_response_id": text(),
        "store": flag("Default: true."),
        "stream": flag(),
        "max_output_tokens": whole(1, 1 << 31),
        "tools": listed(
            record(
                {"type": text(), "name": text(), "description": text(), "parameters": openai.PARAMETERS},
                ["type"],
            )
        ),
        "tool_choice": either(text(choices=["none", "auto", "required"]), CHOICE),
        "parallel_tool_calls": flag(),
        "text": record({"format": FORMAT}),
        "reasoning": record({"effort": openai.EFFORT}),
        "include": listed(text()),
        "top_logprobs": whole(0, 20, "8 at most are given."),
        "metadata": record({}),
        **openai.SAMPLING,
    },
    ["input"],
)


class _Kept:
    """The last responses, each with the conversation up to its end."""

    def __init__(self) -> None:
        self._all: OrderedDict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = OrderedDict()

    def keep(self, response: dict[str, Any], messages: list[dict[str, Any]]) -> None:
        self._all[response["id"]] = response, messages
        while len(self._all) > _KEPT:
            self._all.popitem(last=False)

    def find(self, name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return a response and its conversation. Raises Refusal when it is not there (any more)."""
        if name not in self._all:
            raise Refusal("unknown", f"There is no response {name!r} here, or not any more.")
        return self._all[name]

    def drop(self, name: str) -> None:
        self.find(name)
        del self._all[name]


def _kept(request: Request) -> _Kept:
    kept: _Kept = request.state.extras.setdefault("responses", _Kept())
    return kept


async def answer(request: Request) -> Result:
    """Return the response, or a stream of the events that it is made of."""
    body = request.body
    served = await request.speaker()
    messages: list[dict[str, Any]] = []
    if previous := body.get("previous_response_id"):
        messages += _kept(request).find(previous)[1]
    messages += _messages(body["input"])
    system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
    choice = body.get("tool_choice") or "auto"
    with_logprobs = _INCLUDE in (body.get("include") or ())
    wish = await asyncio.to_thread(
        asking.turn,
        request,
        served,
        [*system, *messages],
        tools=[_tool(tool) for tool in body.get("tools") or ()],
        choice=choice if isinstance(choice, str) else choice.get("name") or "",
        parallel=body.get("parallel_tool_calls") is not False,
        schema=openai.format_of((body.get("text") or {}).get("format")),
        thoughts=openai.thoughts((body.get("reasoning") or {}).get("effort")),
        max_tokens=body.get("max_output_tokens"),
        options=body,
        probabilities=min(8, body.get("top_logprobs") or 0) if with_logprobs else None,
    )
    writing = _Writing(request, await request.begin(served, wish), messages)
    if body.get("stream"):
        return writing.events()
    async for _ in writing.events():
        pass
    return writing.response


class _Writing:
    """A response that is being written, item by item."""

    def __init__(self, request: Request, reply: Answer, messages: list[dict[str, Any]]) -> None:
        self.request, self.reply, self.messages = request, reply, messages
        body = request.body
        self.response: dict[str, Any] = {
            "id": openai.new_id("resp_"), "object": "response", "created_at": int(time.time()),
            "status": "in_progress", "model": reply.name, "output": [], "error": None,
            "incomplete_details": None, "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"), "metadata": body.get("metadata") or {},
            "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
            "previous_response_id": body.get("previous_response_id"), "store": body.get("store") is not False,
            "temperature": reply.temperature, "top_p": reply.top_p,
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto", "tools": body.get("tools") or [], "usage": None,
        }  # fmt: skip
        self._number = 0
        self._open: dict[str, Any] | None = None  # the item that is being written

    async def events(self) -> AsyncIterator[str]:
        """Yield the events; then `response` is whole."""
        yield self._say("response.created", response=self.response)
        yield self._say("response.in_progress", response=self.response)
        async for piece in self.reply:
            for one in self._take(piece):
                yield one
        for one in self._close():
            yield one
        self._finish()
        kind = "response.completed" if self.response["status"] == "completed" else "response.incomplete"
        yield self._say(kind, response=self.response)

    def _say(self, kind: str, **data: Any) -> str:
        self._number += 1
        return event({"type": kind, "sequence_number": self._number - 1, **data}, kind)

    def _take(self, piece: Piece) -> list[str]:
        kind = {"text": "message", "thought": "reasoning", "call": "function_call"}[piece.kind]
        said = []
        if self._open is None or self._open["type"] != kind or piece.call:
            said += self._close() + self._begin(kind, piece)
        item = self._open
        assert item is not None
        where = {"item_id": item["id"], "output_index": len(self.response["output"]) - 1}
        if piece.call:
            item["arguments"] = piece.call.arguments
            said.append(
                self._say("response.function_call_arguments.delta", **where, delta=piece.call.arguments)
            )
            return said
        part = item["content"][0]
        part["text"] += piece.text
        if kind == "reasoning":
            said.append(
                self._say("response.reasoning_text.delta", **where, content_index=0, delta=piece.text)
            )
            return said
        entries = []
        if _INCLUDE in (self.request.body.get("include") or ()) and isinstance(self.reply, Reply):
            entries = openai.entries(self.reply.served.engine.tokenizer, piece.notes)
            part["logprobs"] += entries
        said.append(
            self._say(
                "response.output_text.delta", **where, content_index=0, delta=piece.text, logprobs=entries
            )
        )
        return said

    def _begin(self, kind: str, piece: Piece) -> list[str]:
        item: dict[str, Any] = {"type": kind, "status": "in_progress"}
        part: dict[str, Any] | None = None
        if piece.call:
            call_id = openai.new_id("call_")
            item |= {"id": openai.new_id("fc_"), "call_id": call_id, "name": piece.call.name, "arguments": ""}
        elif kind == "reasoning":
            part = {"type": "reasoning_text", "text": ""}
            item |= {"id": openai.new_id("rs_"), "summary": [], "content": [part]}
        else:
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item |= {"id": openai.new_id("msg_"), "role": "assistant", "content": [part]}
        self._open = item
        self.response["output"].append(item)
        index = len(self.response["output"]) - 1
        bare = {**item, "content": []} if part else item
        said = [self._say("response.output_item.added", output_index=index, item=bare)]
        if part:
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            said.append(self._say("response.content_part.added", **where, part=part))
        return said

    def _close(self) -> list[str]:
        item, self._open = self._open, None
        if item is None:
            return []
        item["status"] = "completed"
        where = {"item_id": item["id"], "output_index": len(self.response["output"]) - 1}
        said = []
        if item["type"] == "function_call":
            told = {"name": item["name"], "arguments": item["arguments"]}
            said.append(self._say("response.function_call_arguments.done", **where, **told))
        else:
            part = item["content"][0]
            kind = "output_text" if item["type"] == "message" else "reasoning_text"
            more = {"logprobs": part["logprobs"]} if item["type"] == "message" else {}
            said.append(
                self._say(f"response.{kind}.done", **where, content_index=0, text=part["text"], **more)
            )
            said.append(self._say("response.content_part.done", **where, content_index=0, part=part))
        said.append(self._say("response.output_item.done", output_index=where["output_index"], item=item))
        return said

    def _finish(self) -> None:
        """Say how it ended and what it cost, and keep it."""
        cost = openai.usage([self.reply])
        self.response["usage"] = {
            "input_tokens": cost["prompt_tokens"],
            "input_tokens_details": cost["prompt_tokens_details"],
            "output_tokens": cost["completion_tokens"],
            "output_tokens_details": cost["completion_tokens_details"],
            "total_tokens": cost["total_tokens"],
        }
        self.response["status"] = "incomplete" if self.reply.finish == "length" else "completed"
        if self.reply.finish == "length":
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.request.count([self.reply])
        if self.response["store"]:
            _kept(self.request).keep(self.response, [*self.messages, *_messages(self.response["output"])])


async def found(request: Request) -> Result:
    """Return a response of before."""
    return _kept(request).find(request.path["name"])[0]


async def forget(request: Request) -> Result:
    """Forget a response."""
    _kept(request).drop(request.path["name"])
    return {"id": request.path["name"], "object": "response", "deleted": True}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function" or not tool.get("name"):
        raise Refusal(
            "invalid",
            f"Only tools of type function, with a name, are offered, not {tool['type']}.",
            where="tools",
        )
    known = {"name": tool["name"], "description": tool.get("description") or ""}
    parameters = tool.get("parameters") or {"type": "object", "properties": {}}
    return {"type": "function", "function": {**known, "parameters": parameters}}


def _messages(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items as messages; what the assistant thought, said and called in a row is one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found: list[dict[str, Any]] = []
    for n, item in enumerate(given):
        kind, where = item.get("type") or "message", f"input[{n}]"
        if kind == "message":
            said = asking.plain(item.get("content"), where)
            if item.get("role") == "assistant":
                _assistant(found)["content"] += said
            else:
                found.append({"role": item.get("role") or "user", "content": said})
        elif kind == "reasoning":
            parts = item.get("content") or []
            _assistant(found)["reasoning_content"] = "".join(
                p.get("text") or "" for p in parts if isinstance(p, dict)
            )
        elif kind == "function_call":
            function = {"name": item.get("name") or "", "arguments": item.get("arguments") or "{}"}
            call = {"id": item.get("call_id") or "", "type": "function", "function": function}
            _assistant(found).setdefault("tool_calls", []).append(call)
        elif kind == "function_call_output":
            result = asking.plain(item.get("output"), where)
            found.append({"role": "tool", "tool_call_id": item.get("call_id") or "", "content": result})
        else:
            raise Refusal("invalid", f"Items of type {kind} are not offered.", where=where)
    return found


def _assistant(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the assistant's message at the end, a new one if need be."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    return messages[-1]


OPERATIONS = [
    Operation("POST", "/v1/responses", "Answer, as OpenAI's responses do.", answer, TAKES),
    Operation("GET", "/v1/responses/{name}", "A response of before.", found),
    Operation("DELETE", "/v1/responses/{name}", "Forget a response.", forget),
]
