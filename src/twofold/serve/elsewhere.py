"""Answers of other servers: a turn as every family is asked for it, and its stream as an answer here."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from twofold.kernel.elsewhere import Chat, End, Kernel, refused
from twofold.kernel.kernels import Stream
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Answer
from twofold.tokens.speech import Piece

# What says nothing when it is said so: clients send these without meaning them.
_NEUTRAL = {
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},), "repetition_penalty": (1,),
    "top_k": (0, -1), "min_p": (0,), "temperature": (), "top_p": (), "seed": (),
}  # fmt: skip


class Elsewhere(Answer):
    """An answer of a model on another server."""

    def __init__(self, kernel: Kernel, chat: Chat) -> None:
        """Put the request together. Raises ElsewhereError."""
        super().__init__(kernel.name)
        self.temperature, self.top_p = (chat.sampling.get(name, 1.0) for name in ("temperature", "top_p"))
        self._stream = Stream(kernel, chat)
        self._cached = 0

    @property
    def cached_tokens(self) -> int:
        """How many of the prompt's tokens need not be read again, as the other side says."""
        return self._cached

    async def begin(self) -> None:
        """Ask. Raises TwofoldError when the other side refuses, so that a stream need not begin."""
        await self._stream.begin()

    def cancel(self) -> None:
        """Hang up, by which the other side knows."""
        self._stream.close()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield the pieces as they come. Raises ElsewhereError."""
        async for event in self._stream:
            if isinstance(event, End):
                self._end(event)
                return
            self.first_ns = self.first_ns or time.monotonic_ns()
            self.calls += event.kind == "call"
            yield event

    def _end(self, end: End) -> None:
        self.prompt_tokens, self._cached = end.prompt_tokens, end.cached_tokens
        self.tokens, self.thought_tokens = end.tokens, end.thought_tokens
        self.stopped = end.stopped
        self.finish = "calls" if self.calls else "length" if end.length else "stop"


def sampling(body: Mapping[str, Any], penalty: str) -> dict[str, Any]:
    """Return what a request says of sampling, by OpenAI's names; `penalty` is the repetition's there."""
    said = {name: body.get(penalty if name == "repetition_penalty" else name) for name in _NEUTRAL}
    return {name: value for name, value in said.items() if value is not None and value not in _NEUTRAL[name]}


def turn(
    kernel: Kernel,
    messages: Sequence[Mapping[str, Any]],
    *,
    local: Mapping[str, Any],
    max_tokens: int | None,
    most: int,
    **how: Any,
) -> Chat:
    """Return the next turn of a conversation whose messages are arranged. `local`: what only runs here.

    Raises ElsewhereError or Refusal for what cannot be asked of another server.
    """
    if not messages:
        raise Refusal("invalid", "There are no messages.", where="messages")
    for name, value in local.items():
        if value:
            raise refused(kernel, f"`{name}`")
    return Chat(messages=_with_ids(messages), max_tokens=max_tokens or most, **how)


def _with_ids(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages, each call and each result with an id; Ollama's clients send the names only."""
    found: list[dict[str, Any]] = []
    waiting: list[tuple[str, str]] = []  # calls without a result: id and name
    for n, message in enumerate(messages):
        made = dict(message)
        if calls := made.get("tool_calls"):
            made["tool_calls"] = [
                {**call, "id": call.get("id") or f"call_{n}_{m}"} for m, call in enumerate(calls)
            ]
            waiting = [(call["id"], call["function"]["name"]) for call in made["tool_calls"]]
            if any(
                not isinstance(call["function"].get("arguments") or {}, dict) for call in made["tool_calls"]
            ):
                raise Refusal(
                    "invalid", "The arguments of a call are no JSON object.", where=f"messages[{n}]"
                )
        if made["role"] == "tool":
            named = [one for one in waiting if one[1] == made.get("tool_name")] or waiting
            made["tool_call_id"] = made.get("tool_call_id") or (named[0][0] if named else "")
            if not made["tool_call_id"]:
                raise Refusal("invalid", "A tool's result belongs to no call.", where=f"messages[{n}]")
            waiting = [one for one in waiting if one[0] != made["tool_call_id"]]
        found.append(made)
    return found
