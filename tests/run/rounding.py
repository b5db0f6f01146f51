"""The numpy twin with run.c's rounding: what the fast products compute, in exact arithmetic's place."""

from pathlib import Path

import numpy as np

from twofold import parameters
from twofold.parameters import gguf
from twofold.run.reference import Floats, Reference

EXACT = {"F32", "F16", "BF16"}  # products with these are in float32


class Rounding(Reference):
    """Inputs of products with integer weights rounded to 8 bits by blocks of 32; the cache in half precision.

    The file's first key matrix decides on the cache: float32 where that is.
    """

    def __init__(self, path: Path, *, context: int = 512) -> None:
        super().__init__(parameters.load(path), context=context)
        self.types = {name: tensor.type for name, tensor in gguf.read(path).tensors.items()}

    def _product(self, name: str, x_NC: Floats) -> Floats:
        if self.types[name + ".weight"] in EXACT:
            return super()._product(name, x_NC)
        blocks = x_NC.reshape(len(x_NC), -1, 32)
        scale = np.abs(blocks).max(-1, keepdims=True) / np.float32(127)
        steps = np.rint(blocks * np.where(scale > 0, 1 / np.maximum(scale, np.float32(1e-30)), 0))
        return super()._product(name, (steps * scale).reshape(x_NC.shape).astype(np.float32))

    def _kept(self, x_NKD: Floats) -> Floats:
        name = "attn_qkv" if self.config.fused else "attn_k"
        if self.types[f"blk.0.{name}.weight"] == "F32":
            return x_NKD
        return x_NKD.astype(np.float16).astype(np.float32)
