"""Minds: what says the next words of a process, a file per kind.

Each defines `open(name) -> Mind`; a mind is given a `Turn` and returns what it `Said`. `local` is a model on
this machine, `elsewhere` one on another server (kernels.toml), `script` a list of replies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol

from twofold.base.registry import Registry
from twofold.tokens.speech import Call, Piece

MINDS = Registry("twofold.kernel.minds", "kind of mind", requires=("open",))

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """What a mind is asked for: the next turn of a conversation. All but `messages` may be passed over.

    messages: the conversation so far, and tools: what may be called, in OpenAI's form. choice: "auto",
    "required" (it must call something) or the name of what it must call. max_tokens: of all that it says.
    schema: what its answer must be, as JSON Schema; None: any text. owner: who asks, for a fair share.

    cancelled: asked between tokens; once true, the turn ends. heard: is given pieces as they come. begun:
    `Said.begun` of a turn with the same messages that was cancelled: go on from there; None: from the start.
    """

    messages: Sequence[Message]
    tools: Sequence[Message] = ()
    _: KW_ONLY
    choice: str = "auto"
    max_tokens: int = 512
    schema: Mapping[str, Any] | None = None
    owner: str = ""
    cancelled: Callable[[], bool] = lambda: False
    heard: Callable[[Piece], None] = lambda piece: None
    begun: Any = None


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a mind said. made: tokens written; prompt: tokens before them, of which `cached` need not be read
    anew. money: what it cost, in the currency of kernels.toml. finish: "stop", "length" or "cancelled"; after
    the last, `begun` is what another turn can go on from."""

    text: str = ""
    thinking: str = ""
    calls: Sequence[Call] = ()
    made: int = 0
    prompt: int = 0
    cached: int = 0
    money: float = 0.0
    finish: str = "stop"
    begun: Any = field(default=None, compare=False)


class Mind(Protocol):
    """Who says the next words. May be used from several threads."""

    context: int  # tokens that it sees, with its answer

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has, or about as many."""
        ...

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return how many tokens a conversation has, or about as many."""
        ...

    def say(self, turn: Turn) -> Said:
        """Return what comes next. Raises TwofoldError."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def find(name: str) -> Mind:
    """Return a mind by its name, open: "" is the default model here; "script:FILE"; a name of kernels.toml,
    or FAMILY:MODEL; else a model on this machine. Raises UsageError."""
    from twofold.kernel import kernels

    kind, _, rest = name.partition(":")
    if kind == "script":
        found: Mind = MINDS.get("script").open(rest)
    elif name and kernels.find(name):
        found = MINDS.get("elsewhere").open(name)
    else:
        found = MINDS.get("local").open(name)
    return found
