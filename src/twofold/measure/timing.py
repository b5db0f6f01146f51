"""How long run.c takes: its C functions are called with arguments made beforehand, so that what is timed is
run.c and nothing of Python's.

Nothing is sampled and no text is made while the clock runs, as in llama.cpp's llama-bench.
Not covered: reading the file from the disk (the first run, which warms everything up, is not counted).
"""

import ctypes
import math
import resource
import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.base.errors import BadFileError, TwofoldError
from twofold.run import library

Call = Callable[[], object]

QUIET_PER_S = 120  # a busy neighbour takes the processor hundreds of times a second, the system itself dozens


class Runner:
    """A model file opened by run.c on `threads` threads, with room for `sequences` of `context` tokens.

    `vocab_size` is the model's. Raises BadFileError, TwofoldError when it cannot be opened, CompilerError.
    """

    def __init__(
        self, path: Path, *, vocab_size: int, context: int, sequences: int = 1, threads: int = 1
    ) -> None:
        self._c = library.functions()
        error = ctypes.create_string_buffer(256)
        model = self._c.tf_open(str(path).encode(), error, len(error))
        if not model:
            raise BadFileError(f"{path}: {error.value.decode(errors='replace')}.")
        weakref.finalize(self, self._c.tf_close, model)
        self._context = self._c.tf_context(model, sequences, context, threads, error, len(error))
        if not self._context:
            raise TwofoldError(f"{path}: {error.value.decode(errors='replace')}.")
        weakref.finalize(self, self._c.tf_context_free, self._context)  # runs before the one above
        self.vocab_size, self.context, self.sequences = vocab_size, context, sequences
        self.logits = np.empty((sequences, vocab_size), np.float32)

    def decode(self, start: int, count: int) -> Call:
        """Return the call that feeds `count` tokens one by one from position `start` on, with logits each."""
        return _each([self._forward([0], [start + i], [True]) for i in range(count)])

    def prefill(self, count: int) -> Call:
        """Return the call that feeds `count` tokens at once from position 0 on, with logits of the last."""
        places = np.arange(count)
        return self._forward(np.zeros(count), places, places == count - 1)

    def batch(self, start: int, count: int) -> Call:
        """Return the call that feeds each of the sequences a token, `count` times, with logits of all."""
        every = np.arange(self.sequences)
        steps = [self._forward(every, np.full(len(every), start + i), every >= 0) for i in range(count)]
        return _each(steps)

    def _forward(self, sequences: ArrayLike, positions: ArrayLike, wanted: ArrayLike) -> Call:
        """Return one call of tf_forward; which tokens it feeds does not matter, so they are spread out."""
        position_N = np.array(positions, np.int32)
        token_N = (position_N * 7919 + np.array(sequences, np.int32) * 104729 + 1) % self.vocab_size
        arrays: list[NDArray[Any]] = [
            token_N.astype(np.int32),
            np.array(sequences, np.int32),
            position_N,
            np.array(wanted, np.uint8),
            self.logits,
        ]
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        context, count, forward = self._context, len(position_N), self._c.tf_forward

        def call(kept: object = (self, arrays)) -> None:
            if forward(context, count, *addresses):
                raise TwofoldError("The system gave no more threads: ask for fewer.")

        return call


def _each(calls: list[Call]) -> Call:
    def call() -> None:
        for one in calls:
            one()

    return call


def seconds(call: Call) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Timing:
    """How long a call takes, in seconds, and whether other programs took the processor meanwhile."""

    seconds: float
    disturbed: bool


def timed(call: Call, budget_s: float, tries: int = 3) -> Timing:
    """Return the median time of a call, over about `budget_s` seconds; a first run is not counted.

    A measurement that was disturbed is made again, up to so many `tries`; then the fastest counts.
    """
    seconds(call)
    fastest = math.inf
    for _ in range(tries):
        before, began = _preempted(), time.perf_counter()
        fastest = min(fastest, statistics.median(samples(call, budget_s)))
        took = time.perf_counter() - began
        if _preempted() - before <= 1 + QUIET_PER_S * took:
            return Timing(fastest, disturbed=False)
    return Timing(fastest, disturbed=True)


def samples(call: Call, budget_s: float, *, least: int = 3, most: int = 25) -> list[float]:
    """Return how long a call took, again and again until the budget is spent."""
    taken: list[float] = []
    while len(taken) < least or (len(taken) < most and sum(taken) < budget_s):
        taken.append(seconds(call))
    return taken


def _preempted() -> int:
    """Return how often the system has taken a processor from this process, to give it to another."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
