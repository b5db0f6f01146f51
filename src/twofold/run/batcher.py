"""Continuous batching: many requests share one engine, and join and leave between its steps.

One thread owns the engine. Each of its steps is one pass over the weights, which brings every answer in
progress a token further (Yu et al. 2022, Orca, section 3.2) and reads a piece of the prompts that are new:
as many tokens as take a twentieth of a second, so that a long prompt holds nobody up (Agrawal et al. 2023,
arXiv 2308.16369). What an earlier request has left in a sequence is not read again, nor is what one that is
being read begins with (Zheng et al. 2023, arXiv 2312.07104, section 3, with a list in place of their tree).
An answer that is alone is written as Engine.generate writes it, with guesses (speculation.py).

run.c gives the same bits for a token in any batch, and each request has its own random numbers, so an answer
does not depend on what runs beside it. Not covered: several engines.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from twofold.base.errors import TwofoldError, UsageError
from twofold.run.answering import Answering, Ask, Busy, Closed, wake
from twofold.run.chooser import Chooser, Step
from twofold.run.engine import Engine, Floats, common
from twofold.run.sampling import Sampler, likeliest
from twofold.run.speculation import Pacer, PromptLookup

__all__ = ["Answering", "Ask", "Batcher", "Busy", "Closed"]

# How often a reader is woken at most: for one answer, for each that is written beside it, and in any case.
_PACE_S, _PACE_EACH_S, _PACE_MOST_S = 0.003, 0.001, 0.02
_STALL_S = 0.05  # how long a step may read while answers wait for it
_LEAST = 16  # tokens that a step may read in any case
_ECHOED = 64  # tokens that are read back in a step: each has logits
_WORTH_WAITING = 32  # tokens in common with a prompt that is being read, for which another waits
_OWNERS = 256  # of whom it is known when they were last served
_LOSS = 64  # tokens that a sequence may lose to one that goes on otherwise; else another gives way


class _Writing:
    """A request on its way. `known`: how many of its ids its sequence holds."""

    def __init__(self, answering: Answering, engine: Engine) -> None:
        ask = answering.ask
        self.answering, self.ask, self.ids = answering, ask, list(ask.ids)
        stop = frozenset(ask.stop_ids) or engine.tokenizer.stop_ids
        self.chooser = Chooser(engine.runner, ask.sampler, stop, ask.alternatives, ask.constraint)
        self.draft: PromptLookup | None = None
        self.sequence, self.known, self.made = -1, 0, 0
        self.begun = len(self.ids)
        self.woken = 0.0  # when its reader last was
        self.ahead: tuple[_Writing, int] | None = None  # who is reading our beginning, and how much of it

    @property
    def echoes(self) -> bool:
        """Whether the prompt is being read back."""
        return self.ask.echo and not self.made

    @property
    def reading(self) -> bool:
        """Whether more than the last token is left of what was there when it was let in."""
        return self.known < self.begun - 1


def _pace_s(writings: Sequence[object]) -> float:
    """Return how often the readers of so many answers are woken at most, in seconds."""
    return min(max(_PACE_S, _PACE_EACH_S * len(writings)), _PACE_MOST_S)


class Batcher:
    """Answers many requests with one engine, which nobody else may use from now on.

    waiting: how many requests may wait for a sequence. chunk: tokens that a step reads of prompts at most.
    """

    def __init__(self, engine: Engine, *, waiting: int = 256, chunk: int = 256) -> None:
        self._engine, self._most_waiting, self._chunk = engine, waiting, max(1, chunk)
        self._news = threading.Condition()  # guards what follows
        self._waiting: dict[str, deque[_Writing]] = {}  # owner -> requests, oldest first
        self._running: list[_Writing] = []  # in the order they were let in
        self._cancelled: set[Answering] = set()
        self._closing, self._closed, self._reason = False, False, ""
        # The thread's own:
        self._used = [0.0] * engine.sequences  # when a sequence was last left
        self._served: dict[str, float] = {}  # owner -> when one of theirs was last let in
        self._pacer, self._token_s = Pacer(), 0.0
        self._pass_s: dict[int, float] = {}  # answers in a pass -> the quickest seen
        names = ("requests", "steps", "tokens", "prompt_tokens", "cached_tokens", "pauses")
        self._counts = dict.fromkeys(names, 0)
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, ask: Ask) -> Answering:
        """Return the answer, which is then written. May be called from any thread.

        Raises UsageError when the prompt is empty, too long or has an unknown token (or the sampler's bias
        has one), Busy when too many wait,
        Closed after `close`.
        """
        engine, ids = self._engine, ask.ids
        if not 0 < len(ids) <= engine.context:
            raise UsageError(f"A prompt needs 1 to {engine.context:,} tokens, not {len(ids):,}.")
        if not 0 <= min(ids) <= max(ids) < engine.config.vocab_size:
            raise UsageError(f"A token of the prompt is not in 0 to {engine.config.vocab_size - 1:,}.")
        if ask.max_tokens < (0 if ask.echo else 1):
            raise UsageError("An answer needs max_tokens of 1 or more.")
        ask.sampler.check(engine.config.vocab_size)
        answering = Answering(ask, self._cancel)
        with self._news:
            if self._closing:
                raise Closed(self._reason or "This model is being closed and takes no more requests.")
            if sum(map(len, self._waiting.values())) >= self._most_waiting:
                raise Busy(f"{self._most_waiting:,} requests are waiting already: ask again later.")
            self._waiting.setdefault(ask.owner, deque()).append(_Writing(answering, engine))
            self._counts["requests"] += 1
            self._news.notify()
        return answering

    def figures(self) -> dict[str, float]:
        """Return how many requests are running and waiting, and sums since the start: requests, steps,
        tokens made, prompt tokens and how many of them were cached, pauses for the sake of others."""
        with self._news:
            waiting = sum(map(len, self._waiting.values()))
            return {"running": len(self._running), "waiting": waiting, **self._counts}

    def close(self, grace_s: float = 0) -> None:
        """Take no more requests, give those that run or wait so many seconds, cancel the rest, and end."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join(grace_s)
        with self._news:
            self._closed = True
        self._thread.join()

    def _cancel(self, answering: Answering) -> None:
        with self._news:
            queue = self._waiting.get(answering.ask.owner, deque())
            for writing in [w for w in queue if w.answering is answering]:
                queue.remove(writing)
                if not queue:
                    del self._waiting[answering.ask.owner]
                answering.end("cancelled")
            if answering.finish is None:
                self._cancelled.add(answering)
        wake([answering])

    # ---- the thread: who runs

    def _run(self) -> None:
        finish = "cancelled"
        try:
            while self._let_in():
                self._step()
        except Exception as error:
            finish, self._reason = "error", f"The model has stopped: {error}"
        with self._news:  # nobody may wait for ever
            self._closing = True
            left = [*self._running, *(w for queue in self._waiting.values() for w in queue)]
            self._running, self._waiting = [], {}
        for writing in left:
            writing.answering.end(finish, self._reason)
        wake(writing.answering for writing in left)

    def _let_in(self) -> bool:
        """Share out the sequences, and wait until there is something to do; False: it is the end."""
        with self._news:
            while True:
                for writing in [w for w in self._running if w.answering in self._cancelled]:
                    self._leave(writing, "cancelled")
                self._cancelled.clear()
                while not self._closed and self._waiting and self._next():
                    pass
                if self._running or self._closing:
                    return bool(self._running) and not self._closed
                self._news.wait()

    def _next(self) -> bool:
        """Let in a request of the owner with fewest running; of two, who waited longer. False: no room."""
        running = Counter(writing.ask.owner for writing in self._running)
        owner = min(self._waiting, key=lambda name: (running[name], self._served.get(name, 0.0)))
        if len(self._running) == self._engine.sequences:
            # The newest answer of who has most makes room, if that leaves them as much as the other gets.
            newest = max(reversed(self._running), key=lambda w: running[w.ask.owner])
            if running[newest.ask.owner] < running[owner] + 2:
                return False
            self._free(newest)
            self._waiting.setdefault(newest.ask.owner, deque()).appendleft(newest)
            self._counts["pauses"] += 1
        if len(self._served) > _OWNERS:  # those who have gone are forgotten
            self._served = {name: when for name, when in self._served.items() if name in self._waiting}
        self._served[owner] = time.monotonic()
        self._begin(self._waiting[owner].popleft())
        if not self._waiting[owner]:
            del self._waiting[owner]
        return True

    def _begin(self, writing: _Writing) -> None:
        ids, writing.begun = writing.ids[:-1], len(writing.ids)
        writing.sequence = self._place(ids)
        writing.known = 0 if writing.ask.echo else self._engine.share(ids, writing.sequence)
        if not writing.made:
            writing.answering.cached_tokens, writing.answering.echo = writing.known, []
            self._counts["prompt_tokens"] += len(writing.ids)
            self._counts["cached_tokens"] += writing.known
        leaders = [w for w in self._running if w.reading and w.ahead is None]
        other, length = max(
            ((w, common(w.ids, ids)) for w in leaders), key=lambda f: f[1], default=(writing, 0)
        )
        if length >= writing.known + _WORTH_WAITING and not writing.ask.echo:
            writing.ahead = other, length
        self._running.append(writing)

    def _place(self, ids: list[int]) -> int:
        """Return the sequence to use: the one that goes on as `ids` do, else the one unused for longest."""
        busy = {writing.sequence for writing in self._running}
        free = [n for n in range(self._engine.sequences) if n not in busy]
        lengths = {n: common(self._engine.held(n), ids) for n in free}
        best = max(free, key=lambda n: lengths[n])
        if lengths[best] and len(self._engine.held(best)) - lengths[best] <= _LOSS:
            return best
        return min(free, key=lambda n: self._used[n])

    def _free(self, writing: _Writing) -> None:
        self._running.remove(writing)
        self._used[writing.sequence] = time.monotonic()
        writing.ahead, writing.known = None, 0

    def _leave(self, writing: _Writing, finish: str, reason: str = "") -> None:
        self._free(writing)
        writing.answering.end(finish, reason)
        wake([writing.answering])

    # ---- the thread: a step

    def _step(self) -> None:
        """One pass: a token for every answer, and a piece of the prompts; or some, if all just write."""
        parts = self._parts()
        guesses = self._guesses(parts)
        if not guesses and self._only_writing(parts):
            self._run_of_passes([writing for writing, _ in parts])
            return
        tokens = [token for w, count in parts for token in w.ids[w.known : w.known + count]] + guesses
        sequences = [w.sequence for w, count in parts for _ in range(count)]
        positions = [place for w, count in parts for place in range(w.known, w.known + count)]
        wanted = [w.echoes for w, count in parts for _ in range(count)]
        row = -1
        for writing, count in parts:
            row += count
            wanted[row] = wanted[row] or writing.known + count == len(writing.ids)
        if guesses:
            sequences += sequences[-1:] * len(guesses)
            positions += range(positions[-1] + 1, positions[-1] + 1 + len(guesses))
            wanted += [True] * len(guesses)
        if any(writing.reading for writing, _ in parts):  # a long step: nobody's tokens wait for its end
            self._wake([writing for writing, _ in parts], 0.0)
        start = time.perf_counter()
        logits_NV = self._engine.forward(tokens, sequences, positions, wanted)
        self._timed(start, len(tokens), len(parts))
        self._counts["steps"] += 1
        row = 0
        for writing, count in parts:
            row = self._take(writing, count, logits_NV, row, guesses)
        self._wake([writing for writing, _ in parts], _pace_s(parts) - (time.perf_counter() - start))

    def _only_writing(self, parts: list[tuple[_Writing, int]]) -> bool:
        """Return whether nobody waits or reads, and every token is chosen from its logits alone."""
        return (
            self._engine.backend == "c"
            and not self._waiting
            and len(parts) == len(self._running)
            and all(count == 1 and not w.reading and not w.echoes and w.chooser.plain for w, count in parts)
        )

    def _run_of_passes(self, writings: list[_Writing]) -> None:
        """Passes until readers are due or an answer ends: run.c does not come back to Python between them.

        To hand each token of a small model over costs more than the token.
        """
        engine, pace_s = self._engine, _pace_s(writings)
        room = min(min(w.ask.max_tokens - w.made, engine.context - len(w.ids) + 1) for w in writings)
        each_s = self._pass_s.get(len(writings), 0.0)
        most = min(room, max(1, int(pace_s / each_s))) if each_s else 1
        start = time.perf_counter()
        made, p, states = engine.write(
            [w.ids[-1] for w in writings], [w.sequence for w in writings], [w.known for w in writings],
            [w.ask.sampler for w in writings], [w.chooser.state for w in writings],
            stop=frozenset[int]().union(*(w.chooser.stop for w in writings)), most=most,
        )  # fmt: skip
        took_s = time.perf_counter() - start
        each_s = took_s / len(made)
        self._pass_s[len(writings)] = min(each_s, 1.02 * self._pass_s.get(len(writings), each_s))
        if len(writings) == 1:
            self._pacer.timed(1, time.perf_counter() - each_s)
        self._counts["steps"] += len(made)
        for writing, state in zip(writings, states, strict=True):
            writing.chooser.state, writing.known = state, writing.known + len(made)
        for n, writing in enumerate(writings):
            self._write(writing, [Step(ids[n], ps[n], ()) for ids, ps in zip(made, p, strict=True)])
        self._wake(writings, pace_s - took_s)

    def _wake(self, writings: Sequence[_Writing], pace_s: float) -> None:
        """Wake the readers who were woken longer ago than `pace_s`, and those whose answers are over.

        A small model makes thousands of tokens a second. To wake a reader for each takes a core from the
        engine, for longer than the token took to make.
        """
        now = time.perf_counter()
        due = [w for w in writings if w.answering.finish or now - w.woken > pace_s]
        for writing in due:
            writing.woken = now
        wake([writing.answering for writing in due])

    def _parts(self) -> list[tuple[_Writing, int]]:
        """Return whose tokens are read in this step, and how many: first the newest of each answer."""
        parts = []
        reading = []
        for writing in self._running:
            if self._held_back(writing):
                continue
            if writing.reading:
                reading.append(writing)
            else:
                parts.append((writing, len(writing.ids) - writing.known))  # the newest, and what was forced
        room = self._chunk
        if parts and self._token_s:  # somebody waits for a token
            room = min(room, max(_LEAST, int(_STALL_S / self._token_s)))
        # Short rests first, and what they leave of their equal shares goes to the others.
        reading.sort(key=lambda w: len(w.ids) - w.known)
        for left, writing in zip(range(len(reading), 0, -1), reading, strict=True):
            count = min(len(writing.ids) - writing.known, -(-room // left))
            count = min(count, _ECHOED) if writing.echoes else count
            room -= count
            if count:
                parts.append((writing, count))
        return parts

    def _held_back(self, writing: _Writing) -> bool:
        """Return whether it still waits for another to read what both begin with; takes that over if not."""
        if writing.ahead is None:
            return False
        other, length = writing.ahead
        if other in self._running and other.known < length:
            return True
        writing.ahead = None
        known = self._engine.share(writing.ids[:-1], writing.sequence)
        if not writing.made:
            writing.answering.cached_tokens = known
            self._counts["cached_tokens"] += known - writing.known
        writing.known = known
        return False

    def _guesses(self, parts: list[tuple[_Writing, int]]) -> list[int]:
        """Return tokens that may follow, to be checked in the same pass: for an answer that is alone."""
        writing, count = parts[0]
        if len(self._running) > 1 or count > 1 or writing.echoes or self._engine.backend != "c":
            return []
        if writing.draft is None:
            writing.draft = PromptLookup()
            self._pacer.reset()
        room = min(self._engine.context - len(writing.ids), writing.ask.max_tokens - writing.made - 1)
        count = min(self._pacer.length(), room)
        return writing.draft.guess(writing.ids, count) if count > 0 else []

    def _timed(self, start: float, tokens: int, parts: int) -> None:
        if parts == 1:
            self._pacer.timed(tokens, start)
        if tokens >= _LEAST:
            seconds = (time.perf_counter() - start) / tokens
            self._token_s += (0.2 if self._token_s else 1.0) * (seconds - self._token_s)

    def _take(self, writing: _Writing, count: int, logits_NV: Floats, row: int, guesses: list[int]) -> int:
        """Note that `count` tokens were read, and write on if they were the last; return the next row."""
        writing.known += count
        if writing.echoes:
            self._read_back(writing, logits_NV[row : row + count])
            row += count - (writing.known == len(writing.ids))
        if writing.known < len(writing.ids):
            return row
        if writing.ask.max_tokens == 0:
            self._leave(writing, "length")
            return row + 1
        right = 0
        for guess in [*guesses, None]:
            left = min(writing.ask.max_tokens - writing.made, self._engine.context - len(writing.ids) + 1)
            try:
                steps = writing.chooser.choose(logits_NV[row], writing.ids, left)
            except TwofoldError as error:  # its constraint gives up; the others go on
                self._leave(writing, "error", str(error))
                return row + 1
            row += 1
            if not self._write(writing, steps) or len(steps) > 1 or steps[0].id != guess:
                break
            right, writing.known = right + 1, writing.known + 1
        if guesses:
            self._pacer.judged(right, len(guesses))
        return row

    def _read_back(self, writing: _Writing, logits_NV: Floats) -> None:
        """Note what the model thought of the prompt's tokens that follow those just read."""
        for place, logits_V in enumerate(logits_NV, writing.known - len(logits_NV) + 1):
            if place < len(writing.ids):
                _, p_V, _ = self._engine.runner.choose(logits_V, Sampler(), [], 0)
                token = writing.ids[place]
                step = Step(token, float(p_V[token]), likeliest(p_V, writing.ask.alternatives))
                writing.answering.echo.append(step)

    def _write(self, writing: _Writing, steps: list[Step]) -> bool:
        """Hand over steps; return whether more are to come."""
        for step in steps:
            writing.answering.add(step)
            writing.made += 1
            self._counts["tokens"] += 1
            if step.id in writing.chooser.stop:
                self._leave(writing, "stop")
                return False
            if writing.made == writing.ask.max_tokens or len(writing.ids) == self._engine.context:
                self._leave(writing, "length")
                return False
            writing.ids.append(step.id)
        return True
