"""Log-likelihoods and greedy continuations of many texts at once, each shared beginning computed once.

A benchmark asks a model the same beginning many times: a question with four answers, a thousand questions
after the same worked examples. Texts are therefore sorted by their tokens, so that those that share a
beginning stand together; a batch of them is a tree whose branches are run level by level, and a sequence
takes over the cache of the branch that it leaves. Between two batches the last sequence is kept.

How a text becomes tokens is lm-evaluation-harness's rule: context and continuation are encoded together and
parted where the context alone would end; spaces at the context's end go to the continuation; an empty context
is the token that starts a document. What does not fit the model's window is cut on the left.

Not covered: sampling (the engine's), several engines at once.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.tokens.specials import END_OF_TEXT
from twofold.tokens.vocabulary import CONTROL

if TYPE_CHECKING:
    from twofold.run import Engine
    from twofold.tokens import Tokenizer

_LOGITS = 1 << 24  # numbers of one batch of logits, 64 MB
_TOKENS = 2048  # handed to the engine at once, at most
_WORTH = 8  # tokens saved that make a level of the tree worth its own pass


@dataclass(frozen=True)
class Likelihood:
    """ln p of a continuation in nats; does greedy decoding write it; its tokens; tokens cut off before."""

    ln_p: float
    greedy: bool
    tokens: int
    cut: int = 0


@dataclass(frozen=True)
class Written:
    """What a model wrote after a prompt, up to a stop string; prompt tokens cut off."""

    text: str
    cut: int = 0


@dataclass
class _Ask:
    """Tokens that go in, the first place that predicts, what must come there, and what has come."""

    fed: tuple[int, ...]
    first: int
    targets: tuple[int, ...]
    cut: int
    ln_p: float = 0.0
    greedy: bool = True


@dataclass
class _Wave:
    """One pass: sequences to take over (source, target, length) and (first row, end row, from, to) to run."""

    copies: list[tuple[int, int, int]] = field(default_factory=list)
    runs: list[tuple[int, int, int, int]] = field(default_factory=list)


class Scorer:
    """Asks the model in an engine. The engine's sequences are its own while it works."""

    def __init__(self, engine: "Engine") -> None:
        self.engine = engine
        self.start = start_id(engine.tokenizer)
        """The token that stands for an empty context."""
        self._kept: tuple[int, ...] = ()  # what the sequence `_slot` holds
        self._slot = 0

    # ---- text to tokens

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, after BOS where the model wants one."""
        vocabulary = self.engine.tokenizer.vocabulary
        bos = [vocabulary.bos_id] if vocabulary.add_bos and vocabulary.bos_id is not None else []
        return bos + self.engine.tokenizer.encode(text)

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Return the ids of a context and of what continues it; see the head of the file."""
        if not context:
            return [self.start], self.engine.tokenizer.encode(continuation)
        bare = context.rstrip()
        if not bare:
            return [self.start], self.engine.tokenizer.encode(context + continuation)
        before = self.encode(bare)
        return before, self.encode(context + continuation)[len(before) :]

    # ---- likelihoods

    def likelihoods(
        self, pairs: Sequence[tuple[str, str]], progress: Callable[[int], object] | None = None
    ) -> list[Likelihood]:
        """Return the likelihood of each (context, continuation), in their order.

        `progress` is called with the number done. Raises UsageError for a continuation without a token.
        """
        return self.of_tokens([self.pair(*pair) for pair in pairs], progress)

    def of_tokens(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        progress: Callable[[int], object] | None = None,
    ) -> list[Likelihood]:
        """Return the same for pairs of ids; the contexts hold a token at least."""
        asks = [self._ask(context, continuation) for context, continuation in pairs]
        groups: dict[tuple[int, ...], list[_Ask]] = {}
        for ask in asks:
            groups.setdefault(ask.fed, []).append(ask)
        rows = sorted(groups)
        done = 0
        for low in range(0, len(rows), self.engine.sequences):
            batch = rows[low : low + self.engine.sequences]
            self._run(batch, groups)
            done += sum(len(groups[row]) for row in batch)
            if progress is not None:
                progress(done)
        return [Likelihood(ask.ln_p, ask.greedy, len(ask.targets), ask.cut) for ask in asks]

    def rolling(self, text: str) -> float:
        """Return ln p of a whole text in nats, from the start of a document on.

        A text longer than the window is read in windows that do not overlap, each after the last token of the
        one before, as lm-evaluation-harness does it.
        """
        ids = self.engine.tokenizer.encode(text)
        most, pairs = self.engine.context, []
        for at in range(0, len(ids), most):
            piece = ids[at : at + most]
            before = ids[max(0, at - 1 - (most - len(piece))) : at]  # the last window is filled from the left
            pairs.append((before or [self.start], piece))
        return math.fsum(one.ln_p for one in self.of_tokens(pairs))

    def _ask(self, context: Sequence[int], continuation: Sequence[int]) -> _Ask:
        if not continuation:
            raise UsageError("A continuation without a single token has no likelihood.")
        whole = [*context, *continuation]
        cut = max(0, len(whole) - self.engine.context - 1)
        whole = whole[cut:]
        first = max(1, len(whole) - len(continuation))
        return _Ask(tuple(whole[:-1]), first - 1, tuple(whole[first:]), cut)

    def _run(self, rows: list[tuple[int, ...]], groups: dict[tuple[int, ...], list[_Ask]]) -> None:
        """Run sorted, distinct rows, at most one for each sequence, and fill in their asks."""
        known = min(_common(rows[0], self._kept), min(ask.first for row in rows for ask in groups[row]))
        slots = [(self._slot + i) % self.engine.sequences for i in range(len(rows))]
        self._kept = ()  # until all of it has run
        for wave in _waves(rows, known):
            for source, target, length in wave.copies:
                self.engine.copy(slots[source], slots[target], length)
            self._pass(wave, rows, slots, groups)
        self._kept, self._slot = rows[-1], slots[-1]

    def _pass(
        self,
        wave: _Wave,
        rows: list[tuple[int, ...]],
        slots: list[int],
        groups: dict[tuple[int, ...], list[_Ask]],
    ) -> None:
        tokens: list[int] = []
        sequences: list[int] = []
        places: list[int] = []
        readers: dict[int, list[_Ask]] = {}  # by the token's number in this pass: who wants its logits
        for low, high, start, end in wave.runs:
            at = len(tokens) - start
            for row in rows[low:high]:
                for ask in groups[row]:
                    for place in range(max(start, ask.first), min(end, len(ask.fed))):
                        readers.setdefault(at + place, []).append(ask)
            tokens += rows[low][start:end]
            sequences += [slots[low]] * (end - start)
            places += range(start, end)
        for low, high in _pieces(len(tokens), readers, self.engine.config.vocab_size):
            wanted = [number in readers for number in range(low, high)]
            logits_NV = self.engine.forward(
                tokens[low:high], sequences[low:high], places[low:high], np.asarray(wanted, bool)
            )
            best_N, total_N = logits_NV.argmax(1), _log_sum_exp(logits_NV)
            for n, number in enumerate(i for i in range(low, high) if i in readers):
                for ask in readers[number]:
                    target = ask.targets[places[number] - ask.first]
                    ask.ln_p += float(logits_NV[n, target]) - float(total_N[n])
                    ask.greedy &= int(best_N[n]) == target

    # ---- writing

    def write(
        self,
        prompts: Sequence[str],
        *,
        until: Sequence[str],
        max_tokens: int,
        took: Callable[[int, Written], object] | None = None,
    ) -> list[Written]:
        """Return what greedy decoding writes after each prompt, without the stop string that ended it.

        Ends at the first of `until`, at a stop token of the model or after `max_tokens`. A prompt is cut on
        the left so that so many tokens fit behind it. `took` is called with the number of a prompt and what
        was written as soon as that has ended.
        """
        room = self.engine.context - max(1, min(max_tokens, self.engine.context - 1))
        ids = [self.encode(prompt) or [self.start] for prompt in prompts]
        waiting = sorted(range(len(ids)), key=lambda i: ids[i][-room:], reverse=True)
        out: list[Written | None] = [None] * len(ids)
        self._kept = ()
        active: list[_Writing] = []
        idle = list(range(self.engine.sequences))
        while waiting or active:
            while waiting and idle:
                number = waiting.pop()
                active.append(self._begin(number, ids[number][-room:], idle.pop()))
            self._step(active)
            for writing in [one for one in active if self._ended(one, until, max_tokens)]:
                active.remove(writing)
                idle.append(writing.slot)
                cut = max(0, len(ids[writing.number]) - room)
                written = out[writing.number] = Written(_until(writing.text, until), cut)
                if took is not None:
                    took(writing.number, written)
        return [written for written in out if written is not None]

    def _begin(self, number: int, ids: list[int], slot: int) -> "_Writing":
        """Run a prompt up to its last token, all but what some sequence holds already."""
        known = self.engine.share(ids[:-1], slot)
        fed = ids[known:-1]
        if fed:
            places = np.arange(known, known + len(fed))
            self.engine.forward(fed, np.full(len(fed), slot), places, np.zeros(len(fed), bool))
        return _Writing(number, slot, len(ids) - 1, ids[-1])

    def _step(self, active: list["_Writing"]) -> None:
        """Run the last token of each text and choose the next."""
        logits_NV = self.engine.forward(
            [one.last for one in active], [one.slot for one in active], [one.place for one in active]
        )
        for writing, token in zip(active, logits_NV.argmax(1).tolist(), strict=True):
            writing.place += 1
            writing.last = token

    def _ended(self, writing: "_Writing", until: Sequence[str], max_tokens: int) -> bool:
        """Take in the token that was chosen; return whether the text ends with it."""
        if writing.last in self.engine.tokenizer.stop_ids:
            return True
        if self.engine.tokenizer.vocabulary.types[writing.last] != CONTROL:  # structure, and no text
            writing.bytes += self.engine.tokenizer.token_bytes(writing.last)
        writing.made += 1
        full = writing.made >= max_tokens or writing.place >= self.engine.context
        return full or any(stop and stop in writing.text for stop in until)


@dataclass
class _Writing:
    """A text that is being written: which, in which sequence, its last token and where that goes."""

    number: int
    slot: int
    place: int
    last: int
    bytes: bytes = b""
    made: int = 0

    @property
    def text(self) -> str:
        return self.bytes.decode("utf-8", "replace")


def start_id(tokenizer: "Tokenizer") -> int:
    """Return the token that starts a document: BOS where the model has one that is used, or the end of text.

    Raises UsageError when there is none.
    """
    vocabulary = tokenizer.vocabulary
    if vocabulary.add_bos and vocabulary.bos_id is not None:
        return vocabulary.bos_id
    if END_OF_TEXT in vocabulary.tokens:
        return tokenizer.special_id(END_OF_TEXT)
    for token in (vocabulary.bos_id, vocabulary.eos_id):
        if token is not None:
            return token
    raise UsageError(
        "This model has no token that starts or ends a document: nothing can stand before a text."
    )


def _until(text: str, until: Sequence[str]) -> str:
    """Return the text before the first stop string in it."""
    ends = [text.find(stop) for stop in until if stop and stop in text]
    return text[: min(ends)] if ends else text


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two lists begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _waves(rows: list[tuple[int, ...]], known: int) -> list[_Wave]:
    """Return the passes that run sorted, distinct rows; row 0's sequence holds its first `known` tokens."""
    waves: list[_Wave] = []

    def at(depth: int) -> _Wave:
        while len(waves) <= depth:
            waves.append(_Wave())
        return waves[depth]

    def grow(low: int, high: int, start: int, depth: int) -> None:
        """Run rows low to high, whose first `start` tokens the sequence of row `low` holds."""
        if low == 0:
            start = max(start, min(known, len(rows[0])))
        common = _common(rows[low], rows[high - 1])  # sorted: what the outer ones share, all share
        if high - low == 1:
            at(depth).runs.append((low, high, start, common))
            return
        held = start
        if (common - start) * (high - low - 1) >= _WORTH or len(rows[low]) == common > start:
            at(depth).runs.append((low, high, start, common))
            held, depth = common, depth + 1
        first = low + (len(rows[low]) == common)  # a row that ends here is done
        while first < high:
            token = rows[first][common]
            end = next((i for i in range(first, high) if rows[i][common] != token), high)
            shared = min(held, common)
            if first != low and shared:
                at(depth).copies.append((low, first, shared))
            grow(first, end, shared if first != low else held, depth)
            first = end

    grow(0, len(rows), 0, 0)
    return waves


def _pieces(count: int, readers: dict[int, list[_Ask]], vocab_size: int) -> Iterator[tuple[int, int]]:
    """Yield (from, to) of parts of a pass that need little enough room for logits."""
    most = max(1, _LOGITS // vocab_size)
    low = wanted = 0
    for number in range(count):
        wanted += number in readers
        if wanted == most or number + 1 - low == _TOKENS:
            yield low, number + 1
            low, wanted = number + 1, 0
    if low < count:
        yield low, count


def _log_sum_exp(logits_NV: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ln of the sum of the exponentials of each row, float64 [N]."""
    if not len(logits_NV):
        return np.zeros(0)
    most_N = logits_NV.max(axis=1)
    total_N: NDArray[np.float64] = np.exp(logits_NV - most_N[:, None]).sum(axis=1, dtype=np.float64)
    out_N: NDArray[np.float64] = np.log(total_N) + most_N
    return out_N
