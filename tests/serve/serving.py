"""A server in this process, on a free port of the loopback, and a model that says what it is told to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tiny_models import random_model

from twofold.run import Engine, Sampler
from twofold.run.batcher import Batcher
from twofold.run.sampling import choose
from twofold.serve import app, server
from twofold.serve.models import Models, Served
from twofold.serve.settings import Settings
from twofold.serve.state import State


@dataclass(frozen=True)
class Serving:
    """A running server: its address, its state, and a client of plain HTTP."""

    url: str
    state: State
    http: httpx.Client
    stop: Callable[[], None]

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.http.post(path, json=body, **more)

    def served(self, name: str) -> Served:
        """Return a model that is in memory."""
        return next(one for one in self.state.models.loaded() if one.name == name)


@contextmanager
def serve(*models: str | Path, key: str | None = None, **settings: Any) -> Iterator[Serving]:
    """Serve for the length of a block; a model that is a text is one that says this text."""
    chosen = Settings(**{"port": 0, "threads": 1, "slots": 4, "grace_s": 0.0, "preload": False, **settings})
    state = State(Models([str(model) for model in models], chosen), chosen, key)
    with server.running(app.build(state), chosen) as it, httpx.Client(base_url=it.url, timeout=60) as http:
        yield Serving(it.url, state, http, it.stop)


def teach(state: State, name: str, *texts: str, context: int = 512) -> None:
    """Put a model behind a name that answers `texts`, one after the other and around again."""
    model = random_model("qwen3", context=context)
    parrot = Parrot([model.tokenizer.encode(text, specials=True) for text in texts], model)
    engine = Engine(model, parrot, backend="parrot", context=context, sequences=4)
    state.models.put(Served(name, Path("/dev/null"), engine, Batcher(engine), 0))


def teach_to_break(running: Serving, name: str) -> None:
    """Put a model behind a name that says three tokens and then raises what no code expects."""
    teach(running.state, name, "one two three four five six")
    backend = running.served(name).engine.runner
    forward, calls = backend.forward, []

    def failing(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 3:
            raise ZeroDivisionError("on purpose")
        return forward(*arguments)

    backend.forward = failing


class Parrot:
    """A backend that says its lines: after each start of an assistant's turn, and then it stops."""

    def __init__(self, lines: Sequence[list[int]], model: Any) -> None:
        tokenizer = model.tokenizer
        self.lines = [[*line, tokenizer.special_id("<|im_end|>")] for line in lines]
        self.begin = tokenizer.encode("<|im_start|>assistant\n", specials=True)
        self.vocab = model.config.vocab_size
        self.held: dict[int, list[int]] = {}
        self.said = 0

    def forward(self, tokens: Any, sequences: Any, positions: Any, wanted: Any) -> Any:
        rows = []
        for token, sequence, position, want in zip(tokens, sequences, positions, wanted, strict=True):
            held = self.held.setdefault(int(sequence), [])
            held[position:] = [int(token)]
            if want:
                rows.append(self._next(held))
        return np.stack(rows) if rows else np.empty((0, self.vocab), np.float32)

    def _next(self, held: list[int]) -> Any:
        size = len(self.begin)
        start = max(n for n in range(size, len(held) + 1) if held[n - size : n] == self.begin)
        said = len(held) - start
        if said == 0:
            self.said += 1
        line = self.lines[(self.said - 1) % len(self.lines)]
        logits = np.zeros(self.vocab, np.float32)
        logits[line[min(said, len(line) - 1)]] = 30.0
        return logits

    def copy(self, source: int, target: int, length: int) -> None:
        self.held[target] = self.held.get(source, [])[:length]

    def choose(self, logits: Any, sampler: Sampler, recent: Sequence[int], state: int) -> Any:
        return choose(logits, sampler, recent, state)
