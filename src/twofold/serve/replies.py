"""An answer on its way: pieces of text, thoughts and calls from the batcher's steps, and what it came to.

Thoughts with a budget are written first, as an answer of their own: when the budget is used up the closing
mark is put there for the model, and what it goes on with is the answer (Muennighoff et al. 2025, arXiv
2501.19393, section 3.1). So thoughts are free where the answer itself must have a form.
"""

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from twofold.base.errors import TwofoldError
from twofold.run import Step
from twofold.run.batcher import Answering
from twofold.serve.models import Served
from twofold.serve.refusals import Refusal
from twofold.think.writing import Thoughts
from twofold.tokens.speech import Call, Piece, Speech, begins_a_call

if TYPE_CHECKING:
    from twofold.serve.asking import Wish

Finish = Literal["stop", "length", "calls"]
_FREE = 1024  # tokens of thoughts that nobody asked for


@dataclass
class Said:
    """A whole answer: its text, thoughts and calls, and the steps that the text is made of."""

    text: str = ""
    thought: str = ""
    calls: list[Call] = field(default_factory=list)
    steps: list[Any] = field(default_factory=list)


class Answer(ABC):
    """One answer. Iterate once; then `finish`, `stopped` (by which string) and the counts of tokens hold.

    `first_ns`: when the first token came. `temperature`, `top_p`: with which it is written.
    """

    temperature = top_p = 1.0

    def __init__(self, name: str) -> None:
        """Begin an answer of the model called `name`."""
        self.name = name
        self.finish: Finish = "stop"
        self.stopped: str | None = None
        self.prompt_tokens = self.tokens = self.thought_tokens = 0
        self.calls = 0
        self.first_ns = 0

    @property
    @abstractmethod
    def cached_tokens(self) -> int:
        """How many of the prompt's tokens need not be read again."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop writing; nobody reads it any more."""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield the pieces as they are certain. Raises TwofoldError when the model broke down."""

    async def whole(self) -> Said:
        """Return the answer when it is whole."""
        said = Said()
        async for piece in self:
            if piece.call:
                said.calls.append(piece.call)
            elif piece.kind == "text":
                said.text += piece.text
                said.steps += piece.notes
            else:
                said.thought += piece.text
        return said


class Reply(Answer):
    """An answer of a model in memory."""

    def __init__(self, served: Served, wish: "Wish") -> None:
        """Hand the request to the batcher. Raises UsageError, Busy or Closed."""
        super().__init__(served.name)
        if wish.chat and not wish.tools:
            wish = replace(wish, sampler=wish.sampler.without(begins_a_call(served.engine.tokenizer)))
        self.served, self.wish = served, wish
        self.temperature, self.top_p = wish.sampler.temperature, wish.sampler.top_p
        self.end: Step | None = None  # the token with which the model ended it
        self._marks = Thoughts(served.engine.tokenizer)
        self._stop_ids = served.engine.tokenizer.stop_ids
        self._budget = wish.thoughts
        if wish.constraint and self._open() and self._budget is None:
            self._budget = _FREE  # the template has begun thoughts, which no form can hold
        if self._budget is not None and not self._marks.known:
            raise Refusal("invalid", f"{served.name} was not made to think before it answers.")
        self._answering = self._submit(thinking=self._budget is not None, ids=wish.ids)
        self.prompt_tokens = self._answering.prompt_tokens
        self._first = self._answering

    @property
    def cached_tokens(self) -> int:
        """How many of the prompt's tokens need not be read again."""
        return self._first.cached_tokens

    @property
    def read(self) -> list[Step]:
        """The steps as which the prompt's tokens would have come, but the first; with `echo`, at the end."""
        return self._first.echo

    def cancel(self) -> None:
        """Stop writing; nobody reads it any more."""
        self._answering.cancel()

    async def __aiter__(self) -> AsyncIterator[Piece]:
        """Yield the pieces as they are certain. Raises TwofoldError when the model broke down."""
        try:
            if self._budget is not None:
                thought: list[int] = []
                async for piece in self._thoughts(thought):
                    yield piece
                ids = [*self.wish.ids, *self._opening(), *thought, *self._marks.closing]
                self._answering = self._submit(thinking=False, ids=ids)
            async for piece in self._said():
                yield piece
        finally:
            self._answering.cancel()

    def _submit(self, *, thinking: bool, ids: Sequence[int]) -> Answering:
        wish, batcher = self.wish, self.served.batcher
        left = self.served.engine.context - len(ids)
        if not thinking:
            constraint = wish.constraint() if wish.constraint else None
            most = min(wish.max_tokens, max(1, left))
            return batcher.submit(wish.ask(ids=ids, max_tokens=most, constraint=constraint, echo=wish.echo))
        ids = [*ids, *self._opening()]
        most = min(self._budget or 1, left - min(wish.max_tokens, left // 4) - 8)
        if most < 1:
            raise Refusal("invalid", "There is no room for thoughts beside this prompt: shorten it.")
        stops = {*self._stop_ids, self._marks.close_id}
        return batcher.submit(wish.ask(ids=ids, max_tokens=most, stop_ids=stops))

    async def _thoughts(self, made: list[int]) -> AsyncIterator[Piece]:
        """Yield the thoughts; `made` gets their tokens."""
        speech = Speech(self.served.engine.tokenizer, thinking=True)
        async for step in self._answering:
            if step.id == self._marks.close_id or step.id in self._stop_ids:
                break
            made.append(step.id)
            self._count()
            self.thought_tokens += 1
            for piece in speech.take(step.id):
                yield piece
        for piece in speech.end():
            yield piece
        if self._answering.finish == "cancelled":
            raise TwofoldError("The answer was cut off: the model is being unloaded.")

    async def _said(self) -> AsyncIterator[Piece]:
        """Yield the answer itself."""
        wish = self.wish
        speech = Speech(
            self.served.engine.tokenizer,
            stops=wish.stops,
            marks=wish.chat,
            tools=wish.tools,
            thinking=wish.chat and self._budget is None and self._open(),
            strip=wish.chat and not wish.goes_on and wish.constraint is None,
        )
        pieces: list[Piece] = []
        async for step in self._answering:
            if step.id in self._stop_ids:
                self.end = step
                break
            self._count()
            pieces += speech.take(step.id, step)
            if speech.stopped is not None:
                self._answering.cancel()
                break
            if not self._answering.more:  # what has come together goes out together
                for piece in joined(pieces):
                    yield self._counted(piece)
                pieces = []
        for piece in joined(pieces + speech.end()):
            yield self._counted(piece)
        self.stopped = speech.stopped
        if self._answering.finish == "cancelled" and self.stopped is None:
            raise TwofoldError("The answer was cut off: the model is being unloaded.")
        length = self._answering.finish == "length" and self.stopped is None
        self.finish = "calls" if self.calls else "length" if length else "stop"

    def _open(self) -> bool:
        """Whether the prompt ends within thoughts, as some templates open them."""
        marks = (self._marks.open_id, self._marks.close_id)
        last = next((token for token in reversed(self.wish.ids) if token in marks), -1)
        return self._marks.known and last == self._marks.open_id and not self.wish.goes_on

    def _opening(self) -> list[int]:
        return [] if self._open() else self._marks.opening

    def _count(self) -> None:
        self.tokens += 1
        self.first_ns = self.first_ns or time.monotonic_ns()

    def _counted(self, piece: Piece) -> Piece:
        self.calls += piece.kind == "call"
        if piece.kind == "thought":
            self.thought_tokens += len(piece.notes)
        return piece


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces with neighbours of one kind as one; calls stay as they are.

    A small model makes many tokens between two times that a reader is woken, and an event for each costs
    more than the token.
    """
    found: list[Piece] = []
    for kind, some in itertools.groupby(pieces, lambda piece: piece.kind):
        if kind == "call":
            found += some
        else:
            parts = [*some]
            notes = tuple(note for part in parts for note in part.notes)
            found.append(Piece(kind, "".join(part.text for part in parts), notes))
    return found


async def merged(replies: Sequence[Answer]) -> AsyncIterator[tuple[int, Piece | None]]:
    """Yield the pieces of several answers as they come, with the answer's number; None ends an answer."""
    if len(replies) == 1:
        async for piece in replies[0]:
            yield 0, piece
        yield 0, None
        return
    queue: asyncio.Queue[tuple[int, Piece | BaseException | None]] = asyncio.Queue()

    async def read(number: int, reply: Answer) -> None:
        try:
            async for piece in reply:
                queue.put_nowait((number, piece))
            queue.put_nowait((number, None))
        except BaseException as error:
            queue.put_nowait((number, error))

    tasks = [asyncio.create_task(read(number, reply)) for number, reply in enumerate(replies)]
    going = len(tasks)
    try:
        while going:
            number, found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            going -= found is None
            yield number, found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
