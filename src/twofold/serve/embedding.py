"""Vectors for texts: the mean of the tokens' rows in the model's input table.

run.c hands out logits and no hidden states, so this is a bag of tokens, not the model's understanding: texts
that share words and kin words are near each other, their order and sense do not matter. What all rows have in
common is taken away, and frequent tokens count less (Arora et al. 2017, "A simple but tough-to-beat baseline
for sentence embeddings": weights a / (a + p)); how frequent one is, is taken from its id, since vocabularies
list frequent tokens first (Zipf). A model made for embeddings does better.
"""

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from twofold import parameters
from twofold.serve.models import Served
from twofold.serve.refusals import Refusal
from twofold.serve.state import State

_A = 1e-4
_TABLE = "token_embd.weight"


async def embed(
    state: State, served: Served, texts: Sequence[str | Sequence[int]]
) -> tuple[list[list[float]], int]:
    """Return a vector of length 1 for each text (or its ids), and how many tokens they are.

    Raises Refusal for too many texts, an empty one, or unknown ids.
    """
    if len(texts) > state.settings.items:
        raise Refusal("invalid", f"A request takes at most {state.settings.items} texts.", where="input")
    return await asyncio.to_thread(_embed, served, texts)


def _embed(served: Served, texts: Sequence[str | Sequence[int]]) -> tuple[list[list[float]], int]:
    if served.rows is None:
        served.rows = _rows(served)
    rows_VC, tokenizer = served.rows, served.engine.tokenizer
    vectors, count = [], 0
    for n, text in enumerate(texts):
        ids = tokenizer.encode(text) if isinstance(text, str) else list(text)
        if not ids:
            raise Refusal("invalid", "An empty text has no vector.", where=f"input[{n}]")
        if max(ids) >= len(rows_VC):
            raise Refusal("invalid", f"A token is not in 0 to {len(rows_VC) - 1:,}.", where=f"input[{n}]")
        mean_C = rows_VC[ids].astype(np.float32).mean(0)
        vectors.append((mean_C / max(float(np.linalg.norm(mean_C)), 1e-9)).tolist())
        count += len(ids)
    return vectors, count


def _rows(served: Served) -> NDArray[np.float16]:
    """Return the weighted rows of the input table, [V, C]."""
    rows_VC = parameters.load(served.path).tensors[_TABLE]
    p_V = 1 / (np.arange(1, len(rows_VC) + 1) * (np.log(len(rows_VC)) + 0.58))
    weights_V = (_A / (_A + p_V)).astype(np.float32)
    centred_VC = rows_VC - rows_VC.mean(0)
    scale = float(np.abs(centred_VC).max()) or 1.0
    rows: NDArray[np.float16] = (centred_VC / scale * weights_V[:, None]).astype(np.float16)
    return rows
