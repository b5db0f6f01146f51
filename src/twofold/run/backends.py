"""What runs the numbers: run.c through ctypes, or numpy. Both have forward, copy, choose and close."""

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import BadFileError, TwofoldError
from twofold.parameters import Model
from twofold.run import library, sampling
from twofold.run.reference import Reference
from twofold.run.sampling import Sampler

Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


class Backend(Protocol):
    """A model with its key/value cache."""

    def forward(self, tokens: Ints, sequences: Ints, positions: Ints, wanted: NDArray[np.uint8]) -> Floats:
        """Return the logits [number wanted, V]; the arguments, of one length, have been checked."""
        ...

    def copy(self, source: int, target: int, length: int) -> None:
        """Let `target` begin with the first `length` tokens of `source`."""
        ...

    def choose(
        self, logits_V: Floats, sampler: Sampler, recent: Sequence[int], state: int
    ) -> tuple[int, Floats, int]:
        """Return a token, the probabilities [V] and the next random state; see sampling.choose."""
        ...


class CBackend:
    """run.c as a shared library. The handles are freed with the object.

    It can do what numpy cannot: `write`, whole runs of tokens without coming back to Python between.
    """

    def __init__(self, path: Path, *, vocab_size: int, context: int, sequences: int, threads: int) -> None:
        self._c = library.functions()
        self._vocab_size = vocab_size
        error = ctypes.create_string_buffer(256)
        self.model = self._c.tf_open(str(path).encode(), error, len(error))
        if not self.model:
            raise BadFileError(f"{path}: {error.value.decode(errors='replace')}.")
        weakref.finalize(self, self._c.tf_close, self.model)
        self._context = self._c.tf_context(self.model, sequences, context, threads, error, len(error))
        if not self._context:
            raise TwofoldError(f"{path}: {error.value.decode(errors='replace')}.")
        weakref.finalize(self, self._c.tf_context_free, self._context)  # runs before the one above
        self._room = np.empty((vocab_size, 2), np.float32)
        self._room_at = self._room.ctypes.data
        self._ends, self._ends_of = np.zeros(vocab_size, np.uint8), frozenset[int]()
        self.kernel = self._c.tf_kernel(self.model).decode()
        """The instructions that multiply: amx, avx512vnni, avx2, dotprod or portable."""

    def forward(self, tokens: Ints, sequences: Ints, positions: Ints, wanted: NDArray[np.uint8]) -> Floats:
        """See Backend."""
        logits_NV = np.empty((int(wanted.sum()), self._vocab_size), np.float32)
        arrays = (a.ctypes.data for a in (tokens, sequences, positions, wanted, logits_NV))
        self._c.tf_forward(self._context, len(tokens), *arrays)  # the engine has checked all numbers
        return logits_NV

    def copy(self, source: int, target: int, length: int) -> None:
        """See Backend."""
        self._c.tf_copy(self._context, source, target, length)

    def write(
        self,
        tokens: Ints,
        sequences: Ints,
        positions: Ints,
        samplers: Sequence[Sampler],
        states: Sequence[int],
        stop: frozenset[int],
        most: int,
    ) -> tuple[Ints, Floats, list[int]]:
        """Return tokens [steps, N], their probabilities, and the next random states; see Engine.write."""
        N, V = len(tokens), self._vocab_size
        if stop != self._ends_of:
            self._ends[:], self._ends_of = 0, stop
            self._ends[[token for token in stop if 0 <= token < V]] = 1
        newest, places, seeds = tokens.copy(), positions.copy(), np.array(states, np.uint64)
        got_SN, p_SN = np.empty((most, N), np.int32), np.empty((most, N), np.float32)
        out_NV, want_N = np.empty((N, V), np.float32), np.ones(N, np.uint8)
        how = (library.Sampling * N)(*map(_sampling, samplers))
        steps = self._c.tf_write(
            self._context, N, newest.ctypes.data, sequences.ctypes.data, places.ctypes.data,
            want_N.ctypes.data, ctypes.addressof(how), seeds.ctypes.data, self._ends.ctypes.data, most,
            got_SN.ctypes.data, p_SN.ctypes.data, out_NV.ctypes.data, self._room_at,
        )  # fmt: skip
        return got_SN[:steps], p_SN[:steps], seeds.tolist()

    def encode(self, text: bytes, *, specials: bool = False) -> list[int]:
        """Return run.c's own ids of a text; tests hold them against the tokenizer's."""
        ids = np.empty(len(text) * 4 + 8, np.int32)
        user = (0, 0) if specials else (0, len(text))
        count = self._c.tf_encode(self.model, text, len(text), *user, ids.ctypes.data, len(ids))
        return list(map(int, ids[:count]))

    def choose(
        self, logits_V: Floats, sampler: Sampler, recent: Sequence[int], state: int
    ) -> tuple[int, Floats, int]:
        """See Backend."""
        p_V = np.array(logits_V, np.float32)
        how, seed = _sampling(sampler), ctypes.c_uint64(state)
        if sampler.repetition_penalty != 1:
            ids = np.asarray(recent[-sampling.RECENT :], np.int32)
            how.n_recent, how.recent = len(ids), ids.ctypes.data
        token = self._c.tf_sample(
            p_V.ctypes.data, len(p_V), ctypes.byref(how), ctypes.byref(seed), self._room_at
        )
        return int(token), p_V, seed.value


def _sampling(s: Sampler) -> library.Sampling:
    return library.Sampling(s.temperature, s.top_p, s.min_p, s.repetition_penalty, s.top_k, 0, None)


class NumpyBackend(Reference):
    """The readable twin, for where there is no compiler."""

    def forward(self, tokens: Ints, sequences: Ints, positions: Ints, wanted: NDArray[np.uint8]) -> Floats:  # type: ignore[override]
        """See Backend."""
        return super().forward(
            tokens.tolist(), sequences.tolist(), positions.tolist(), wanted.astype(bool).tolist()
        )

    def choose(
        self, logits_V: Floats, sampler: Sampler, recent: Sequence[int], state: int
    ) -> tuple[int, Floats, int]:
        """See Backend."""
        return sampling.choose(logits_V, sampler, recent, state)


def open_numpy(model: Model, *, context: int, sequences: int) -> NumpyBackend:
    """Return the numpy backend for a model."""
    return NumpyBackend(model, context=context, sequences=sequences)
