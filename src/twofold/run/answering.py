"""A request for an answer, and the answer as it is being written: how other threads talk to the batcher.

An `Answering` may be read from any one thread, by `for` or by `async for`. Steps wait in it until they are
read, so a slow reader holds nobody up. Not covered: several readers of one answer.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from twofold.base.errors import TwofoldError
from twofold.run.constraints import Constraint
from twofold.run.engine import Step
from twofold.run.sampling import Sampler


class Busy(TwofoldError):
    """As many requests wait as may: ask again later."""


class Closed(TwofoldError):
    """The batcher takes no more requests."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request: what stands before the answer, and how to write it.

    ids: the prompt. stop_ids: tokens that end the answer, by default the tokenizer's. constraint: what
    the answer must look like (constraints.py); each request needs one of its own. owner: who asks; where
    there is not room for all, owners get equal shares. alternatives: how many of the likeliest tokens to
    name with each token.
    """

    ids: Sequence[int]
    max_tokens: int
    sampler: Sampler = Sampler()
    stop_ids: Collection[int] = ()
    constraint: Constraint | None = None
    owner: str = ""
    alternatives: int = 0


class Answering:
    """An answer that is being written. Iterating waits for each token; it ends with the answer.

    finish: None until the last token is there; then "stop" (the last step is a stop token), "length",
    "cancelled" or "error". prompt_tokens: of the request; cached_tokens: how many of them were known from
    earlier requests. Iterating raises TwofoldError after "error".
    """

    def __init__(self, ask: Ask, cancel: "Callable[[Answering], None]") -> None:
        self.ask = ask
        self.finish: str | None = None
        self.prompt_tokens, self.cached_tokens = len(ask.ids), 0
        self._cancel = cancel
        self._steps: deque[Step] = deque()
        self._wake: Callable[[], None] | None = None  # set while a reader waits
        self._reason = ""

    def cancel(self) -> None:
        """Stop writing; the room is free before the next step. After the end it changes nothing."""
        self._cancel(self)

    def __iter__(self) -> Iterator[Step]:
        """Yield the steps, waiting for each."""
        bell = threading.Event()
        while not self._ended():
            while self._steps:
                yield self._steps.popleft()
            bell.clear()
            self._wake = bell.set
            if not self._steps and self.finish is None:  # neither came before the bell was hung up
                bell.wait()

    async def __aiter__(self) -> AsyncIterator[Step]:
        """Yield the steps, waiting for each, in an event loop."""
        bell, loop = asyncio.Event(), asyncio.get_running_loop()
        while not self._ended():
            while self._steps:
                yield self._steps.popleft()
            bell.clear()
            self._wake = lambda: loop.call_soon_threadsafe(bell.set)
            if not self._steps and self.finish is None:
                await bell.wait()

    def _ended(self) -> bool:
        if self.finish == "error" and not self._steps:
            raise TwofoldError(self._reason)
        return self.finish is not None and not self._steps

    # ---- for the batcher

    def add(self, step: Step) -> None:
        """Hand over a step."""
        self._steps.append(step)
        self._ring()

    def end(self, finish: str, reason: str = "") -> None:
        """Say that no step follows, and why."""
        self._reason, self.finish = reason, finish
        self._ring()

    def _ring(self) -> None:
        wake, self._wake = self._wake, None
        if wake:
            wake()
