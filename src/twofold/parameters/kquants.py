"""K-quants: superblocks of 256 weights, whose parts have scales that are themselves stored in few bits.

    Q4_K   144 bytes: d, m (halves); 12 bytes of scales s and depths t (6 bits each); 128 bytes of nibbles q
    Q5_K   176 bytes: the same, and 32 bytes of fifth bits before the nibbles
           8 parts of 32 weights;                                               w = d s q - m t
    Q6_K   210 bytes: 128 bytes of nibbles, 64 of upper bits; 16 scales s (signed bytes); d (half)
           16 parts of 16 weights;                                              w = d s (q - 32)

The layout is that of ggml (ggml-quants.c), bit for bit; how to choose the numbers is free. A scale that just
spans a part is not its best: several slightly different ones are tried, the weights are rounded, the scale
(and depth) that fits these levels best is found by least squares, and the trial with the least error is kept.
Errors of large weights count more, by |w| + the part's root mean square, since a model feels those more.
llama.cpp searches in much the same way: the bytes differ, the size of the error does not. Not covered: Q2_K,
Q3_K, Q8_K, importance matrices.

Shapes: N parts, W weights of a part. Parts are columns, so that a sum over a part adds whole rows: fast.
"""

import numpy as np

from twofold.parameters.blocks import Bytes, Floats, halves, inverse, singles

SUPERBLOCK = 256
# By how many levels more or fewer than there are a trial divides the range of a part. Twice as many trials
# make the error of normal random weights 0.2 % smaller.
_STRETCHES = np.linspace(-1, 1, 11, dtype=np.float32)
_PAIRS = np.array([[0], [2], [4], [6]], dtype=np.uint8)  # where the upper bits of four weights are in a byte


# --- Q4_K and Q5_K


def encode_based(weights: Floats, type: str, bits: int) -> Bytes:
    """Return superblocks of Q4_K (4 bits) or Q5_K (5): float32 [n, 256] -> uint8 [n, 144 or 176]."""
    count, top = len(weights), np.float32((1 << bits) - 1)
    w_WN = np.ascontiguousarray(weights.reshape(-1, 32).T)
    scale_N, depth_N = _line(w_WN, top)
    scales, d = _shared(scale_N.reshape(count, 8), 63, type)
    depths, m = _shared(depth_N.reshape(count, 8), 63, type)
    # The levels are chosen again for the scales and minima as they are stored.
    scale_N, depth_N = (singles(d) * scales).reshape(-1), (singles(m) * depths).reshape(-1)
    levels_WN = np.rint((w_WN + depth_N) * inverse(scale_N)).clip(0, top).astype(np.uint8)
    levels = np.ascontiguousarray(levels_WN.T).reshape(count, 8, 32)
    fifth = [np.packbits(levels >> 4, axis=1, bitorder="little")] if bits == 5 else []
    lower = (levels[:, ::2] & 15) | (levels[:, 1::2] << 4)
    packed = _pack_scales(scales.astype(np.uint8), depths.astype(np.uint8))
    return np.concatenate([d, m, packed, *(part.reshape(count, -1) for part in (*fifth, lower))], axis=1)


def decode_based(data: Bytes, bits: int) -> Floats:
    """Return the weights of superblocks of Q4_K (4 bits) or Q5_K (5): uint8 [n, size] -> float32 [n, 256]."""
    scales, depths = _unpack_scales(data[:, 4:16])
    lower = data[:, -128:].reshape(-1, 4, 1, 32)
    levels = np.concatenate([lower & 15, lower >> 4], axis=2).reshape(-1, 8, 32)
    if bits == 5:
        levels |= np.unpackbits(data[:, 16:48].reshape(-1, 1, 32), axis=1, bitorder="little") << 4
    scale, depth = singles(data[:, :2]) * scales, singles(data[:, 2:4]) * depths
    weights: Floats = scale[:, :, None] * levels - depth[:, :, None]
    return weights.reshape(-1, SUPERBLOCK)


def _pack_scales(scales: Bytes, depths: Bytes) -> Bytes:
    """Return 8 scales and 8 depths [n, 8] of 6 bits each in 12 bytes [n, 12].

    The first four of each have a byte, topped by the upper two bits of the last four; the lower four bits of
    a last scale and a last depth share a byte.
    """
    first = [six[:, :4] | ((six[:, 4:] >> 4) << 6) for six in (scales, depths)]
    return np.concatenate([*first, (scales[:, 4:] & 15) | (depths[:, 4:] << 4)], axis=1)


def _unpack_scales(data: Bytes) -> tuple[Bytes, Bytes]:
    """Return the 8 scales and 8 depths [n, 8] that `_pack_scales` packed."""
    scales, depths, lower = data[:, :4], data[:, 4:8], data[:, 8:]
    return (
        np.concatenate([scales & 63, (lower & 15) | ((scales >> 6) << 4)], axis=1),
        np.concatenate([depths & 63, (lower >> 4) | ((depths >> 6) << 4)], axis=1),
    )


def _line(w_WN: Floats, top: np.float32) -> tuple[Floats, Floats]:
    """Return scale and depth [N], at least 0, such that scale * (0 ... top) - depth is near the weights."""
    heavy_WN = np.abs(w_WN) + np.sqrt(np.square(w_WN).mean(axis=0))
    heavy_w_WN = heavy_WN * w_WN
    heavy, heavy_w = heavy_WN.sum(axis=0), heavy_w_WN.sum(axis=0)
    # The part's top and bottom; the bottom is moved to the best one found so far.
    high, low = w_WN.max(axis=0), np.minimum(w_WN.min(axis=0), 0)
    scale, least = (high - low) / top, np.full_like(high, np.inf)
    for stretch in _STRETCHES:
        steps = (top + stretch) / (high - low)
        q_WN = np.rint(w_WN * steps - low * steps).clip(0, top)
        product_WN = heavy_WN * q_WN
        q, qq = product_WN.sum(axis=0), (product_WN * q_WN).sum(axis=0)
        qw = (heavy_w_WN * q_WN).sum(axis=0)
        # Least squares for scale * q + low, with low no higher than 0.
        determinant = heavy * qq - q * q
        new_low = (qq * heavy_w - q * qw) / determinant
        above = new_low > 0
        new_low = np.where(above, np.float32(0), new_low)
        new_scale = np.where(above, qw / qq, (heavy * qw - q * heavy_w) / determinant)
        # The weighted squared error, less what no choice changes. A part without a range makes all this NaN,
        # which is not less than anything.
        error = new_scale * (new_scale * qq + 2 * (new_low * q - qw))
        error = error + new_low * (new_low * heavy - 2 * heavy_w)
        better = error < least
        least = np.where(better, error, least)
        scale, low = np.where(better, new_scale, scale), np.where(better, new_low, low)
    return scale, np.abs(low)  # not -low, which can be a negative zero


# --- Q6_K


def encode_q6_k(weights: Floats) -> Bytes:
    """Return superblocks of Q6_K: float32 [n, 256] -> uint8 [n, 210]."""
    count = len(weights)
    w_WN = np.ascontiguousarray(weights.reshape(-1, 16).T)
    scales, d = _shared(_ray(w_WN).reshape(count, 16), -128, "Q6_K")
    levels_WN = np.rint(w_WN * inverse((singles(d) * scales).reshape(-1))).clip(-32, 31) + 32
    # In each half of 128 weights, those at i, i + 32, i + 64 and i + 96 share byte i of the upper bits.
    levels = np.ascontiguousarray(levels_WN.T).astype(np.uint8).reshape(count, 2, 4, 32)
    lower = (levels[:, :, :2] & 15) | (levels[:, :, 2:] << 4)
    upper = np.bitwise_or.reduce((levels >> 4) << _PAIRS, axis=2)
    coded = [lower.reshape(count, -1), upper.reshape(count, -1), scales.astype(np.int8).view(np.uint8), d]
    return np.concatenate(coded, axis=1)


def decode_q6_k(data: Bytes) -> Floats:
    """Return the weights of superblocks of Q6_K: uint8 [n, 210] -> float32 [n, 256]."""
    lower, upper = data[:, :128].reshape(-1, 2, 2, 32), data[:, 128:192].reshape(-1, 2, 1, 32)
    levels = np.concatenate([lower & 15, lower >> 4], axis=2)
    levels |= ((upper >> _PAIRS) & 3) << 4
    scale = singles(data[:, 208:]) * data[:, 192:208].view(np.int8).astype(np.float32)
    weights: Floats = scale[:, :, None] * (levels.reshape(-1, 16, 16).astype(np.float32) - 32)
    return weights.reshape(-1, SUPERBLOCK)


def _ray(w_WN: Floats) -> Floats:
    """Return scale [N], of either sign, such that scale * (-32 ... 31) is near the weights."""
    heavy_WN = np.abs(w_WN) + np.sqrt(np.square(w_WN).mean(axis=0))
    heavy_w_WN = heavy_WN * w_WN
    # The weight farthest from zero is near level -32, of which there is no counterpart at the other end.
    farthest = np.take_along_axis(w_WN, np.abs(w_WN).argmax(axis=0)[None], axis=0)[0]
    scale: Floats = farthest / np.float32(-32)
    most = np.zeros_like(farthest)
    for stretch in _STRETCHES:
        q_WN = np.rint(w_WN * ((-32 - stretch) / farthest)).clip(-32, 31)
        qw, qq = (heavy_w_WN * q_WN).sum(axis=0), (heavy_WN * q_WN * q_WN).sum(axis=0)
        gain = qw * qw / qq  # by how much the weighted squared error is less than that of zeros
        better = gain > most
        most, scale = np.where(better, gain, most), np.where(better, qw / qq, scale)
    return scale


# --- all


def _shared(values: Floats, steps: int, type: str) -> tuple[Floats, Bytes]:
    """Return `values` [n, k] as whole multiples [n, k] of a unit, and the unit in half precision [n, 2].

    The value farthest from zero becomes `steps`; if that is negative, multiples reach to -steps - 1 as well.
    """
    farthest = np.take_along_axis(values, np.abs(values).argmax(axis=1, keepdims=True), axis=1)
    wanted = farthest / np.float32(steps)
    nearest = halves(wanted, type).view("<f2")
    # Rounded away from zero: a smaller unit would not reach the farthest, and for tiny weights it would be 0.
    beyond = np.nextafter(nearest, np.copysign(np.float16(65504), nearest))
    unit = np.where(np.abs(nearest) < np.abs(wanted), beyond, nearest).astype("<f2")
    low, high = (0, steps) if steps > 0 else (steps, -steps - 1)
    multiples: Floats = np.rint(values * inverse(unit.astype(np.float32))).clip(low, high)
    return multiples, unit.view(np.uint8)
