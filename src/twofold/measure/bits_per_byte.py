"""Bits per byte: how many bits the model would need, on average, to write down one byte of a text.

A model that gives the next token the probability p can store it in -log2 p bits (Shannon, A Mathematical
Theory of Communication, 1948; arithmetic coding comes within a fraction of a bit of it). Summed over a text
and divided by the bytes of the text, this compares models with different vocabularies, which perplexity per
token cannot. A byte as it stands costs 8 bits; gzip takes about 3 for English, a good large model below 1.

A document longer than the model's window is read in windows that overlap: each token but the first few has
at least `overlap` tokens before it to predict from. Without the overlap, the first tokens of each window
would be predicted from almost nothing, and the figure would be worse than the model.

The end of each document counts as a token to predict when the model has a token for it, as in training.
Not covered: the cost of the model's own bytes (a real compressor must ship them).
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.tokens.specials import END_OF_TEXT

if TYPE_CHECKING:
    from twofold.run import Engine
    from twofold.tokens import Tokenizer

_BATCH = 128  # tokens that are handed to the engine at once: their logits are B × V × 4 bytes


@dataclass(frozen=True, kw_only=True)
class Score:
    """What was measured. `nats`: the sum of -ln p of the `tokens` predicted; `bytes`: the text's size."""

    nats: float
    tokens: int
    bytes: int
    documents: int

    @property
    def bits_per_byte(self) -> float:
        """Bits to write one byte of the text; 8 is no compression at all."""
        return self.nats / math.log(2) / self.bytes

    @property
    def perplexity(self) -> float:
        """The number of equally likely tokens that would be as hard to guess; depends on the vocabulary."""
        return math.exp(self.nats / self.tokens)

    @property
    def compression_ratio(self) -> float:
        """How many times smaller the text would become."""
        return 8.0 / self.bits_per_byte


def bits_per_byte(
    engine: "Engine",
    documents: Iterable[str],
    *,
    window: int | None = None,
    overlap: int | None = None,
    limit_bytes: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Score:
    """Return how well the model in `engine` predicts `documents`, which it should not have been trained on.

    `window`: tokens the model sees at once, at most and by default the engine's context. `overlap`: tokens
    of a window that the one before it has scored, by default half of it; more is exacter and slower.
    `limit_bytes`: stop after the document that reaches this many bytes of text. `progress` is called with the
    bytes done after each document. Raises UsageError when a setting does not fit or there is no text.
    """
    window = engine.context if window is None else window
    overlap = window // 2 if overlap is None else overlap
    if not 2 <= window <= engine.context:
        raise UsageError(f"A window has 2 to {engine.context:,} tokens (this model's limit), not {window:,}.")
    if not 0 <= overlap <= window - 2:
        raise UsageError(f"The overlap must leave a token to predict: 0 to {window - 2:,}, not {overlap:,}.")
    start, end = _edges(engine.tokenizer)
    nats, tokens, total, count = 0.0, 0, 0, 0
    for document in documents:
        raw = document.encode("utf-8", errors="replace")
        ids = np.asarray([*start, *engine.tokenizer.encode(document), *end], np.int32)
        for first, fresh, last in _windows(len(ids), window, overlap):
            nats += _nats(engine, ids[first:last], fresh - first)
            tokens += last - fresh
        total += len(raw)
        count += 1
        if progress is not None:
            progress(total)
        if limit_bytes is not None and total >= limit_bytes:
            break
    if not tokens or not total:
        raise UsageError("There is no text to measure on.")
    return Score(nats=nats, tokens=tokens, bytes=total, documents=count)


def _edges(tokenizer: "Tokenizer") -> tuple[list[int], list[int]]:
    """Return the ids before and after a document, as the model met them in training.

    Ours and Qwen's part documents with `<|endoftext|>`; Llama's begin with BOS and end with EOS.
    """
    vocabulary = tokenizer.vocabulary
    if vocabulary.add_bos and vocabulary.bos_id is not None:
        return [vocabulary.bos_id], [] if vocabulary.eos_id is None else [vocabulary.eos_id]
    if END_OF_TEXT in vocabulary.tokens:
        separator = tokenizer.special_id(END_OF_TEXT)
        return [separator], [separator]
    return [], []


def _windows(length: int, window: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first, fresh, last) of each window of a document: it sees first..last and scores fresh..last.

    Each token but the very first, which nothing comes before, is scored exactly once.
    """
    first, fresh = 0, 1
    while fresh < length:
        last = min(first + window, length)
        yield first, fresh, last
        fresh = last
        first = last - max(1, overlap)


def _nats(engine: "Engine", ids_T: NDArray[np.int32], fresh: int) -> float:
    """Return the sum of -ln p of the tokens from `fresh` on, each given all before it in `ids_T`."""
    total = 0.0
    for at in range(0, len(ids_T) - 1, _BATCH):
        tokens_B = ids_T[at : min(at + _BATCH, len(ids_T) - 1)]
        positions_B = np.arange(at, at + len(tokens_B), dtype=np.int32)
        # The logits after position i predict token i + 1.
        wanted_B = positions_B + 1 >= fresh
        logits_NV = engine.forward(tokens_B, np.zeros_like(tokens_B), positions_B, wanted_B)
        total -= float(_log_softmax_at(logits_NV, ids_T[positions_B[wanted_B] + 1]).sum())
    return total


def _log_softmax_at(logits_NV: NDArray[np.float32], targets_N: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return ln p of each row's target, float64 [N]."""
    shifted_NV = logits_NV - logits_NV.max(axis=1, keepdims=True)
    picked_N = shifted_NV[np.arange(len(targets_N)), targets_N].astype(np.float64)
    ln_p_N: NDArray[np.float64] = picked_N - np.log(np.exp(shifted_NV).sum(axis=1, dtype=np.float64))
    return ln_p_N
