"""A request for an answer, and the answer as it is being written: how other threads talk to the batcher.

An `Answering` is read by one reader, in any thread by `for`, in an event loop by `async for`. Steps wait in
it until they are read, so a slow reader holds nobody up. Not covered: several readers of one answer.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from twofold.base.errors import TwofoldError
from twofold.run.chooser import Step
from twofold.run.constraints import Constraint
from twofold.run.sampling import Sampler


class Busy(TwofoldError):  # noqa: N818 - a state, and not a mistake
    """As many requests wait as may: ask again later."""


class Closed(TwofoldError):  # noqa: N818
    """The batcher takes no more requests."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request: what stands before the answer, and how to write it.

    ids: the prompt. stop_ids: tokens that end the answer, by default the tokenizer's. constraint: what the
    answer must look like (constraints.py); no two requests can share one. owner: who asks; where there is
    not room for all, owners get equal shares. alternatives: how many of the likeliest tokens to name with
    each token. echo: read the prompt back as steps, too; then max_tokens may be 0.
    """

    ids: Sequence[int]
    max_tokens: int
    sampler: Sampler = field(default_factory=Sampler)
    stop_ids: Collection[int] = ()
    constraint: Constraint | None = None
    owner: str = ""
    alternatives: int = 0
    echo: bool = False


class Answering:
    """An answer that is being written. Iterating waits for each token; it ends with the answer.

    finish: None until the last token is there; then "stop" (the last step is a stop token), "length",
    "cancelled" or "error". prompt_tokens: of the request; cached_tokens: how many of them need not be read,
    as an earlier request had. echo: with Ask.echo, a step for each token of the prompt but the first, at
    temperature 1; complete when the first step is there, or the end. Iterating raises TwofoldError after
    "error".
    """

    def __init__(self, ask: Ask, cancel: "Callable[[Answering], None]") -> None:
        self.ask = ask
        self.finish: str | None = None
        self.prompt_tokens, self.cached_tokens = len(ask.ids), 0
        self.echo: list[Step] = []
        self._cancel = cancel
        self._steps: deque[Step] = deque()
        self._bell: _Bell | None = None  # while a reader waits
        self._reason = ""

    def cancel(self) -> None:
        """Stop writing; the room is free before the next step. After the end it changes nothing."""
        self._cancel(self)

    def __iter__(self) -> Iterator[Step]:
        """Yield the steps, waiting for each."""
        bell = threading.Event()
        while not self._over():
            while self._steps:
                yield self._steps.popleft()
            bell.clear()
            self._bell = None, bell.set
            if not self._steps and self.finish is None:  # neither came before the bell was hung up
                bell.wait()

    async def __aiter__(self) -> AsyncIterator[Step]:
        """Yield the steps, waiting for each, in an event loop."""
        bell, loop = asyncio.Event(), asyncio.get_running_loop()
        while not self._over():
            while self._steps:
                yield self._steps.popleft()
            bell.clear()
            self._bell = loop, bell.set
            if not self._steps and self.finish is None:
                await bell.wait()

    @property
    def more(self) -> bool:
        """Whether a step has come that was not yet read: the next one is there without waiting."""
        return bool(self._steps)

    def _over(self) -> bool:
        if self.finish is None or self._steps:
            return False
        if self.finish == "error":
            raise TwofoldError(self._reason)
        return True

    # ---- for the batcher

    def add(self, step: Step) -> None:
        """Put a step where the reader finds it; `wake` wakes the reader."""
        self._steps.append(step)

    def end(self, finish: str, reason: str = "") -> None:
        """Say that no step follows, and why; `wake` wakes the reader."""
        self._reason, self.finish = reason, finish

    def unhook(self) -> "_Bell | None":
        """Return what the reader waits by, once."""
        bell, self._bell = self._bell, None
        return bell


_Bell = tuple[asyncio.AbstractEventLoop | None, Callable[[], None]]


def wake(answers: Iterable[Answering]) -> None:
    """Wake the readers of these answers: those of one event loop by one call, as calls across are dear."""
    calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for answering in answers:
        if bell := answering.unhook():
            loop, ring = bell
            if loop:
                calls.setdefault(loop, []).append(ring)
            else:
                ring()
    for loop, rings in calls.items():
        with contextlib.suppress(RuntimeError):  # the loop has been closed, and its readers with it
            loop.call_soon_threadsafe(_ring_all, rings)


def _ring_all(rings: list[Callable[[], None]]) -> None:
    for ring in rings:
        ring()
