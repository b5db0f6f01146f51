"""What turns texts into vectors, one file each: near in meaning, near in space.

A file defines `DESCRIPTION`, one sentence, and `open()`, which returns an `Embedder`. `hashed` needs nothing;
`words` reads vectors that were made here and ship with the package; `minilm` is a small transformer, where
its weights are installed. Figures of all of them: benchmarks/recall.py."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twofold.base.registry import Registry

EMBEDDERS = Registry("twofold.kernel.embedders", "embedder", requires=("DESCRIPTION", "open"))
DEFAULT = "words"

Floats = NDArray[np.float32]


class Embedder(Protocol):
    """A map from texts to vectors of length 1; the dot product of two is how near their texts are."""

    dim: int
    meaning: float  # the weight of its vectors in a score, beside that of words (recall.py)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return a row for each text, [N, dim]; a text with nothing in it is a row of zeros."""
        ...


def find(name: str = DEFAULT) -> Embedder:
    """Return the embedder of that name, ready. Raises UsageError, or TwofoldError when it is not
    installed."""
    embedder: Embedder = EMBEDDERS.get(name).open()
    return embedder


def unit(rows_ND: Floats) -> Floats:
    """Return the rows at length 1; rows of zeros stay."""
    lengths_N1 = np.linalg.norm(rows_ND, axis=1, keepdims=True)
    found: Floats = (rows_ND / np.maximum(lengths_N1, 1e-9)).astype(np.float32)
    return found
