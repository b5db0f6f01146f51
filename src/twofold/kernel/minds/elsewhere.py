"""A model on another server: a name of kernels.toml, or FAMILY:MODEL."""

import asyncio
import contextlib
from collections.abc import Sequence

from twofold.base.errors import UsageError
from twofold.kernel import kernels
from twofold.kernel.elsewhere import Chat, End, Kernel
from twofold.kernel.minds import Message, Said, Turn
from twofold.tokens.speech import Piece

_CHARACTERS = 4  # of a token, about: their vocabularies are not known here
_LOOK_S = 0.05  # how often to see whether the answer is still wanted


class Elsewhere:
    """A model that others run."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self.context = kernel, kernel.context

    def tokens(self, text: str) -> int:
        """Return about how many tokens a text has."""
        return -(-len(text) // _CHARACTERS)

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return about how many tokens a conversation has."""
        return self.tokens(str(list(messages))) + self.tokens(str(list(tools)))

    def say(self, turn: Turn) -> Said:
        """Return the next turn. Raises ElsewhereError."""
        return asyncio.run(self._say(turn))

    def close(self) -> None:
        """Nothing is held."""

    async def _say(self, turn: Turn) -> Said:
        writing = asyncio.ensure_future(self._written(turn))
        while not writing.done():
            await asyncio.wait([writing], timeout=_LOOK_S)
            if turn.cancelled() and not writing.done():
                writing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await writing
                return Said(finish="cancelled")
        return writing.result()

    async def _written(self, turn: Turn) -> Said:
        chat = Chat(
            messages=turn.messages, max_tokens=turn.max_tokens, tools=turn.tools, choice=turn.choice,
            schema=turn.schema,
        )  # fmt: skip
        stream, end = kernels.Stream(self._kernel, chat), End()
        pieces: list[Piece] = []
        try:
            await stream.begin()
            async for event in stream:
                if isinstance(event, End):
                    end = event
                else:
                    pieces.append(event)
                    turn.heard(event)
        finally:
            stream.close()
        price = self._kernel.price_in * end.prompt_tokens + self._kernel.price_out * end.tokens
        return Said(
            text="".join(piece.text for piece in pieces if piece.kind == "text"),
            thinking="".join(piece.text for piece in pieces if piece.kind == "thought"),
            calls=[piece.call for piece in pieces if piece.call],
            made=end.tokens,
            prompt=end.prompt_tokens,
            cached=end.cached_tokens,
            money=price / 1e6,
            finish="length" if end.length else "stop",
        )


def open(name: str) -> Elsewhere:
    """Return the model of that name. Raises UsageError when there is none."""
    kernel = kernels.find(name)
    if kernel is None:
        raise UsageError(f"There is no kernel {name!r} in {kernels.file()}.")
    return Elsewhere(kernel)
