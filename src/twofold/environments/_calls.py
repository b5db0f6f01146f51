"""Calls of tools as a model writes them, and an attempt in which it may make some before it answers.

The form is that of the chat template (tokens/chatml.jinja): `<tool_call>`, a line of JSON with `name` and
`arguments`, `</tool_call>`. The two marks are tokens of every model made here.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from twofold.environments import Episode, Problem

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MOST_CALLS = 4
Tools = Mapping[str, Callable[[dict[str, Any]], str]]


def spell(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a call as the chat template writes it."""
    call = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"{OPEN}\n{call}\n{CLOSE}"


def read(answer: str) -> tuple[str, dict[str, Any]] | None:
    """Return name and arguments of the one call in an answer, None when there is none that can be read."""
    _, opened, rest = answer.partition(OPEN)
    text, closed, _ = rest.partition(CLOSE)
    if not opened or not closed:
        return None
    try:
        call = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None
    arguments = call.get("arguments", {})
    return (call["name"], arguments) if isinstance(arguments, dict) else None


def schema(name: str, description: str, **parameters: str) -> dict[str, Any]:
    """Return the JSON schema of a function; `parameters`: name -> type. Short: a small model reads it."""
    properties = {key: {"type": kind} for key, kind in parameters.items()}
    inner = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": inner}}


class Calling(Episode):
    """An attempt in which calls are carried out and their results shown, until an answer without one."""

    def __init__(self, problem: Problem, tools: Tools, judge: Callable[[Problem, str], float]) -> None:
        super().__init__(problem, judge)
        self._tools = tools
        self.calls = 0

    def take(self, answer: str) -> None:
        """Go on by one answer: a call, or the last word."""
        if OPEN not in answer:
            super().take(answer)
            return
        self.calls += 1
        self.messages.append({"role": "assistant", "content": answer})
        self.messages.append({"role": "tool", "content": self._carried_out(answer)})
        if self.calls == MOST_CALLS:
            self.finish(0.0)

    def _carried_out(self, answer: str) -> str:
        call = read(answer)
        if call is None:
            return "error: the call is not JSON with a name and arguments"
        name, arguments = call
        if name not in self._tools:
            return f"error: there is no tool {name}"
        return self._tools[name](arguments)
