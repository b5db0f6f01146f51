"""Functions told in a few words: for models whose window a list of JSON schemas would fill.

    browser_read(url, link?: integer | list, part?: integer): Reads a web page, or what its links lead to.

A line per function, below the instructions: its name, its arguments (text where no type stands, ? where it
may be left out), and the first sentence of its description. The rule, the same for every model here:
functions are told by their schemas as long as these take a quarter of the window at most, and else so.
Nothing becomes possible or impossible by it: calls are written under a grammar made of the whole schemas.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.kernel.minds import Message
from twofold.tokens.tokenizer import Tokenizer

SHARE = 4  # schemas may take one part in so many of the window
_HOW = 'To call one, write <tool_call>, {"name": NAME, "arguments": {ARGUMENT: VALUE}} and </tool_call>.'


class Teller:
    """Tells a conversation and its functions to models with one tokenizer and window, as ids."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self._tokenizer, self._context = tokenizer, context
        self._whole = functools.lru_cache(maxsize=64)(self._fits)

    def told(
        self, messages: Sequence[Message], tools: Sequence[Message]
    ) -> tuple[list[Message], list[Message] | None]:
        """Return the messages and the schemas for the chat template; without schemas where the functions are
        told in the messages."""
        if not tools or self._whole(json.dumps(tools)):
            return list(messages), list(tools) or None
        if messages and messages[0]["role"] in ("system", "developer"):
            return [{**messages[0], "content": below(messages[0]["content"], tools)}, *messages[1:]], None
        return [{"role": "system", "content": below("", tools)}, *messages], None

    def ids(self, messages: Sequence[Message], tools: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation, with what stands before the answer."""
        told, schemas = self.told(messages, tools)
        return self._tokenizer.chat(told, tools=schemas, add_generation_prompt=True, enable_thinking=False)

    def _fits(self, tools: str) -> bool:
        probe = [{"role": "user", "content": "?"}]
        chat = self._tokenizer.chat
        return len(chat(probe, tools=json.loads(tools))) - len(chat(probe)) <= self._context // SHARE


def below(instructions: str, tools: Sequence[Message]) -> str:
    """Return instructions with a line for each function below them."""
    lines = [signature(tool.get("function", tool)) for tool in tools]
    text = "\n".join(["Functions:", *lines, _HOW])
    return f"{instructions}\n\n{text}" if instructions else text


def signature(function: Mapping[str, Any]) -> str:
    """Return a function in one line."""
    schema = function.get("parameters") or {}
    required = schema.get("required", ())
    arguments = [
        name + ("" if name in required else "?") + (f": {kind}" if (kind := _kind(inner)) else "")
        for name, inner in schema.get("properties", {}).items()
    ]
    sentence = function.get("description", "").partition(". ")[0].partition("\n")[0].rstrip(".")
    return f"{function['name']}({', '.join(arguments)}){f': {sentence}.' if sentence else ''}"


def _kind(schema: Mapping[str, Any]) -> str:
    """Return what an argument holds, in a word or two; "" for a text."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    kinds = [_kind(one) for one in schema.get("anyOf", ()) if "$value" not in one.get("properties", {})]
    types = schema.get("type", "" if kinds else "any")
    kinds += [types] if isinstance(types, str) else types
    words = {"array": "list", "object": "record", "string": "", "null": ""}
    return " | ".join(dict.fromkeys(word for kind in kinds if (word := words.get(kind, kind))))
