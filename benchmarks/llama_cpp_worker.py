"""llama.cpp's side of the benchmarks; runs in the Python that benchmarks/rivals.sh made.

It calls llama.cpp's C functions directly (through llama-cpp-python's bindings), as its own llama-bench does:
nothing is sampled or turned into text while the clock runs, so the speeds are those of the engine.
"""

import argparse
import ctypes
import time

import llama_cpp
from workers import serve

PREFILL = 512
GGML_TYPE_F32 = 0


def silent(level: int, text: bytes, data: object) -> None:
    """Swallow llama.cpp's log."""


SILENT = llama_cpp.llama_log_callback(silent)  # kept here, or Python would free it while C still calls it


class LlamaCpp:
    """A model opened by llama.cpp with a context of `context` tokens; `exact`: a float32 cache."""

    def __init__(self, path: str, threads: int, context: int, exact: bool) -> None:
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"llama.cpp cannot open {path}")
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = max(context, PREFILL)
        settings.n_threads = settings.n_threads_batch = threads
        if exact:
            settings.type_k = settings.type_v = GGML_TYPE_F32
            settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot make a context for {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab_size = llama_cpp.llama_vocab_n_tokens(self.vocab)

    def forget(self) -> None:
        """Empty the key/value cache."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def feed(self, ids: list[int]) -> None:
        """Compute the logits after `ids`."""
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        batch = llama_cpp.llama_batch_get_one(tokens, len(ids))
        if llama_cpp.llama_decode(self.context, batch):
            raise SystemExit("llama.cpp could not decode")

    def decode(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` one by one into an empty cache."""
        self.forget()
        tokens = [(llama_cpp.llama_token * 1)(i) for i in ids]  # a batch only points at them
        batches = [llama_cpp.llama_batch_get_one(token, 1) for token in tokens]
        start = time.perf_counter()
        for batch in batches:
            if llama_cpp.llama_decode(self.context, batch):
                raise SystemExit("llama.cpp could not decode")
            llama_cpp.llama_get_logits(self.context)  # waits until they are there
        return time.perf_counter() - start

    def prefill(self, ids: list[int]) -> float:
        """Return the seconds for feeding `ids` at once into an empty cache, with logits of the last."""
        self.forget()
        start = time.perf_counter()
        self.feed(ids)
        llama_cpp.llama_get_logits(self.context)
        return time.perf_counter() - start

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


def main() -> None:
    """Open the model and answer requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="GGUF file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument(
        "--exact", action="store_true", help="keep keys and values in float32, not in half precision"
    )
    options = parser.parse_args()
    side = LlamaCpp(options.model, options.threads, options.context, options.exact)
    names = ["decode", "prefill", "greedy", "logits_along", "tokenize", "detokenize", "detokenize_hex"]
    serve({name: getattr(side, name) for name in names} | {"hello": lambda: llama_cpp.__version__})


if __name__ == "__main__":
    main()
