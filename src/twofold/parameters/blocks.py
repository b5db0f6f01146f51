"""Blocks of up to 32 weights as bytes: a pair of functions for each simple tensor type, listed in `quantise`.

A function converts all blocks at once: float32 [n, weights of a block] <-> uint8 [n, bytes of a block]. The
formats, and the way to round, are those of ggml (ggml-quants.c), byte for byte. Not covered: superblocks of
256, which are in `kquants`.
"""

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import TwofoldError

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 32  # weights that share one scale
_NIBBLES = BLOCK // 2  # bytes that hold the lower four bits of a block


def halves(values: Floats, type: str) -> Bytes:
    """Return `values` [n, k] as half precision bytes [n, 2k]. Raises TwofoldError for what it cannot hold."""
    rounded = values.astype("<f2")
    if not np.isfinite(rounded).all():
        reason = "are beyond 65504" if np.isfinite(values).all() else "are not finite"
        raise TwofoldError(
            f"Weights cannot be stored as {type}: some {reason}; use F32 or check the training."
        )
    return rounded.view(np.uint8)


def singles(data: Bytes) -> Floats:
    """Return half precision bytes [n, 2k] as float32 [n, k]."""
    return np.ascontiguousarray(data).view("<f2").astype(np.float32)


def inverse(scale: Floats) -> Floats:
    """Return 1 / scale, and 0 where the scale is 0."""
    return np.where(scale == 0, np.float32(0), np.float32(1) / scale)


def encode_f16(weights: Floats) -> Bytes:
    return halves(weights, "F16")


def encode_bf16(weights: Floats) -> Bytes:
    bits = weights.view("<u4")
    nan = (bits & 0x7FFFFFFF) > 0x7F800000
    # Adding half a unit, less one where the last kept bit is 0, rounds to nearest even.
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
    quiet = (bits >> 16) | 64  # rounding a NaN could make it infinite
    return np.where(nan, quiet, rounded).astype("<u2").view(np.uint8)


def decode_bf16(data: Bytes) -> Floats:
    return (data.view("<u2").astype("<u4") << 16).view("<f4")


def encode_q8_0(weights: Floats) -> Bytes:
    scale = np.abs(weights).max(axis=1, keepdims=True) / np.float32(127)
    scaled = weights * inverse(scale)
    # Halves go away from zero, as C's roundf does and numpy's round does not.
    size = np.abs(scaled)
    whole = np.floor(size)
    rounded = np.sign(scaled) * (whole + np.floor(2 * (size - whole)))
    return np.concatenate([halves(scale, "Q8_0"), rounded.astype(np.int8).view(np.uint8)], axis=1)


def decode_q8_0(data: Bytes) -> Floats:
    return data[:, 2:].view(np.int8).astype(np.float32) * singles(data[:, :2])


def encode_centred(weights: Floats, type: str, bits: int) -> Bytes:
    """Return blocks of Q4_0 or Q5_0: a scale, then levels of `bits` bits of which the middle one is zero."""
    # The weight farthest from zero, with its sign, becomes level 0: there is one more below the middle.
    middle = 1 << (bits - 1)
    farthest = np.abs(weights).argmax(axis=1, keepdims=True)
    scale = np.take_along_axis(weights, farthest, axis=1) / np.float32(-middle)
    levels = weights * inverse(scale) + np.float32(middle + 0.5)
    return np.concatenate([halves(scale, type), _pack(levels, bits)], axis=1)


def decode_centred(data: Bytes, bits: int) -> Floats:
    return (_unpack(data, bits) - (1 << (bits - 1))) * singles(data[:, :2])


def encode_based(weights: Floats, type: str, bits: int) -> Bytes:
    """Return blocks of Q4_1 or Q5_1: a scale and the lowest weight, then levels of `bits` bits above it."""
    low = weights.min(axis=1, keepdims=True)
    scale = (weights.max(axis=1, keepdims=True) - low) / np.float32((1 << bits) - 1)
    head = halves(np.concatenate([scale, low], axis=1), type)
    levels = (weights - low) * inverse(scale) + np.float32(0.5)
    return np.concatenate([head, _pack(levels, bits)], axis=1)


def decode_based(data: Bytes, bits: int) -> Floats:
    head = singles(data[:, :4])
    return _unpack(data, bits) * head[:, :1] + head[:, 1:]


def _pack(levels: Floats, bits: int) -> Bytes:
    """Return levels [n, 32], cut to whole ones, in 4 or 5 bits each: [n, 16 or 20].

    Byte i of the last 16 holds the lower four bits of weight i, and above them those of weight i + 16; the
    fifth bits come first, weight 0 in the lowest.
    """
    whole = np.trunc(levels).astype(np.uint8).clip(0, (1 << bits) - 1)
    lower = ((whole[:, :_NIBBLES] & 15) | (whole[:, _NIBBLES:] << 4)).astype(np.uint8)
    if bits == 4:
        return lower
    return np.concatenate([np.packbits(whole >> 4, axis=1, bitorder="little"), lower], axis=1)


def _unpack(data: Bytes, bits: int) -> Floats:
    """Return the levels [n, 32] at the end of the blocks `data`."""
    lower = data[:, -_NIBBLES:]
    levels = np.concatenate([lower & 15, lower >> 4], axis=1)
    if bits == 5:
        levels |= np.unpackbits(data[:, -_NIBBLES - 4 : -_NIBBLES], axis=1, bitorder="little") << 4
    return levels.astype(np.float32)
