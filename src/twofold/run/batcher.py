"""Continuous batching: many requests share one engine, and join and leave between its steps.

One thread owns the engine. Each of its steps is one pass over the weights, which brings every answer in
progress a token further (Yu et al. 2022, Orca, section 3.2) and reads a piece of the prompts that are new:
as many tokens as the step has room for, so that a long prompt holds nobody up (Agrawal et al. 2023,
arXiv 2308.16369). What an earlier request has left in a sequence is not read again (slots.py).

run.c gives the same bits for a token in any batch and each request has its own random numbers, so the answer
to a request does not depend on what runs beside it. Not covered: several engines, and pausing an answer in
favour of another.
"""

import threading
import time
from collections import deque

import numpy as np

from twofold.base.errors import UsageError
from twofold.run.answering import Answering, Ask, Busy, Closed
from twofold.run.engine import Engine, Floats, Step

__all__ = ["Answering", "Ask", "Batcher", "Busy", "Closed"]


class _Writing:
    """A request that has a sequence of its own."""

    def __init__(self, answering: Answering, sequence: int, known: int, stop: frozenset[int]) -> None:
        ask = answering.ask
        self.answering, self.ask, self.sequence, self.stop = answering, ask, sequence, stop
        self.ids = list(ask.ids)
        self.known = known  # how many of the ids the sequence holds
        self.made = 0
        self.state = ask.sampler.seed & ((1 << 64) - 1)


class Batcher:
    """Answers many requests with one engine, which nobody else may use from now on.

    waiting: how many requests may wait for a sequence. chunk: tokens that a step reads at most.
    """

    def __init__(self, engine: Engine, *, waiting: int = 256, chunk: int = 256) -> None:
        self._engine, self._most_waiting, self._chunk = engine, waiting, max(chunk, engine.sequences + 1)
        self._news = threading.Condition()  # guards what follows
        self._waiting: dict[str, deque[Answering]] = {}  # owner -> requests, oldest first
        self._served: dict[str, float] = {}  # owner -> when a request of theirs was last let in
        self._cancelled: set[Answering] = set()
        self._closing = self._closed = False
        self._writing: list[_Writing] = []
        self._used = [0.0] * engine.sequences  # when a sequence was last used
        self._counts = dict.fromkeys(("requests", "tokens", "prompt_tokens", "cached_tokens", "steps"), 0)
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, ask: Ask) -> Answering:
        """Return the answer, which is then written. May be called from any thread.

        Raises UsageError when the prompt is empty, too long or has an unknown token, Busy when too many wait,
        Closed after `close`.
        """
        engine, ids = self._engine, ask.ids
        if not 0 < len(ids) <= engine.context:
            raise UsageError(f"A prompt needs 1 to {engine.context:,} tokens, not {len(ids):,}.")
        if not 0 <= min(ids) <= max(ids) < engine.config.vocab_size:
            raise UsageError(f"A token of the prompt is not in 0 to {engine.config.vocab_size - 1:,}.")
        if ask.max_tokens < 1:
            raise UsageError("An answer needs max_tokens of 1 or more.")
        answering = Answering(ask, self._cancel)
        with self._news:
            if self._closing:
                raise Closed("This model is being closed and takes no more requests.")
            if sum(map(len, self._waiting.values())) >= self._most_waiting:
                raise Busy(f"{self._most_waiting:,} requests are waiting already: ask again later.")
            self._waiting.setdefault(ask.owner, deque()).append(answering)
            self._counts["requests"] += 1
            self._news.notify()
        return answering

    def figures(self) -> dict[str, float]:
        """Return how many requests are running and waiting, and sums since the start: requests, steps,
        tokens made, prompt tokens read and cached."""
        with self._news:
            waiting = sum(map(len, self._waiting.values()))
            return {"running": len(self._writing), "waiting": waiting, **self._counts}

    def close(self, grace_s: float = 0) -> None:
        """Take no more requests, give those that run or wait so many seconds, cancel the rest, and end."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(grace_s)
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join()

    def _cancel(self, answering: Answering) -> None:
        with self._news:
            queue = self._waiting.get(answering.ask.owner, ())
            if answering in queue:
                queue.remove(answering)
                answering.end("cancelled")
            elif answering.finish is None:
                self._cancelled.add(answering)

    # ---- the thread

    def _run(self) -> None:
        reason = "cancelled", ""
        try:
            while self._let_in():
                self._step()
        except Exception as error:  # nobody may wait for ever
            reason = "error", f"The model stopped: {error}"
            raise
        finally:
            with self._news:
                self._closing = True
                for writing in self._writing:
                    writing.answering.end(*reason)
                for queue in self._waiting.values():
                    for answering in queue:
                        answering.end(*reason)
                self._writing, self._waiting = [], {}

    def _let_in(self) -> bool:
        """Wait until there is something to do, and give free sequences to those who wait; False: the end."""
        with self._news:
            while not (self._writing or any(self._waiting.values()) or self._closing):
                self._news.wait()
            for writing in [w for w in self._writing if w.answering in self._cancelled]:
                self._leave(writing, "cancelled")
            self._cancelled.clear()
            while len(self._writing) < self._engine.sequences and (answering := self._next()):
                self._begin(answering)
            return not self._closed and bool(self._writing or not self._closing)

    def _next(self) -> Answering | None:
        """Return the oldest request of the owner with fewest answers in progress, then of the longest wait."""
        owners = [owner for owner, queue in self._waiting.items() if queue]
        if not owners:
            return None
        busy = [writing.ask.owner for writing in self._writing]
        owner = min(owners, key=lambda name: (busy.count(name), self._served.get(name, 0)))
        self._served[owner] = time.monotonic()
        return self._waiting[owner].popleft()

    def _begin(self, answering: Answering) -> None:
        taken = {writing.sequence for writing in self._writing}
        free = [n for n in range(self._engine.sequences) if n not in taken]
        sequence = min(free, key=lambda n: self._used[n])
        ids = list(answering.ask.ids)
        known = self._engine.share(ids[:-1], sequence)
        answering.cached_tokens = known
        self._counts["prompt_tokens"] += len(ids)
        self._counts["cached_tokens"] += known
        stop = frozenset(answering.ask.stop_ids) or self._engine.tokenizer.stop_ids
        self._writing.append(_Writing(answering, sequence, known, stop))

    def _leave(self, writing: _Writing, finish: str) -> None:
        self._writing.remove(writing)
        self._used[writing.sequence] = time.monotonic()
        writing.answering.end(finish)

    def _step(self) -> None:
        """One pass: a token for every answer, and a piece of the prompts."""
        if not self._writing:
            return
        room = self._chunk - len(self._writing)
        parts: list[tuple[_Writing, int]] = []  # who, and how many of its tokens are read
        by_need = sorted(self._writing, key=lambda w: len(w.ids) - w.known)
        for left, writing in zip(range(len(by_need), 0, -1), by_need, strict=True):
            count = min(len(writing.ids) - writing.known, 1 + room // left)
            room -= count - 1
            parts.append((writing, count))
        tokens = [token for w, count in parts for token in w.ids[w.known : w.known + count]]
        sequences = np.repeat([w.sequence for w, _ in parts], [count for _, count in parts])
        positions = np.concatenate([np.arange(w.known, w.known + count) for w, count in parts])
        last = np.cumsum([count for _, count in parts]) - 1
        wanted = np.zeros(len(tokens), bool)
        ready = []
        for (writing, count), row in zip(parts, last, strict=True):
            writing.known += count
            if writing.known == len(writing.ids):
                wanted[row] = True
                ready.append(writing)
        logits_NV = self._engine.forward(tokens, sequences, positions, wanted)
        self._counts["steps"] += 1
        for writing, logits_V in zip(ready, logits_NV, strict=True):
            self._write(writing, logits_V)

    def _write(self, writing: _Writing, logits_V: Floats) -> None:
        ask = writing.ask
        if ask.constraint and (allowed_V := ask.constraint.mask()) is not None:
            logits_V[~allowed_V] = -np.inf
        token, p_V, writing.state = self._engine.runner.choose(
            logits_V, ask.sampler, writing.ids, writing.state
        )
        step = Step(token, float(p_V[token]), _likeliest(p_V, ask.alternatives))
        writing.made += 1
        self._counts["tokens"] += 1
        writing.answering.add(step)
        if ask.constraint:
            ask.constraint.take(token)
        if token in writing.stop:
            self._leave(writing, "stop")
        elif writing.made == ask.max_tokens or len(writing.ids) == self._engine.context:
            self._leave(writing, "length")
        else:
            writing.ids.append(token)


def _likeliest(p_V: Floats, count: int) -> tuple[tuple[int, float], ...]:
    """Return the likeliest tokens with their probabilities, likeliest first."""
    if not count:
        return ()
    top = np.argpartition(-p_V, min(count, len(p_V)) - 1)[:count]
    top = top[np.argsort(-p_V[top], kind="stable")]
    return tuple((int(i), float(p_V[i])) for i in top)
