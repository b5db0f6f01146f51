"""The pair file: two answers to the same conversation, of which people (or a program) found one better.

    {"prompt": "What is 2 + 2?", "chosen": "4.", "rejected": "Five, I think."}
    {"prompt": [{"role": "user", "content": "…"}], "chosen": [{"role": "assistant", …}], "rejected": […]}
    {"chosen": [{"role": "user", …}, {"role": "assistant", …}], "rejected": [the same but the last message]}

A prompt that is text is what a user says; an answer is text, a message, or a list whose last message it is.
The third form, of whole conversations, needs no prompt; with one, it begins with it. `tools` lists functions
on offer. These are the forms that TRL's data sets have; messages are as in conversation.py, other fields are
ignored.

Not covered: more than two answers, ties, thumbs up or down for one answer alone.
"""

import dataclasses
from typing import Any

from twofold.base.errors import BadFileError
from twofold.tokens.conversation import Conversation, Message, check, encode
from twofold.tokens.tokenizer import Tokenizer

SIDES = ("chosen", "rejected")


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two answers to `messages`, both messages of the assistant; `where` says the file and line."""

    messages: list[Message]
    chosen: Message
    rejected: Message
    source: str
    tools: list[dict[str, Any]] | None = None
    where: str = ""

    def record(self) -> dict[str, Any]:
        """Return the pair as a line of a pair file holds it."""
        answers = {"chosen": [self.chosen], "rejected": [self.rejected]}
        return {"prompt": self.messages, **answers, **({} if self.tools is None else {"tools": self.tools})}

    def conversation(self, side: str = "chosen") -> Conversation:
        """Return the conversation with one of the answers, which alone is to be learned."""
        answer: Message = getattr(self, side)
        return answered(self.messages, answer, self.source, self.tools, self.where)


def check_pair(record: Any, source: str, where: str) -> Pair:
    """Return the pair that `record` describes. Raises BadFileError, saying what is wrong `where`."""
    if not isinstance(record, dict):
        raise BadFileError(f"{where}: expected an object, found {type(record).__name__}.")
    for side in SIDES:
        if not record.get(side):
            there = ", ".join(str(key)[:30] for key in list(record)[:6]) or "nothing"
            raise BadFileError(f"{where}: no answer in the field `{side}` (the line has {there}).")
    prompt = record.get("prompt")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if prompt is not None and (not isinstance(prompt, list) or not prompt):
        raise BadFileError(f"{where}: its `prompt` must be text or a list of messages.")
    sides = []
    for side in SIDES:
        whole = _whole(record[side], prompt, side, where)
        one = check({"messages": whole, "tools": record.get("tools")}, source, f"{where}, {side}")
        if one.messages[-1]["role"] != "assistant":
            raise BadFileError(f"{where}: `{side}` does not end with a turn of the assistant.")
        sides.append(one)
    *before, chosen = sides[0].messages
    *other, rejected = sides[1].messages
    if before != other:
        raise BadFileError(f"{where}: the prompts of `chosen` and `rejected` differ.")
    if not before:
        raise BadFileError(f"{where}: no `prompt` that is answered.")
    chosen, rejected = ({k: v for k, v in one.items() if k != "weight"} for one in (chosen, rejected))
    if chosen == rejected:
        raise BadFileError(f"{where}: `chosen` and `rejected` are the same.")
    return Pair(before, chosen, rejected, source, sides[0].tools, where)


def answered(
    messages: list[Message],
    answer: Message,
    source: str = "an answer",
    tools: list[dict[str, Any]] | None = None,
    where: str = "",
) -> Conversation:
    """Return the conversation of `messages` and an answer, of which only the answer is to be learned."""
    before = [{**message, "weight": 0} if message["role"] == "assistant" else message for message in messages]
    return Conversation([*before, answer], source, tools, where)


def answer_ids(conversation: Conversation, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids of what is read before the last answer, and those of the answer, its end included.

    Raises UsageError or BadFileError when the chat template cannot take the messages.
    """
    ids, mask = encode(conversation, tokenizer)
    first, end = mask.index(1), len(mask) - mask[::-1].index(1)
    return ids[1:first], ids[first:end]


def _whole(value: Any, prompt: list[Any] | None, side: str, where: str) -> list[Any]:
    """Return a side as a whole conversation."""
    if isinstance(value, str):
        value = [{"role": "assistant", "content": value}]
    elif isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise BadFileError(f"{where}: `{side}` must be text or messages, not {type(value).__name__}.")
    if prompt is None:
        if len(value) < 2:
            raise BadFileError(f"{where}: no `prompt`, and `{side}` holds no conversation but an answer.")
        return value
    if len(value) == 1:
        return [*prompt, *value]
    if [_words(one) for one in value[: len(prompt)]] != [_words(one) for one in prompt]:
        raise BadFileError(f"{where}: `{side}` is a conversation that does not begin with the `prompt`.")
    return value


def _words(message: Any) -> tuple[str, str]:
    """Return what makes two messages the same one."""
    if not isinstance(message, dict):
        return "", str(message)
    return str(message.get("role")), str(message.get("content")).strip()
