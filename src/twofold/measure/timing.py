"""How long run.c takes: its C functions are called with arguments made beforehand, so that what is timed is
run.c and nothing of Python's.

Nothing is sampled and no text is made while the clock runs, as in llama.cpp's llama-bench.
Not covered: reading the file from the disk (the first run, which warms everything up, is not counted).
"""

import ctypes
import math
import os
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

YOUNG = 6  # calls in which run.c lays the weights out, a part in each
ALLOWED = 0.1  # of a processor, for other programs, before a measurement counts as disturbed
RESOLUTION_S = 0.03  # the system counts processor time in ticks of a hundredth of a second


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
        self.vocab_size, self.context = vocab_size, context
        self.sequences, self.threads = sequences, threads
        self.logits = np.empty((sequences, vocab_size), np.float32)
        for _ in range(YOUNG):
            self.decode(0, 1)()

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


def timed(call: Call, budget_s: float, threads: int, tries: int = 3) -> Timing:
    """Return the median time of a call of so many threads, over about `budget_s` seconds.

    A first run is not counted. A measurement that was disturbed is made again, up to so many `tries`; then
    the fastest counts.
    """
    seconds(call)
    fastest = math.inf
    for _ in range(tries):
        busy_s, began = _others_s(), time.perf_counter()
        fastest = min(fastest, statistics.median(samples(call, budget_s)))
        took = time.perf_counter() - began
        free = (os.cpu_count() or threads) - threads + ALLOWED  # processors that others may have meanwhile
        if _others_s() - busy_s <= free * took + RESOLUTION_S:
            return Timing(fastest, disturbed=False)
    return Timing(fastest, disturbed=True)


def samples(call: Call, budget_s: float, *, least: int = 3, most: int = 25) -> list[float]:
    """Return how long a call took, again and again until the budget is spent."""
    taken: list[float] = []
    while len(taken) < least or (len(taken) < most and sum(taken) < budget_s):
        taken.append(seconds(call))
    return taken


def _others_s() -> float:
    """Return the processor time that all other programs have had so far, in seconds; 0 where nobody says.

    On a virtual machine it includes what its host took for others (steal).
    """
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, *more = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return 0.0
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK") - time.process_time()
