"""twofold's side of the benchmarks: run.c as a shared library, asked for what llama_cpp_worker.py is asked
for.

Both workers call their engine's C functions directly, and nothing is sampled or turned into text while the
clock runs.
"""

import argparse
import ctypes
import time
from collections.abc import Callable, Sequence

import numpy as np
from workers import serve

import twofold
from twofold.run import library


class Twofold:
    """A model opened by run.c on `threads` threads, with a context of `context` tokens."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        self.c = library.functions()
        error = ctypes.create_string_buffer(256)
        self.model = self.c.tf_open(path.encode(), error, len(error))
        self.context = self.model and self.c.tf_context(self.model, 1, context, threads, error, len(error))
        if not self.context:
            raise SystemExit(f"twofold cannot open {path}: {error.value.decode()}")
        self.logits = np.empty(1 << 20, np.float32)  # room for the logits of one token

    def step(self, tokens: Sequence[int], start: int) -> Callable[[], int]:
        """Return the call that feeds tokens from position `start` on, with logits of the last."""
        count = len(tokens)
        places = np.arange(start, start + count)
        arrays = [np.array(a, np.int32) for a in (tokens, np.zeros(count), places)]
        arrays += [(places == places[-1]).astype(np.uint8), self.logits]
        addresses = [ctypes.c_void_p(a.ctypes.data) for a in arrays]

        def call(forward: Callable[..., int] = self.c.tf_forward, kept: object = arrays) -> int:
            return forward(self.context, count, *addresses)

        return call

    def decode(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` one by one from position 0 on, each with its logits."""
        return timed([self.step([token], position) for position, token in enumerate(ids)])

    def prefill(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` at once from position 0 on, with logits of the last."""
        return timed([self.step(ids, 0)])


def timed(calls: list[Callable[[], int]]) -> float:
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
    parser.add_argument("--context", type=int, default=512)
    options = parser.parse_args()
    side = Twofold(options.model, options.threads, options.context)
    serve({"decode": side.decode, "prefill": side.prefill, "hello": lambda: twofold.__version__})


if __name__ == "__main__":
    main()
