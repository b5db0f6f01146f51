"""A list of replies, said one after the other: for tests, demonstrations, and what was recorded.

A file is JSON: a list of replies, each a text or {"text": …, "calls": [{"name": …, "arguments": {…}}]}.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, TwofoldError
from twofold.kernel.minds import Message, Said, Turn
from twofold.tokens.speech import Call, Piece

Reply = str | Mapping[str, Any]


class Script:
    """Says replies in their order. A reply may be a function of the messages, too.

    by_turn: which reply it is, is told by how often the conversation was answered: a process that is gone on
    with in another program goes on in the script, too.
    """

    def __init__(
        self,
        replies: Sequence[Reply | Callable[[Sequence[Message]], Reply]],
        *,
        context: int = 8192,
        by_turn: bool = False,
    ) -> None:
        self.context = context
        self.heard: list[Sequence[Message]] = []  # what it was asked, each time
        self._replies, self._said, self._by_turn = list(replies), 0, by_turn
        self._lock = threading.Lock()

    def tokens(self, text: str) -> int:
        """Return a token for every four characters."""
        return -(-len(text) // 4)

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return the tokens of the texts, and four for each message."""
        return sum(4 + self.tokens(str(message.get("content") or "")) for message in messages)

    def say(self, turn: Turn) -> Said:
        """Return the next reply. Raises TwofoldError when there is none."""
        with self._lock:
            if turn.cancelled():
                return Said(finish="cancelled")
            answered = sum(message["role"] == "assistant" for message in turn.messages)
            place = answered if self._by_turn else self._said
            if place >= len(self._replies):
                raise TwofoldError("The script has no more replies.")
            reply, self._said = self._replies[place], self._said + 1
            self.heard.append(turn.messages)
        said = reply(turn.messages) if callable(reply) else reply
        found: Mapping[str, Any] = {"text": said} if isinstance(said, str) else said
        text = found.get("text", "")
        if text:
            turn.heard(Piece("text", text))
        calls = [Call(c["name"], json.dumps(c.get("arguments", {}))) for c in found.get("calls", ())]
        prompt = self.count(turn.messages)
        return Said(text=text, calls=calls, made=max(1, len(text) // 4), prompt=prompt, cached=prompt)

    def close(self) -> None:
        """Nothing is held."""


def open(name: str) -> Script:
    """Return the script in a file."""
    try:
        replies = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(f"{name} is no script: {error}.") from None
    if not isinstance(replies, list):
        raise BadFileError(f"{name} is no script: it must be a list of replies.")
    return Script(replies, by_turn=True)
