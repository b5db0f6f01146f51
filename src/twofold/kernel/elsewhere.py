"""Models that answer on other servers: what is asked of one, what comes back, and what may go wrong.

`backends/` turns a `Chat` into the request of a family, and the family's stream into pieces and an `End`.
"""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from twofold.base.errors import TwofoldError
from twofold.tokens.speech import Call, Piece

Message = Mapping[str, Any]


class ElsewhereError(TwofoldError):
    """Another server did not answer. `kind`: the request's mistake, a full server, or all else."""

    def __init__(self, sentence: str, kind: Literal["invalid", "busy", "upstream"] = "upstream") -> None:
        super().__init__(sentence)
        self.kind = kind


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A model on another server. `key`: where its key is, such as "env:NAME", and never the key itself.

    `url`: without a slash at the end. `timeout_s`: for how long nothing may come. `context`: tokens that a
    process may show it. `price_in`, `price_out`: of a million tokens read and written.
    """

    name: str
    family: str
    model: str
    url: str
    key: str | None = None
    timeout_s: float = 120.0
    context: int = 32_768
    price_in: float = 0.0
    price_out: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Chat:
    """The next turn of a conversation, as every family is asked for it.

    `messages`: OpenAI's, with texts as content, an id for every call, and arguments as objects. `sampling`:
    by OpenAI's names, only what was said. `tools`: those that may be called; `choice`: "auto", "required" or
    a name. `schema`: of the answer, True for any JSON. `thoughts`: tokens to think in; 0: none; None: as it
    likes. `goes_on`: the last message is the beginning of the answer.
    """

    messages: Sequence[Message]
    max_tokens: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stops: Sequence[str] = ()
    tools: Sequence[Message] = ()
    choice: str = "auto"
    parallel: bool = True
    schema: Mapping[str, Any] | bool | None = None
    thoughts: int | None = None
    goes_on: bool = False


@dataclass(frozen=True, kw_only=True)
class End:
    """How an answer ended, and what it cost. `stopped`: the stop string that ended it, where that is told."""

    length: bool = False
    stopped: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    tokens: int = 0
    thought_tokens: int = 0


Event = Piece | End
Lines = AsyncIterator[str]


def refused(kernel: Kernel, what: str) -> ElsewhereError:
    """Return that a kernel of this family cannot do `what`."""
    return ElsewhereError(f"{kernel.name} answers elsewhere ({kernel.family}), without {what}.", "invalid")


def only(kernel: Kernel, sampling: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return the sampling by a family's own names. Raises ElsewhereError for what it has none for."""
    if other := next((name for name in sampling if name not in names), None):
        raise refused(kernel, f"`{other}`")
    return {names[name]: value for name, value in sampling.items()}


def called(name: Any, arguments: Any) -> Piece:
    """Return a call as a piece. Raises ElsewhereError when the arguments are no JSON object."""
    try:
        value = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not text(name):
        raise ElsewhereError("it called a tool with what is no JSON object: ask once more.")
    return Piece("call", call=Call(text(name), text(json.dumps(value, ensure_ascii=False))))


def text(value: Any) -> str:
    """Return a text as whole characters; what is no text is an empty one."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def record(value: Any) -> dict[str, Any]:
    """Return an object; what is none is an empty one."""
    return value if isinstance(value, dict) else {}


def first(value: Any) -> dict[str, Any]:
    """Return the first object of a list, or an empty one."""
    return record(value[0]) if isinstance(value, list) and value else {}


def count(value: Any) -> int:
    """Return a number of tokens; what is none is 0."""
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0


def read(line: str) -> dict[str, Any]:
    """Return the object that a line of JSON is. Raises ElsewhereError when it is none, or says an error."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ElsewhereError("what came is not the JSON that servers of this family send: is its url right?")
    if value.get("error"):
        raise ElsewhereError(complaint(value) or "it broke down.")
    return value


def complaint(value: Any) -> str:
    """Return the sentence in the body of an error, empty when there is none."""
    body = record(value)
    inner = body.get("error")
    for found in (record(inner).get("message"), inner, body.get("message"), body.get("detail")):
        if text(found).strip():
            return " ".join("".join(c if c.isprintable() else " " for c in text(found)).split())[:500]
    return ""


async def events(lines: Lines) -> AsyncIterator[str]:
    """Yield the data of server-sent events."""
    held: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            held.append(line[5:].removeprefix(" "))
        elif not line and held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)
