"""The conversation file: a chat per line, as chat APIs speak it, and which tokens a model learns to say.

    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}], "tools":
    […]}

A message has a `role` (system, user, assistant, tool; `developer` counts as system) and `content`: text, or a
list of parts, of which those of type `text` are read and others are attachments. An assistant's message may
have `reasoning_content` (its thinking), `tool_calls` (each with a name and arguments), and `weight`: 0 shows
it without teaching it. A `tool` message answers a call. `tools` lists the functions on offer as JSON schemas.
These are the fields of OpenAI's chat and fine-tuning formats; others are ignored.

Only what the model will have to say itself is learned: the assistant's messages and the token that ends each.
The rest is read but not learned, as is usual in instruction tuning (Ouyang et al. 2022, arXiv:2203.02155,
section 3).

Not covered: what an attachment shows (a chat template decides what becomes of it).
"""

import dataclasses
import json
from typing import Any

from twofold.base.errors import BadFileError
from twofold.tokens.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "tool")
THINKING = ("reasoning_content", "reasoning", "thinking")  # the same thing under several names
OTHER_FORMS = ("conversations", "dialogue", "dialog", "prompt", "instruction", "text")

Message = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Conversation:
    """Messages {role, content, …} in order, the tools on offer if any, and where they came from.

    `source`: the file; `where`: the file and line, for messages to people.
    """

    messages: list[Message]
    source: str
    tools: list[dict[str, Any]] | None = None
    where: str = ""

    def record(self) -> dict[str, Any]:
        """Return the conversation as a line of a conversation file holds it."""
        return {"messages": self.messages, **({} if self.tools is None else {"tools": self.tools})}

    @property
    def attachments(self) -> int:
        """The number of parts that are not text."""
        return sum(
            part["type"] != "text"
            for message in self.messages
            if isinstance(message["content"], list)
            for part in message["content"]
        )

    @property
    def learned_bytes(self) -> int:
        """The size in UTF-8 bytes of what the assistant says and the model learns."""
        return sum(len(_said(message).encode()) for message in self.messages if learned(message))


def learned(message: Message) -> bool:
    """Return whether a message is one that the model learns to say."""
    return message["role"] == "assistant" and bool(message.get("weight", 1))


def check(record: Any, source: str, where: str) -> Conversation:
    """Return the conversation that `record` describes. Raises BadFileError, saying what is wrong `where`."""
    if not isinstance(record, dict):
        raise BadFileError(f"{where}: expected an object, found {type(record).__name__}.")
    messages, tools = record.get("messages"), record.get("tools")
    if not isinstance(messages, list) or not messages:
        raise BadFileError(f"{where}: no list of messages in the field `messages`{_other_form(record)}.")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise BadFileError(f"{where}: `tools` must be a list of objects.")
    checked = [_message(message, f"{where}, message {n}") for n, message in enumerate(messages, 1)]
    if not any(message["role"] == "assistant" for message in checked):
        raise BadFileError(f"{where}: no message of the assistant, so there is nothing to learn.")
    if not any(learned(message) for message in checked):
        raise BadFileError(
            f"{where}: every message of the assistant has weight 0: there is nothing to learn."
        )
    _check_calls(checked, {_tool_name(tool) for tool in tools or ()}, where)
    return Conversation(checked, source, tools, where)


def encode(conversation: Conversation, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids of a conversation, the separator first, and a mask of the same length, 1 on targets.

    The assistant's tokens are found by rendering ever longer beginnings: what a message adds after the prompt
    that asks for it is that message. Raises UsageError when the chat template refuses the messages, and
    BadFileError when it does not render a beginning of the conversation as a beginning of the text.
    """
    messages, stops = conversation.messages, tokenizer.stop_ids

    def ids_of(count: int, ask: bool) -> list[int]:
        return tokenizer.chat(messages[:count], tools=conversation.tools, add_generation_prompt=ask)

    whole = ids_of(len(messages), False)
    mask = [0] * len(whole)
    for index, message in enumerate(messages):
        if not learned(message):
            continue
        before = ids_of(index, True)
        after = whole if index + 1 == len(messages) else ids_of(index + 1, False)
        end = max((at + 1 for at, token in enumerate(after) if token in stops), default=len(after))
        if whole[: len(after)] != after or after[: len(before)] != before or end <= len(before):
            raise BadFileError(
                f"{conversation.where or conversation.source}: the chat template rewrites earlier messages "
                f"when later ones come (message {index + 1}), so it cannot be told which tokens are the "
                "assistant's."
            )
        mask[len(before) : end] = [1] * (end - len(before))
    return [tokenizer.separator_id, *whole], [0, *mask]


def whole_characters(text: str, where: str) -> str:
    """Return `text`. Raises BadFileError when it holds half a surrogate pair, as JSON can spell."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadFileError(
            f"{where}: half a character (a lone surrogate) at position {error.start}."
        ) from error
    return text


# --- one message


def _message(message: Any, where: str) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    role = "system" if role == "developer" else role
    if not isinstance(role, str) or role not in ROLES:
        found = f", not {str(role)[:40]!r}" if role is not None else ""
        raise BadFileError(f"{where}: needs a `role` that is one of {', '.join(ROLES)}{found}.")
    calls, thinking = message.get("tool_calls"), next((message[k] for k in THINKING if message.get(k)), None)
    rest = {key: value for key, value in message.items() if key not in THINKING}
    if calls:
        if role != "assistant":
            raise BadFileError(f"{where}: only the assistant can have `tool_calls`.")
        rest["tool_calls"] = _calls(calls, where)
    if thinking is not None:
        if role != "assistant" or not isinstance(thinking, str):
            raise BadFileError(f"{where}: `reasoning_content` is text, and the assistant's only.")
        rest["reasoning_content"] = whole_characters(thinking, where).strip()
    if role == "assistant" and message.get("weight", 1) not in (0, 1):
        raise BadFileError(f"{where}: its `weight` must be 0 or 1.")
    return {**rest, "role": role, "content": _content(message, role, where)}


def _content(message: Message, role: str, where: str) -> str | list[dict[str, Any]]:
    """Return the text of a message, or its parts when there are attachments among them."""
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        content = ""
    if isinstance(content, list):
        parts = [_part(part, where) for part in content]
        if any(part["type"] != "text" for part in parts):
            if role == "assistant":
                raise BadFileError(f"{where}: an answer of the assistant can only be text.")
            return parts
        content = "".join(part["text"] for part in parts)
    if not isinstance(content, str):
        raise BadFileError(f"{where}: its `content` must be text, or a list of parts with a `type`.")
    if not content.strip() and not message.get("tool_calls") and role != "tool":
        raise BadFileError(f"{where}: its `content` is empty.")
    # White space at the ends would run together with the template's own line ends.
    return whole_characters(content, where).strip()


def _part(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise BadFileError(f"{where}: each part of its `content` needs a `type`.")
    if part["type"] != "text":
        return part
    if not isinstance(part.get("text"), str):
        raise BadFileError(f"{where}: a part of type text has no `text`.")
    return {**part, "text": whole_characters(part["text"], where)}


def _calls(calls: Any, where: str) -> list[dict[str, Any]]:
    """Return the calls of tools, their arguments as objects."""
    if not isinstance(calls, list):
        raise BadFileError(f"{where}: `tool_calls` must be a list.")
    checked = []
    for call in calls:
        inner = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not inner["name"]:
            raise BadFileError(f"{where}: a call of a tool needs the `name` of a function.")
        arguments = inner.get("arguments", {})
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments or "{}")
            except (ValueError, RecursionError):
                arguments = None
        if not isinstance(arguments, dict):
            raise BadFileError(f"{where}: the arguments of {inner['name'][:40]!r} are no JSON object.")
        whole_characters(json.dumps([inner["name"], arguments], ensure_ascii=False), where)
        inner = {**inner, "arguments": arguments}
        checked.append({**call, "function": inner} if "function" in call else inner)
    return checked


def _check_calls(messages: list[Message], offered: set[str], where: str) -> None:
    """Raise BadFileError when a tool answers that was not called, or one is called that is not on offer."""
    open_ids: set[str] = set()
    called = False
    for number, message in enumerate(messages, 1):
        calls = message.get("tool_calls") or []
        if message["role"] == "tool":
            answered = message.get("tool_call_id")
            if not called or (open_ids and answered is not None and answered not in open_ids):
                raise BadFileError(f"{where}, message {number}: a tool answers, and no call asked for it.")
        elif message["role"] == "assistant":
            called = bool(calls) or "<tool_call>" in _said(message)
            open_ids = {str(call["id"]) for call in calls if call.get("id") is not None}
        else:
            called = False
        for call in calls:
            name = call.get("function", call)["name"]
            if offered and name not in offered:
                raise BadFileError(
                    f"{where}, message {number}: calls {name[:40]!r}, which is not among the tools on offer."
                )


def _tool_name(tool: dict[str, Any]) -> str:
    inner = tool.get("function")
    return str((inner if isinstance(inner, dict) else tool).get("name"))


def _said(message: Message) -> str:
    content = message["content"]
    return content if isinstance(content, str) else ""


def _other_form(record: dict[str, Any]) -> str:
    """Return a hint for files of another common form."""
    found = next((key for key in OTHER_FORMS if key in record), None)
    if found is None:
        return ""
    return f" (found `{found}`: write it as messages with `role` and `content`)"
