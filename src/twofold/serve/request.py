"""A request as a handler sees it: the checked body, the server's state, and what is undone at the end."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twofold.kernel.elsewhere import Chat, Kernel
from twofold.run.batcher import Closed
from twofold.serve.elsewhere import Elsewhere
from twofold.serve.models import Served
from twofold.serve.replies import Answer, Reply
from twofold.serve.state import State

if TYPE_CHECKING:
    from twofold.serve.asking import Turn, Wish


@dataclass
class Request:
    """A request whose body has been checked.

    `path`, `query`: the parameters of its address. `owner`: who asks.
    """

    state: State
    body: dict[str, Any]
    path: dict[str, str]
    owner: str
    query: dict[str, str] = field(default_factory=dict)
    undo: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def model(self) -> Served:
        """Return the model that the body names, which stays loaded until the request is over."""
        served = await self.state.models.open(self.body.get("model"))
        self.undo.callback(served.release)
        return served

    async def speaker(self) -> Served | Kernel:
        """Return the model that the body names, be it here or on another server."""
        return self.state.models.kernel(self.body.get("model")) or await self.model()

    async def begin(self, served: Served | Kernel, turn: "Turn") -> Answer:
        """Return an answer that is being written, here or elsewhere, until the request is over."""
        if isinstance(served, Served):
            assert not isinstance(turn, Chat)
            return self.reply(served, turn)
        assert isinstance(turn, Chat)
        answer = Elsewhere(served, turn)
        self.undo.callback(answer.cancel)
        await answer.begin()
        return answer

    def reply(self, served: Served, wish: "Wish") -> Reply:
        """Return an answer that is being written, until the request is over."""
        try:
            reply = Reply(served, wish)
        except Closed:
            self.state.models.lost(served)
            raise
        self.undo.callback(reply.cancel)
        return reply

    def count(self, replies: Sequence[Answer]) -> None:
        """Count the tokens of answers to one prompt."""
        for name, amount in (
            ("prompt", replies[0].prompt_tokens),
            ("cached", replies[0].cached_tokens),
            ("completion", sum(reply.tokens for reply in replies)),
        ):
            self.state.metrics.add(f"twofold_{name}_tokens_total", amount, model=replies[0].name)
