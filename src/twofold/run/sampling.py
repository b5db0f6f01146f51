"""Choosing the next token: greedy, temperature, top-k, top-p, min-p, penalties, a bias.

`lean` comes first, here alone: what is added to logits, as OpenAI's API has it. The other steps and their
order are run.c's (section 5), so that a seed gives the same text from either: repetition penalty (Keskar et
al. 2019, arXiv 1909.05858), temperature, min-p (Nguyen et al. 2024, arXiv 2407.01082), top-k (Fan et al.
2018), top-p (Holtzman et al. 2019, arXiv 1904.09751), then one draw.
Not covered: beam search, grammars.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError

RECENT = 64  # how many of the last tokens the repetition penalty looks at
_ROWS = 64
_NEVER = -1e9  # what a logit loses of a token that may not come
_MASK = (1 << 64) - 1


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How to choose a token. By default greedy; top_k 0, top_p 1, min_p 0 and penalty 1 change nothing.

    presence_penalty, frequency_penalty: what a token's logit loses once it stands in the answer, and for each
    time that it does. bias: (token, what its logit gains).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and self.top_k >= 0 and 0 < self.top_p <= 1 and 0 <= self.min_p <= 1):
            raise UsageError(
                "A sampler needs temperature and top_k of 0 or more, top_p in (0, 1], min_p in [0, 1]."
            )
        if not self.repetition_penalty > 0:
            raise UsageError("A sampler's repetition_penalty is above 0; 1 changes nothing.")
        gains = (self.presence_penalty, self.frequency_penalty, *(gain for _, gain in self.bias))
        if not all(map(math.isfinite, gains)):
            raise UsageError("A sampler's penalties and its bias are finite numbers; 0 changes nothing.")

    def without(self, tokens: Iterable[int]) -> "Sampler":
        """Return the sampler that never chooses these tokens."""
        return replace(self, bias=(*self.bias, *((token, _NEVER) for token in tokens)))

    def check(self, vocab_size: int) -> None:
        """Raise UsageError when the bias names a token that is not in the vocabulary."""
        if wrong := next((token for token, _ in self.bias if not 0 <= token < vocab_size), None):
            raise UsageError(f"The bias names token {wrong:,}, which is not in 0 to {vocab_size - 1:,}.")


def splitmix64(state: int) -> tuple[float, int]:
    """Return a number in [0, 1) and the next state of 64 bits (Steele et al. 2014)."""
    state = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53, state


def likeliest(p_V: NDArray[np.float32], count: int) -> tuple[tuple[int, float], ...]:
    """Return the `count` likeliest tokens as (id, probability), likeliest first."""
    if not count:
        return ()
    columns = len(p_V) // _ROWS
    if columns > count:  # they are in the columns with the largest maxima
        table = p_V[: _ROWS * columns].reshape(_ROWS, columns)
        best = np.argpartition(table.max(0), -count)[-count:]
        inside = (best + columns * np.arange(_ROWS)[:, None]).ravel()
        ids = np.sort(np.append(inside, np.arange(_ROWS * columns, len(p_V))))
    else:
        ids = np.arange(len(p_V))
    ids = ids[np.argsort(-p_V[ids], kind="stable")[:count]]
    return tuple(zip(ids.tolist(), p_V[ids].tolist(), strict=True))


def lean(logits_V: NDArray[np.float32], sampler: Sampler, made: Mapping[int, int]) -> None:
    """Add to the logits, in place, what the sampler's bias and penalties say.

    made: how often each token stands in the answer so far; what stands in the prompt does not count.
    """
    for token, gain in sampler.bias:
        logits_V[token] += gain
    if made and (sampler.presence_penalty or sampler.frequency_penalty):
        ids, counts = list(made), np.array(list(made.values()), np.float32)
        logits_V[ids] -= sampler.presence_penalty + sampler.frequency_penalty * counts


def choose(
    logits_V: NDArray[np.float32], sampler: Sampler, recent: Sequence[int], state: int
) -> tuple[int, NDArray[np.float32], int]:
    """Return a token, the probabilities [V] before top-k, top-p and min-p, and the next state."""
    logits_V = logits_V.astype(np.float32)
    seen = np.unique(np.asarray([i for i in recent[-RECENT:] if 0 <= i < len(logits_V)], np.int64))
    penalty = np.float32(sampler.repetition_penalty)
    logits_V[seen] *= np.where(logits_V[seen] > 0, 1 / penalty, penalty).astype(np.float32)
    best = int(logits_V.argmax())
    p_V = np.exp((logits_V - logits_V[best]) / np.float32(sampler.temperature or 1))
    p_V = (p_V.astype(np.float64) / p_V.sum(dtype=np.float64)).astype(np.float32)
    if sampler.temperature <= 0:
        return best, p_V, state
    kept = np.flatnonzero(p_V >= np.float32(sampler.min_p) * p_V[best])
    if sampler.top_k or sampler.top_p < 1:
        kept = kept[np.argsort(-p_V[kept], kind="stable")]
    kept = kept[: sampler.top_k or None]
    sums = np.cumsum(p_V[kept], dtype=np.float64)
    if sampler.top_p < 1:
        kept = kept[: int(np.searchsorted(sums, sampler.top_p)) + 1]
    number, state = splitmix64(state)
    chosen = int(np.searchsorted(sums[: len(kept)], number * sums[len(kept) - 1], side="right"))
    return int(kept[min(chosen, len(kept) - 1)]), p_V, state
