"""The engine: a model that is ready to run, with as many sequences as it was given room for."""

import os
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold import parameters
from twofold.base.errors import UsageError
from twofold.parameters import Model
from twofold.run.backends import Backend, CBackend, open_numpy
from twofold.run.chooser import Chooser
from twofold.run.chooser import Step as Step
from twofold.run.constraints import Constraint
from twofold.run.library import CompilerError
from twofold.run.sampling import Sampler, likeliest
from twofold.run.speculation import Draft, Pacer, PromptLookup

Floats = NDArray[np.float32]
_ALTERNATIVES = 8


class Engine:
    """A model, its tokenizer and its key/value cache. Not for several threads at once.

    `context`: positions per sequence. `sequences`: how many there are. `backend`: "c" or "numpy".
    """

    def __init__(self, model: Model, runner: Backend, *, backend: str, context: int, sequences: int) -> None:
        self.config, self.tokenizer, self.card = model.config, model.tokenizer, model.card
        self.context, self.sequences, self.backend = context, sequences, backend
        self.runner = runner
        self._pacer = Pacer()
        self._held: list[list[int]] = [
            [] for _ in range(sequences)
        ]  # tokens whose keys and values are in the cache

    def forward(
        self, tokens: ArrayLike, sequences: ArrayLike, positions: ArrayLike, wanted: ArrayLike | None = None
    ) -> Floats:
        """Return logits, float32 [number wanted, V], of a batch in which each token has its own place.

        tokens, sequences, positions: whole numbers [N]. Tokens of a sequence stand in order of position, and
        the positions before must have been run, or stand earlier in the batch. wanted: booleans [N], None for
        all. Raises UsageError when a number is out of range, leaves a gap, or the lengths differ.
        """
        token_N, sequence_N, position_N = (
            np.ascontiguousarray(a, np.int32) for a in (tokens, sequences, positions)
        )
        want_N = (
            np.ones(token_N.shape, np.uint8)
            if wanted is None
            else np.ascontiguousarray(wanted, bool).astype(np.uint8)
        )
        if token_N.ndim != 1 or not token_N.shape == sequence_N.shape == position_N.shape == want_N.shape:
            raise UsageError("Tokens, sequences, positions and wanted must be lists of one length.")
        for name, values, end in (
            ("token", token_N, self.config.vocab_size),
            ("sequence", sequence_N, self.sequences),
            ("position", position_N, self.context),
        ):
            if values.size and not 0 <= int(values.min()) <= int(values.max()) < end:
                raise UsageError(f"A {name} is out of range: this engine has {end:,}, counted from 0.")
        for token, sequence, position in zip(
            token_N.tolist(), sequence_N.tolist(), position_N.tolist(), strict=True
        ):
            held = self._held[sequence]
            if position > len(held):
                raise UsageError(
                    f"Position {position} of sequence {sequence} leaves a gap: it holds {len(held)} tokens."
                )
            held[position:] = [token]
        return self.runner.forward(token_N, sequence_N, position_N, want_N)

    def write(
        self,
        tokens: Sequence[int],
        sequences: Sequence[int],
        positions: Sequence[int],
        samplers: Sequence[Sampler],
        states: Sequence[int],
        *,
        stop: frozenset[int],
        most: int,
    ) -> tuple[list[list[int]], list[list[float]], list[int]]:
        """Write on in N sequences side by side, without coming back to Python between the steps.

        tokens, positions: the newest of each, not yet run. samplers, states: how each is chosen, and its
        random numbers (Sampler.seed at first); only what needs nothing but logits, see `Chooser.plain`.
        Returns [steps][N] tokens, their probabilities before top-k, top-p and min-p, and the next states.
        Ends after `most` steps, or the first in which a token of `stop` was chosen. Only backend "c" can,
        and the caller sees to it that all numbers are in range.
        """
        assert isinstance(self.runner, CBackend)
        token_N, sequence_N, position_N = (
            np.array(values, np.int32) for values in (tokens, sequences, positions)
        )
        got_SN, p_SN, after = self.runner.write(token_N, sequence_N, position_N, samplers, states, stop, most)
        made = got_SN.tolist()
        for n, (token, sequence, position) in enumerate(zip(tokens, sequences, positions, strict=True)):
            self._held[sequence][position:] = [token, *(row[n] for row in made[:-1])]
        return made, p_SN.tolist(), after

    def copy(self, source: int, target: int, length: int) -> None:
        """Let sequence `target` begin with the first `length` tokens of `source`, without running them again.

        Raises UsageError when there are no such sequences or not so many tokens.
        """
        if not (0 <= source < self.sequences and 0 <= target < self.sequences):
            raise UsageError(f"There is no such sequence: this engine has {self.sequences}, counted from 0.")
        if not 0 <= length <= len(self._held[source]):
            raise UsageError(f"Sequence {source} holds {len(self._held[source])} tokens, not {length}.")
        self.runner.copy(source, target, length)
        self._held[target] = self._held[source][:length]

    def generate(
        self,
        ids: Sequence[int],
        *,
        max_tokens: int,
        sampler: Sampler | None = None,
        stop_ids: Collection[int] = (),
        constraint: Constraint | None = None,
        sequence: int = 0,
        draft: "Draft | Engine | None" = None,
        speculate: bool = True,
    ) -> Iterator[Step]:
        """Yield the tokens that follow `ids` one by one; the last may be one of `stop_ids`.

        What any sequence already holds of the beginning of `ids` is not run again. Ends after max_tokens or
        with the context full. constraint: the form that the answer must have (constraints.py). Guesses are
        checked several in a pass where that is faster; the output is the same. draft: where guesses come
        from, such as an engine of a smaller model with the same vocabulary; by default the text itself.
        Raises UsageError when `ids` is empty or longer than the context, the sampler's bias names no token of
        the model, or the draft engine's vocabulary is another.
        """
        sampler = sampler or Sampler()
        if not ids:
            raise UsageError("There is nothing to go on with: give at least one token.")
        if len(ids) > self.context:
            raise UsageError(
                f"The prompt has {len(ids):,} tokens and the context {self.context:,}: shorten it."
            )
        if not 0 <= sequence < self.sequences:
            raise UsageError(
                f"There is no sequence {sequence}: this engine has {self.sequences}, counted from 0."
            )
        sampler.check(self.config.vocab_size)
        if isinstance(draft, Engine):
            draft = _EngineDraft(draft, self.config.vocab_size)
        if not speculate or self.backend != "c":  # numpy rounds otherwise in another batch
            draft = None
        elif draft is None:
            draft = PromptLookup()
        chooser = Chooser(self.runner, sampler, frozenset(stop_ids), _ALTERNATIVES, constraint)
        return self._generate(list(ids), max_tokens, chooser, sequence, draft)

    def _generate(
        self, ids: list[int], most: int, chooser: Chooser, sequence: int, draft: Draft | None
    ) -> Iterator[Step]:
        known, made = self.share(ids[:-1], sequence), 0
        self._pacer.reset()
        while made < most:
            room = min(self.context - len(ids), most - made - 1)
            count = min(self._pacer.length(), room) if draft and known == len(ids) - 1 else 0
            guesses = draft.guess(ids, count) if draft and count else []
            fed, places = ids[known:] + guesses, np.arange(known, len(ids) + len(guesses))
            start = time.perf_counter()
            logits_NV = self.forward(fed, np.full(len(fed), sequence), places, places >= len(ids) - 1)
            self._pacer.timed(len(fed), start)
            right = 0
            for logits_V, guess in zip(logits_NV, [*guesses, None], strict=True):
                left = min(most - made, self.context - len(ids) + 1)
                steps, known = chooser.choose(logits_V, ids, left), len(ids)
                for step in steps:
                    yield step
                    made += 1
                    if step.id in chooser.stop or len(ids) == self.context or made == most:
                        return
                    ids.append(step.id)
                if len(steps) > 1 or step.id != guess:
                    break
                right += 1
            self._pacer.judged(right, len(guesses))

    def steps(self, ids: Sequence[int], answer: Sequence[int], sampler: Sampler) -> list[Step]:
        """Return the steps as which `answer` would have come after `ids`, read in one pass.

        Raises UsageError when `ids` is empty or both together are longer than the context.
        """
        if not ids or len(ids) + len(answer) > self.context:
            raise UsageError("A text to look back at needs a beginning, and room in the context.")
        whole = [*ids, *answer]
        known = self.share(whole[: len(ids) - 1], 0)
        places = np.arange(known, len(whole) - 1)
        logits_NV = self.forward(whole[known:-1], np.zeros(len(places)), places, places >= len(ids) - 1)
        found = []
        for place, logits_V in enumerate(logits_NV, len(ids)):
            _, p_V, _ = self.runner.choose(logits_V, sampler, whole[:place], 0)
            token = whole[place]
            found.append(Step(token, float(p_V[token]), likeliest(p_V, _ALTERNATIVES)))
        return found

    def share(self, ids: Sequence[int], sequence: int) -> int:
        """Return how many of `ids` the sequence holds, after taking over what another one holds more of."""
        ids = list(ids)
        known = [common(held, ids) for held in self._held]
        best = max(range(self.sequences), key=known.__getitem__)
        if known[best] > known[sequence]:
            self.copy(best, sequence, known[best])
        return known[best]

    def held(self, sequence: int) -> Sequence[int]:
        """Return the tokens that a sequence holds, whose keys and values need not be computed again."""
        return self._held[sequence]

    def stream(self, ids: Sequence[int], **how: Any) -> Iterator[str]:
        """Yield the text that follows `ids`, whole characters only; arguments as for `generate`.

        Stops before a stop token (by default the tokenizer's own).
        """
        import codecs

        stop = frozenset(how.setdefault("stop_ids", self.tokenizer.stop_ids))
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for step in self.generate(ids, **how):
            if step.id in stop:
                break
            if text := decoder.decode(self.tokenizer.token_bytes(step.id)):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text


class _EngineDraft:
    """Guesses of a smaller model: what it finds most likely."""

    def __init__(self, engine: Engine, vocab_size: int) -> None:
        if engine.config.vocab_size != vocab_size:
            raise UsageError(
                f"The draft model has {engine.config.vocab_size:,} tokens and the model {vocab_size:,}: "
                "their vocabularies must be the same."
            )
        self._engine = engine

    def guess(self, ids: Sequence[int], count: int) -> list[int]:
        """Return at most `count` tokens; fewer when the draft model's context is full."""
        count = min(count, self._engine.context - len(ids))
        if count < 1:
            return []
        return [step.id for step in self._engine.generate(ids, max_tokens=count, speculate=False)]


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two lists (both lists) begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:  # the first `low` are alike, and not more than `high`
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def load(
    path: str | Path,
    *,
    threads: int | None = None,
    context: int | None = None,
    sequences: int = 1,
    backend: Literal["auto", "c", "numpy"] = "auto",
) -> Engine:
    """Return an engine for a GGUF file or a Hugging Face folder.

    threads: default all cores. context: positions per sequence, at most (and by default) the model's own.
    backend: "auto" takes run.c, and numpy with a word on standard error when there is no C compiler.
    Raises BadFileError for a file that cannot be read, CompilerError for backend "c" without a compiler.
    """
    path = Path(path)
    if sequences < 1 or (context is not None and context < 1) or (threads is not None and threads < 1):
        raise UsageError("Threads, context and sequences are 1 or more.")
    model = parameters.load(path)
    context = min(context or model.config.context, model.config.context)
    if backend != "numpy":
        try:
            runner = _open_c(
                path, model, context=context, sequences=sequences, threads=threads or os.cpu_count() or 1
            )
            return Engine(model, runner, backend="c", context=context, sequences=sequences)
        except CompilerError as error:
            if backend == "c":
                raise
            print(f"twofold: {error} Until then numpy runs the model, slowly.", file=sys.stderr)
    numpy = open_numpy(model, context=context, sequences=sequences)
    return Engine(model, numpy, backend="numpy", context=context, sequences=sequences)


def _open_c(path: Path, model: Model, *, context: int, sequences: int, threads: int) -> CBackend:
    """Return run.c over the model; a Hugging Face folder becomes a GGUF file while it is open."""
    size = {
        "vocab_size": model.config.vocab_size,
        "context": context,
        "sequences": sequences,
        "threads": threads,
    }
    if not path.is_dir():
        return CBackend(path, **size)
    with tempfile.TemporaryDirectory(prefix="twofold-") as folder:  # the mapping outlives the name
        file = Path(folder) / "model.gguf"
        parameters.save_gguf(model, file, "F32")
        return CBackend(file, **size)


def open_model(
    model: Model,
    *,
    file_type: str = "F32",
    threads: int | None = None,
    context: int | None = None,
    sequences: int = 1,
) -> Engine:
    """Return an engine for a model in memory, as training has one; it keeps its own copy of the weights.

    file_type: how the engine stores them. The file that run.c reads lies in memory too, where the system has
    such files (Linux). Otherwise as `load`; without a C compiler numpy runs the model.
    """
    context = min(context or model.config.context, model.config.context)
    size = {"vocab_size": model.config.vocab_size, "context": context, "sequences": sequences}
    try:
        with _unseen_file() as file:
            parameters.write_gguf(model, file, file_type)
            file.flush()
            place = Path(f"/proc/self/fd/{file.fileno()}") if _IN_MEMORY else Path(file.name)
            runner = CBackend(place, **size, threads=threads or os.cpu_count() or 1)
        return Engine(model, runner, backend="c", context=context, sequences=sequences)
    except CompilerError:
        numpy = open_numpy(model, context=context, sequences=sequences)
        return Engine(model, numpy, backend="numpy", context=context, sequences=sequences)


_IN_MEMORY = hasattr(os, "memfd_create")


def _unseen_file() -> Any:
    """Return an open file that nobody else sees; a mapping of it outlives it."""
    if _IN_MEMORY:
        return os.fdopen(os.memfd_create("model.gguf"), "w+b")
    return tempfile.NamedTemporaryFile(prefix="twofold-", suffix=".gguf")
