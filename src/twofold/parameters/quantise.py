"""Weights in fewer bits: how each GGUF tensor type stores numbers, both ways, in numpy.

    F32    4 bytes a weight, IEEE single
    F16    2 bytes, IEEE half
    BF16   2 bytes, the upper half of a single (same range, 8 bits of precision), rounded to nearest even
    Q8_0   34 bytes per 32 weights: a scale d (half), then 32 signed bytes q;              w = d q
    Q4_0   18 bytes per 32 weights: a scale d (half), then 16 bytes of two nibbles q;      w = d (q - 8)
           (byte i holds weight i in its low nibble and weight i + 16 in its high nibble)
    Q4_1   20 bytes: d and a minimum m (halves), then nibbles as in Q4_0;                  w = d q + m
    Q5_0   22 bytes: d, the 32 fifth bits, then nibbles;                                   w = d (q - 16)
    Q5_1   24 bytes: d, m, the 32 fifth bits, then nibbles;                                w = d q + m
    Q4_K, Q5_K, Q6_K   144, 176 and 210 bytes per 256 weights: see `kquants`

The block formats are those of ggml (ggml/docs/gguf.md; ggml-quants.c), bit for bit. A block is neighbours of
one row, so the number of columns must be a multiple of 32, or of 256 for the last three. Not covered:
K-quants of 2, 3 and 8 bits, I-quants, importance matrices.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.base.names import unknown
from twofold.parameters import blocks, kquants
from twofold.parameters.blocks import BLOCK, Bytes, Floats
from twofold.parameters.kquants import SUPERBLOCK

_CHUNK = 1 << 18  # weights converted at a time: what the steps in between leave stays in the cache


class Format(NamedTuple):
    """One tensor type: its number in GGUF, and `size` bytes for every `block` weights of a row."""

    id: int
    block: int
    size: int


FORMATS = {
    "F32": Format(0, 1, 4),
    "F16": Format(1, 1, 2),
    "Q4_0": Format(2, BLOCK, 18),
    "Q4_1": Format(3, BLOCK, 20),
    "Q5_0": Format(6, BLOCK, 22),
    "Q5_1": Format(7, BLOCK, 24),
    "Q8_0": Format(8, BLOCK, 34),
    "Q4_K": Format(12, SUPERBLOCK, 144),
    "Q5_K": Format(13, SUPERBLOCK, 176),
    "Q6_K": Format(14, SUPERBLOCK, 210),
    "BF16": Format(30, 1, 2),
}
NAMES = {form.id: name for name, form in FORMATS.items()}

# Floats [n, block] <-> bytes [n, size]; F32 needs neither.
_ENCODE: dict[str, Callable[[Floats], Bytes]] = {
    "F16": blocks.encode_f16,
    "BF16": blocks.encode_bf16,
    "Q8_0": blocks.encode_q8_0,
    "Q4_0": partial(blocks.encode_centred, type="Q4_0", bits=4),
    "Q4_1": partial(blocks.encode_based, type="Q4_1", bits=4),
    "Q5_0": partial(blocks.encode_centred, type="Q5_0", bits=5),
    "Q5_1": partial(blocks.encode_based, type="Q5_1", bits=5),
    "Q4_K": partial(kquants.encode_based, type="Q4_K", bits=4),
    "Q5_K": partial(kquants.encode_based, type="Q5_K", bits=5),
    "Q6_K": kquants.encode_q6_k,
}
_DECODE: dict[str, Callable[[Bytes], Floats]] = {
    "F16": blocks.singles,
    "BF16": blocks.decode_bf16,
    "Q8_0": blocks.decode_q8_0,
    "Q4_0": partial(blocks.decode_centred, bits=4),
    "Q4_1": partial(blocks.decode_based, bits=4),
    "Q5_0": partial(blocks.decode_centred, bits=5),
    "Q5_1": partial(blocks.decode_based, bits=5),
    "Q4_K": partial(kquants.decode_based, bits=4),
    "Q5_K": partial(kquants.decode_based, bits=5),
    "Q6_K": kquants.decode_q6_k,
}


def form(type: str) -> Format:
    """Return the format called `type`. Raises UsageError when there is none (names the nearest)."""
    if type not in FORMATS:
        raise UsageError(unknown("tensor type", type, FORMATS))
    return FORMATS[type]


def row_bytes(type: str, columns: int) -> int:
    """Return the bytes of one row of `columns` weights.

    Raises UsageError when the columns are not a multiple of the type's block.
    """
    block, size = form(type)[1:]
    if columns % block:
        raise UsageError(f"{type} needs rows of a multiple of {block} weights, not {columns}: use F16.")
    return columns // block * size


def quantise(array: NDArray[Any], type: str) -> Bytes:
    """Return `array` [..., columns] stored as `type`: uint8 [..., row bytes].

    Raises UsageError for columns that do not fit the block, TwofoldError when a number cannot be stored
    (not finite, or beyond the range of half precision).
    """
    if array.ndim == 0:
        raise UsageError("A single number is not a tensor: it needs at least one dimension.")
    shape = (*array.shape[:-1], row_bytes(type, array.shape[-1]))
    flat = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
    if type == "F32":
        return flat.view(np.uint8).reshape(shape)
    block, size = FORMATS[type][1:]
    out = np.empty(flat.size // block * size, dtype=np.uint8)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK].reshape(-1, block)
        # 1 / d of a vanishing scale is infinite and casts saturate, in C silently; numpy would warn.
        with np.errstate(all="ignore"):
            coded = _ENCODE[type](part).reshape(-1)
        at = start // block * size
        out[at : at + coded.size] = coded
    return out.reshape(shape)


def dequantise(data: Bytes, type: str, shape: tuple[int, ...]) -> Floats:
    """Return the float32 array of `shape` that `data` (uint8, any shape) stores as `type`.

    F32 is a view of `data`, not a copy. Raises UsageError when the number of bytes does not fit the shape.
    """
    block, size = form(type)[1:]
    count = int(np.prod(shape, dtype=np.int64))
    flat = np.ascontiguousarray(data).reshape(-1)
    if flat.size * block != count * size:
        raise UsageError(f"{flat.size} bytes are not a {type} tensor of shape {shape}.")
    if type == "F32":
        return flat.view("<f4").reshape(shape)
    out = np.empty(count, dtype=np.float32)
    for start in range(0, count, _CHUNK):
        at, stop = start // block * size, min(count, start + _CHUNK) // block * size
        part = flat[at:stop].reshape(-1, size)
        with np.errstate(all="ignore"):  # a file may hold infinite scales
            out[start : start + _CHUNK] = _DECODE[type](part).reshape(-1)
    return out.reshape(shape)
