"""llama.cpp's side of the benchmarks; runs in the Python that benchmarks/rivals.sh made.

It calls llama.cpp's C functions directly (through llama-cpp-python's bindings), as its own llama-bench does:
nothing is sampled or turned into text while the clock runs, so the speeds are those of the engine.
"""

import argparse
import ctypes
import time
from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from surprise import nats
from workers import serve

PREFILL = 512
GGML_TYPE_F32 = 0
FLASH = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}


def silent(level: int, text: bytes, data: object) -> None:
    """Swallow llama.cpp's log."""


SILENT = llama_cpp.llama_log_callback(silent)  # kept here, or Python would free it while C still calls it


class LlamaCpp:
    """A model opened by llama.cpp, with room for `sequences` sequences of `context` tokens each.

    What is not said here is as llama.cpp sets it: a float16 cache, 512 tokens of a prompt at once, for each
    sequence a cache of its own (as in llama-batched-bench and llama-server -np N; sharing one was no faster).
    `unified`: one cache of `context` tokens for all. `exact`: a float32 cache. `flash`: its flash attention.
    """

    def __init__(
        self,
        path: str,
        threads: int,
        context: int,
        *,
        exact: bool = False,
        sequences: int = 1,
        unified: bool = False,
        flash: str = "auto",
    ) -> None:
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"llama.cpp cannot open {path}")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = max(context, PREFILL) * (1 if unified else sequences)
        settings.n_seq_max, settings.kv_unified = sequences, unified
        settings.n_threads = settings.n_threads_batch = threads
        settings.flash_attn_type = FLASH["off" if exact else flash]
        if exact:
            settings.type_k = settings.type_v = GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context for {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)

        self.n_batch = llama_cpp.llama_n_batch(self.context)

    def forget(self, keep: int = 0) -> None:
        """Empty the key/value cache but for the first `keep` tokens."""
        memory = llama_cpp.llama_get_memory(self.context)
        if keep:
            llama_cpp.llama_memory_seq_rm(memory, 0, keep, -1)
        else:
            llama_cpp.llama_memory_clear(memory, True)

    def feed(self, ids: list[int]) -> None:
        """Compute the logits after `ids`."""
        for at in range(0, len(ids), self.n_batch):
            part = ids[at : at + self.n_batch]
            tokens = (llama_cpp.llama_token * len(part))(*part)
            self.run(llama_cpp.llama_batch_get_one(tokens, len(part)))

    def run(self, batch: Any) -> None:
        """Compute a batch, and wait until its logits are there."""
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp could not decode")
        llama_cpp.llama_get_logits(self.context)

    def timed(self, batches: Sequence[Any]) -> float:
        """Return the seconds that the batches take, one after the other."""
        start = time.perf_counter()
        for batch in batches:
            self.run(batch)
        return time.perf_counter() - start

    def decode(self, ids: list[int], start: int = 0) -> float:
        """Return the seconds for feeding `ids` one by one, after the first `start` tokens of the cache."""
        self.forget(keep=start)
        tokens = [(llama_cpp.llama_token * 1)(i) for i in ids]  # a batch only points at them
        return self.timed([llama_cpp.llama_batch_get_one(token, 1) for token in tokens])

    def batch(self, ids: list[list[int]]) -> float:
        """Return the seconds for feeding several sequences, one token of each at a time, into an empty
        cache."""
        self.forget()
        numbers = range(len(ids))
        batches = [
            batch_of(tokens, [place] * len(ids), numbers)
            for place, tokens in enumerate(zip(*ids, strict=True))
        ]
        seconds = self.timed(batches)
        for batch in batches:
            llama_cpp.llama_batch_free(batch)
        return seconds

    def fill(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` into an empty cache, as many at once as it likes."""
        self.forget()
        start = time.perf_counter()
        self.feed(ids)
        return time.perf_counter() - start

    def pile_up(self, ids: list[int], depth: int) -> float:
        """Return the seconds for filling the cache of the first sequence with `depth` tokens: `ids` over and
        over, read once only. For the cost of what comes after, it is all the same what they have seen.

        Takes a cache of one piece (`unified`) with a sequence for each copy, and one more.
        """
        self.forget()
        start = time.perf_counter()
        memory = llama_cpp.llama_get_memory(self.context)
        self.feed(ids)
        size = llama_cpp.llama_state_seq_get_size(self.context, 0)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self.context, state, size, 0)
        for copy in range(1, -(-depth // len(ids))):
            if not llama_cpp.llama_state_seq_set_data(self.context, state, size, copy):
                raise SystemExit("llama.cpp cannot fill its cache")
            llama_cpp.llama_memory_seq_add(memory, copy, 0, -1, copy * len(ids))
            llama_cpp.llama_memory_seq_cp(memory, copy, 0, -1, -1)
            llama_cpp.llama_memory_seq_rm(memory, copy, -1, -1)
        self.forget(keep=depth)
        return time.perf_counter() - start

    def nats(self, ids: list[int]) -> list[float]:
        """Return -ln p of each of `ids` but the first, given those before it; fed as many at once as go."""
        self.forget()
        found: list[float] = []
        for at in range(0, len(ids) - 1, self.n_batch):
            part = ids[at : min(at + self.n_batch, len(ids) - 1)]
            batch = batch_of(part, range(at, at + len(part)), [0] * len(part))
            self.run(batch)
            where = llama_cpp.llama_get_logits(self.context)
            logits = np.ctypeslib.as_array(where, (len(part), self.vocab_size))
            llama_cpp.llama_batch_free(batch)
            found += nats(logits, ids[at + 1 : at + 1 + len(part)])
        return found

    def quantise(self, source: str, target: str, file_type: int) -> None:
        """Write `target`, the file `source` with weights of another type, by llama.cpp's own quantiser."""
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.ftype = file_type
        if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(settings)):
            raise SystemExit(f"llama.cpp cannot quantise {source}")

    def prefill(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` at once into an empty cache, with logits of the last."""
        return self.fill(ids)

    def logits(self) -> list[float]:
        """Return the logits [V] after the last token fed."""
        return list(llama_cpp.llama_get_logits_ith(self.context, -1)[: self.vocab_size])

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """Return the `count` most likely ids that follow `ids`, each chosen after the one before."""
        self.forget()
        chosen: list[int] = []
        fresh = ids
        while len(chosen) < count:
            self.feed(fresh)
            logits = self.logits()
            fresh = [max(range(self.vocab_size), key=logits.__getitem__)]
            chosen += fresh
        return chosen

    def logits_along(self, ids: list[int]) -> list[list[float]]:
        """Return the logits [len(ids), V] after each of `ids`, fed one by one."""
        self.forget()
        rows = []
        for i in ids:
            self.feed([i])
            rows.append(self.logits())
        return rows

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a user's text: no token in front, special tokens not recognised."""
        data = text.encode()
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocab, data, len(data), ids, room, False, False)
        return list(ids[:count])

    def detokenize(self, ids: list[int]) -> str:
        """Return the text of ids; special tokens are left out. Bytes that are not UTF-8 become U+FFFD."""
        room = 64 * len(ids) + 64
        text = ctypes.create_string_buffer(room)
        given = (llama_cpp.llama_token * len(ids))(*ids)
        count = llama_cpp.llama_detokenize(self.vocab, given, len(ids), text, room, True, False)
        return text.raw[: max(count, 0)].decode(errors="replace")

    def detokenize_hex(self, ids: list[int]) -> str:
        """Return the bytes of ids, one piece after the other, as hex digits."""
        found = bytearray()
        piece = ctypes.create_string_buffer(4096)
        for i in ids:
            size = llama_cpp.llama_token_to_piece(self.vocab, i, piece, 4096, 0, True)
            found += piece.raw[:size]
        return found.hex()


def batch_of(tokens: Sequence[int], places: Sequence[int], sequences: Sequence[int]) -> Any:
    """Return a batch of tokens at given places of given sequences, with logits of each; to be freed."""
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, (token, place, sequence) in enumerate(zip(tokens, places, sequences, strict=True)):
        batch.token[i], batch.pos[i], batch.logits[i] = token, place, True
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
    return batch


def main() -> None:
    """Open the model and answer requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=512, help="tokens of each sequence")
    parser.add_argument("--sequences", type=int, default=1)
    parser.add_argument("--unified", action="store_true", help="one cache for all sequences")
    parser.add_argument("--flash", choices=FLASH, default="auto", help="flash attention")
    parser.add_argument(
        "--exact", action="store_true", help="keep keys and values in float32, not in half precision"
    )
    options = vars(parser.parse_args())
    side = LlamaCpp(options.pop("model"), **options)
    names = [
        *("decode", "prefill", "batch", "fill", "pile_up", "nats", "quantise", "greedy", "logits_along"),
        *("tokenize", "detokenize", "detokenize_hex"),
    ]
    serve({name: getattr(side, name) for name in names} | {"hello": lambda: llama_cpp.__version__})


if __name__ == "__main__":
    main()
