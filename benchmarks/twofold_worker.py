"""twofold's side of the benchmarks: run.c as a shared library, asked for what llama_cpp_worker.py is asked
for.

Both workers call their engine's C functions directly, and nothing is sampled or turned into text while the
clock runs.
"""

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workers import serve

import twofold
from twofold.run import library

FILL = 2048  # tokens of a long prompt that are handed over at once, as llama.cpp does


class Twofold:
    """A model opened by run.c on `threads` threads, with `sequences` sequences of `context` tokens each."""

    def __init__(self, path: str, threads: int, context: int, sequences: int = 1) -> None:
        self.c = library.functions()
        error = ctypes.create_string_buffer(256)
        self.model = self.c.tf_open(path.encode(), error, len(error))
        self.context = self.model and self.c.tf_context(
            self.model, sequences, context, threads, error, len(error)
        )
        if not self.context:
            raise SystemExit(f"twofold cannot open {path}: {error.value.decode()}")
        self.logits = np.empty(1 << 20, np.float32)  # room for the logits of a token of several sequences

    def step(
        self, tokens: Sequence[int], sequences: Sequence[int], places: Sequence[int], wanted: Sequence[bool]
    ) -> Callable[[], int]:
        """Return the call that feeds tokens, each at its place of its sequence, with the logits wanted."""
        arrays: list[NDArray[Any]] = [np.array(a, np.int32) for a in (tokens, sequences, places)]
        arrays += [np.array(wanted, np.uint8), self.logits]
        addresses = [ctypes.c_void_p(a.ctypes.data) for a in arrays]

        def call(forward: Callable[..., int] = self.c.tf_forward, kept: object = arrays) -> int:
            return forward(self.context, len(tokens), *addresses)

        return call

    def decode(self, ids: list[int], start: int = 0) -> float:
        """Return the seconds for feeding `ids` one by one from position `start` on, each with its logits."""
        return timed([self.step([token], [0], [start + place], [True]) for place, token in enumerate(ids)])

    def batch(self, ids: list[list[int]]) -> float:
        """Return the seconds for feeding several sequences from position 0 on, one token of each at a
        time."""
        count = len(ids)
        numbers = range(count)
        return timed(
            [
                self.step(tokens, numbers, [place] * count, [True] * count)
                for place, tokens in enumerate(zip(*ids, strict=True))
            ]
        )

    def fill(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` from position 0 on, many at once, with logits of the last."""
        calls = []
        for start in range(0, len(ids), FILL):
            part = ids[start : start + FILL]
            places = range(start, start + len(part))
            calls.append(self.step(part, [0] * len(part), places, [p == len(ids) - 1 for p in places]))
        return timed(calls)

    def prefill(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` at once from position 0 on, with logits of the last."""
        return self.fill(ids)


def timed(calls: Sequence[Callable[[], object]]) -> float:
    """Return the seconds that the calls take, one after the other."""
    start = time.perf_counter()
    failed = any([call() for call in calls])
    seconds = time.perf_counter() - start
    if failed:
        raise SystemExit("twofold could not run the tokens")
    return seconds


def main() -> None:
    """Open the model and answer requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=512, help="tokens of each sequence")
    parser.add_argument("--sequences", type=int, default=1)
    options = parser.parse_args()
    side = Twofold(options.model, options.threads, options.context, options.sequences)
    requests = {name: getattr(side, name) for name in ("decode", "prefill", "batch", "fill")}
    serve(requests | {"hello": lambda: twofold.__version__})


if __name__ == "__main__":
    main()
