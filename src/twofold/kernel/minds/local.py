"""A model on this machine: many processes share one engine, and what they have read in common
(run/batcher.py).

Calls of tools are written under a grammar, so a malformed one is impossible; to a small window the tools are
told in a few words (kernel/brief.py). A fork's prompt begins as its
parent's does, and what the engine holds of that is not read again.
"""

import threading
from collections.abc import Sequence

from twofold import run
from twofold.base.errors import UsageError
from twofold.kernel.brief import Teller
from twofold.kernel.minds import Message, Said, Turn
from twofold.run import catalogue
from twofold.run.batcher import Ask, Batcher
from twofold.run.constraints import Constraint, Grammars
from twofold.run.engine import Engine
from twofold.tokens.speech import Call, Speech

_SEQUENCES = 4  # answers that are written side by side
_CONTEXT = 8192  # tokens: a longer window costs memory for every sequence


class Local:
    """A model behind a batcher, which may be shared with others."""

    def __init__(self, engine: Engine, batcher: Batcher | None = None) -> None:
        self.engine, self.batcher = engine, batcher or Batcher(engine)
        self._grammars, self._shared = Grammars(engine.tokenizer), batcher is not None
        self._tokenizer = engine.tokenizer
        self.context = engine.context
        template = self._tokenizer.vocabulary.chat_template
        if not template:
            raise UsageError("This model has no chat template: it cannot run processes.")
        self._calls = "tools" in template
        self._counts, self._teller = threading.local(), Teller(self._tokenizer, self.context)

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return len(self._tokenizer.encode(text))

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return how many tokens a conversation has, with what stands before the answer."""
        return len(self._ids(messages, tools))

    def say(self, turn: Turn) -> Said:
        """Return the next turn, written greedily; `begun` are the tokens it begins with. Raises
        TwofoldError."""
        if turn.tools and not self._calls:
            raise UsageError("This model was not made to call tools: choose another, or grant no devices.")
        prompt, made = self._ids(turn.messages, turn.tools), list(turn.begun or ())
        speech = Speech(self._tokenizer, tools=bool(turn.tools), strip=True)
        pieces = [piece for token in made for piece in speech.take(token)]
        constraint = self._constraint(turn)
        if constraint:
            for token in made:
                constraint.take(token)
        room = min(turn.max_tokens, self.engine.context - len(prompt)) - len(made)
        ask = Ask(ids=prompt + made, max_tokens=max(1, room), constraint=constraint, owner=turn.owner)
        answering = self.batcher.submit(ask)
        for step in answering:
            if step.id not in self._tokenizer.stop_ids:
                made.append(step.id)
            for piece in speech.take(step.id):
                pieces.append(piece)
                turn.heard(piece)
            if turn.cancelled():
                answering.cancel()
                return Said(finish="cancelled", begun=made)
        for piece in speech.end():
            pieces.append(piece)
            turn.heard(piece)
        calls: list[Call] = [piece.call for piece in pieces if piece.call]
        return Said(
            text="".join(piece.text for piece in pieces if piece.kind == "text"),
            thinking="".join(piece.text for piece in pieces if piece.kind == "thought"),
            calls=calls,
            made=len(made),
            prompt=len(prompt),
            cached=min(answering.cached_tokens, len(prompt)),
            finish=answering.finish or "stop",
        )

    def close(self) -> None:
        """Let the model go, unless others use it."""
        if not self._shared:
            self.batcher.close()

    def _constraint(self, turn: Turn) -> Constraint | None:
        if turn.tools:
            thoughts = turn.choice == "auto"
            return self._grammars.tool_calls(turn.tools, turn.choice, answer=turn.schema, thoughts=thoughts)
        return None if turn.schema is None else self._grammars.json_schema(turn.schema)

    def _ids(self, messages: Sequence[Message], tools: Sequence[Message]) -> list[int]:
        """Return what stands before the answer. The last one asked for is kept: it is counted, then read."""
        key = (list(messages), list(tools))
        if getattr(self._counts, "key", None) != key:
            self._counts.ids = self._teller.ids(messages, tools)
            self._counts.key = key
        return list(self._counts.ids)


def open(name: str) -> Local:
    """Return the model of that name, "" the default one. Raises UsageError when there is none."""
    path = catalogue.find(name or None)
    return Local(run.load(path, sequences=_SEQUENCES, context=_CONTEXT))
