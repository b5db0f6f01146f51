"""Weights in fewer bits: how each GGUF tensor type stores numbers, both ways, in numpy.

    F32    4 bytes a weight, IEEE single
    F16    2 bytes, IEEE half
    BF16   2 bytes, the upper half of a single (same range, 8 bits of precision), rounded to nearest even
    Q8_0   34 bytes per 32 weights: a scale d (half), then 32 signed bytes q;              w = d q
    Q4_0   18 bytes per 32 weights: a scale d (half), then 16 bytes of two nibbles q;      w = d (q - 8)
           (byte i holds weight i in its low nibble and weight i + 16 in its high nibble)

The block formats are those of ggml (ggml/docs/gguf.md; ggml-quants.c), bit for bit. A block is 32 neighbours
of one row, so the number of columns must be a multiple of 32. Not covered: K-quants, I-quants, importance
matrices.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.names import unknown

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 32  # weights that share one scale in Q8_0 and Q4_0
_CHUNK = 1 << 20  # weights converted at a time, so that a large matrix needs little extra memory


class Format(NamedTuple):
    """One tensor type: its number in GGUF, and `size` bytes for every `block` weights of a row."""

    id: int
    block: int
    size: int


FORMATS = {
    "F32": Format(0, 1, 4),
    "F16": Format(1, 1, 2),
    "Q4_0": Format(2, BLOCK, 18),
    "Q8_0": Format(8, BLOCK, 34),
    "BF16": Format(30, 1, 2),
}
NAMES = {form.id: name for name, form in FORMATS.items()}


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
        out[start : start + _CHUNK] = _DECODE[type](part).reshape(-1)
    return out.reshape(shape)


# --- one pair of functions per type: floats [n, block] <-> bytes [n, size]


def _halves(values: Floats, type: str) -> Bytes:
    """Return `values` as half precision bytes; refuses what half precision cannot hold."""
    halves = values.astype("<f2")
    if not np.isfinite(halves).all():
        reason = "are beyond 65504" if np.isfinite(values).all() else "are not finite"
        raise TwofoldError(
            f"Weights cannot be stored as {type}: some {reason}; use F32 or check the training."
        )
    return halves.view(np.uint8)


def _encode_f16(weights: Floats) -> Bytes:
    return _halves(weights, "F16")


def _decode_f16(data: Bytes) -> Floats:
    return data.view("<f2").astype(np.float32)


def _encode_bf16(weights: Floats) -> Bytes:
    bits = weights.view("<u4")
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    # Adding half a unit, less one where the last kept bit is 0, rounds to nearest even.
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 64  # rounding a NaN could make it infinite
    return np.where(nan, quiet, rounded).astype("<u2").view(np.uint8)


def _decode_bf16(data: Bytes) -> Floats:
    return (data.view("<u2").astype("<u4") << 16).view("<f4")


def _inverse(scale: Floats) -> Floats:
    return np.where(scale == 0, np.float32(0), np.float32(1) / scale)


def _encode_q8_0(weights: Floats) -> Bytes:
    scale = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    scaled = weights * _inverse(scale)
    # Halves go away from zero, as C's roundf does and numpy's round does not.
    size = np.abs(scaled)
    whole = np.floor(size)
    rounded = np.sign(scaled) * (whole + np.floor(2 * (size - whole)))
    return np.concatenate([_halves(scale, "Q8_0"), rounded.astype(np.int8).view(np.uint8)], axis=1)


def _decode_q8_0(data: Bytes) -> Floats:
    scale = np.ascontiguousarray(data[:, :2]).view("<f2").astype(np.float32)
    return data[:, 2:].view(np.int8).astype(np.float32) * scale


def _encode_q4_0(weights: Floats) -> Bytes:
    # The weight farthest from zero, with its sign, becomes -8 exactly: the nibbles reach from -8 to 7.
    farthest = np.abs(weights).argmax(axis=1, keepdims=True)
    scale = np.take_along_axis(weights, farthest, axis=1) / np.float32(-8)
    levels = np.trunc(weights * _inverse(scale) + np.float32(8.5)).astype(np.uint8).clip(0, 15)
    nibbles = levels[:, : BLOCK // 2] | levels[:, BLOCK // 2 :] << 4
    return np.concatenate([_halves(scale, "Q4_0"), nibbles.astype(np.uint8)], axis=1)


def _decode_q4_0(data: Bytes) -> Floats:
    scale = np.ascontiguousarray(data[:, :2]).view("<f2").astype(np.float32)
    levels = np.concatenate([data[:, 2:] & 15, data[:, 2:] >> 4], axis=1)
    return (levels.astype(np.float32) - 8) * scale


_ENCODE: dict[str, Callable[[Floats], Bytes]] = {
    "F16": _encode_f16,
    "BF16": _encode_bf16,
    "Q8_0": _encode_q8_0,
    "Q4_0": _encode_q4_0,
}
_DECODE: dict[str, Callable[[Bytes], Floats]] = {
    "F16": _decode_f16,
    "BF16": _decode_bf16,
    "Q8_0": _decode_q8_0,
    "Q4_0": _decode_q4_0,
}
