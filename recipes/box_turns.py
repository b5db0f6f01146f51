"""A conversation of one ability, and in each answer what makes it right.

The programs around this file return `Talk`s. The same one is an example to learn from (`conversation`) and,
drawn from names and wordings that are held out, an item to be judged by: an answer is right when it makes
exactly the same call of a tool, or holds the words it `must` hold and none it must not.
"""

import dataclasses
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from box_tools import Tool, schemas

from twofold.corpus import Conversation
from twofold.environments._calls import OPEN, read, spell
from twofold.tokens.conversation import check

Message = dict[str, Any]
_WORD = re.compile(r"-?[0-9]+(?:[.:-][0-9]+)*|[^\W\d_]+")
OWN_KEYS = ("must", "either", "never", "thinks")  # of an answer; for judging, not for training


@dataclasses.dataclass(frozen=True)
class Talk:
    """Messages of one ability. An answer may have `must` and `never`: words by which it is judged.

    `schemas`: of functions that are on offer beside the made-up `tools`.
    """

    ability: str
    messages: list[Message]
    tools: Mapping[str, Tool] = dataclasses.field(default_factory=dict)
    schemas: Sequence[Mapping[str, Any]] = ()

    def conversation(self) -> Conversation:
        """Return the conversation as it is learned from. Raises BadFileError when it is none."""
        plain = [
            {key: by_alphabet(value) for key, value in message.items() if key not in OWN_KEYS}
            for message in self.messages
        ]
        tools = [*self.schemas, *schemas(self.tools)]
        record = {"messages": plain, **({"tools": tools} if tools else {})}
        return check(record, self.ability, self.ability)


def by_alphabet(value: Any) -> Any:
    """Return what a message holds, calls with their arguments in the order in which a process is shown them
    again: that of the journal. A small model that learns one order does not lose its way in another."""
    return json.loads(json.dumps(value, sort_keys=True))


def user(text: str) -> Message:
    """Return what the user says."""
    return {"role": "user", "content": text}


def says(text: str, *must: str, never: Sequence[str] = (), thought: str | None = None) -> Message:
    """Return what the assistant says; `must`: words an answer needs, `never`: words that make it wrong."""
    message: Message = {"role": "assistant", "content": text, "must": list(must), "never": list(never)}
    return message if thought is None else {**message, "reasoning_content": thought, "thinks": True}


def right(message: Message, answer: str) -> bool:
    """Return whether an answer of a model is as good as this message, by what it must hold."""
    thoughts, closed, said = answer.rpartition("</think>")
    thinks = message.get("thinks")
    if thinks and not ("<think>" in thoughts and closed):
        return False
    if thinks is False and "<think>" in answer:
        return False
    calls = message.get("tool_calls")
    if calls:
        return read(said) == (calls[0]["name"], calls[0]["arguments"])
    if (exactly := message.get("exactly")) is not None:
        return _same(said, exactly)
    if OPEN in said or ("<think>" in answer and not closed):
        return False
    text = plain(said)
    if message.get("either") and not any(plain(word) in text for word in message["either"]):
        return False
    return all(plain(word) in text for word in message.get("must", ())) and not any(
        plain(word) in text for word in message.get("never", ())
    )


def _same(text: str, other: str) -> bool:
    """Return whether two texts are the same, as JSON where both are."""
    try:
        return bool(json.loads(text) == json.loads(other))
    except ValueError:
        return text.strip() == other.strip()


def spelled(message: Message) -> str:
    """Return an answer as a model writes it."""
    thought = message.get("reasoning_content")
    calls = "\n".join(spell(call["name"], call["arguments"]) for call in message.get("tool_calls", ()))
    return (f"<think>\n{thought}\n</think>\n\n" if thought else "") + str(message["content"]) + calls


def plain(text: str) -> str:
    """Return a text for comparing: lower case, single spaces, no commas within numbers, ends marked."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text.lower())
    return f" {' '.join(_WORD.findall(text))} "


def roughly(rng: random.Random, text: str) -> str:
    """Return the text as people type it: now and then without capitals or the last mark."""
    chance = rng.random()
    if chance < 0.15:
        text = text.rstrip(".?!") or text
    elif chance < 0.22 and not re.search(r"[A-Z].*[A-Z]", text):
        text = text.lower()
    return text
