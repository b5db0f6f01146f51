"""How surprised a model is by what follows, from its logits.

In a file of its own because the Pythons of both sides use it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def nats(logits_NV: npt.NDArray[np.float32], ids_N: Sequence[int]) -> list[float]:
    """Return -ln p of the id that followed each row of logits."""
    shifted_NV = logits_NV - logits_NV.max(axis=1, keepdims=True)
    picked_N = shifted_NV[np.arange(len(ids_N)), ids_N].astype(np.float64)
    found_N: npt.NDArray[np.float64] = np.log(np.exp(shifted_NV).sum(axis=1, dtype=np.float64)) - picked_N
    return [float(value) for value in found_N]
