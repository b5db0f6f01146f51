"""Stored weights are ggml's, bit for bit, as its own Python package makes and reads them."""

import gguf as rival
import numpy as np
import pytest

from twofold.base.errors import TwofoldError, UsageError
from twofold.parameters import quantise


def _matrices() -> list[np.ndarray]:
    """Return matrices of many sizes of numbers, with blocks of zeros, of ties and of equal numbers."""
    generator = np.random.default_rng(5)
    matrices = []
    for scale in (1e-30, 1e-9, 1e-4, 1.0, 300.0):
        matrix = (generator.standard_normal((33, 320)) * scale).astype(np.float32)
        matrix[0, :32] = 0
        matrix[1, :64] = np.repeat(np.array([scale, -scale], dtype=np.float32), 32)
        matrix[2] = np.round(matrix[2] / scale * 2) * scale / 2  # many halves, to be rounded away from zero
        matrix[3, 0], matrix[3, 1] = -matrix[3].max() * 2, matrix[3].max() * 2  # a tie for the farthest
        matrices.append(matrix)
    return [*matrices, generator.standard_normal(64).astype(np.float32)]


@pytest.mark.parametrize("type", list(quantise.FORMATS))
def test_same_bytes_and_same_numbers_as_gguf(type: str) -> None:
    code = getattr(rival.GGMLQuantizationType, type)
    assert quantise.FORMATS[type].id == code
    for matrix in _matrices():
        with np.errstate(all="ignore"):
            theirs = rival.quantize(matrix, code)
        ours = quantise.quantise(matrix, type)
        np.testing.assert_array_equal(
            ours.reshape(-1), np.ascontiguousarray(theirs).view(np.uint8).reshape(-1)
        )
        assert ours.shape == (*matrix.shape[:-1], quantise.row_bytes(type, matrix.shape[-1]))
        back = quantise.dequantise(ours, type, matrix.shape)
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, rival.dequantize(theirs, code))


def test_large_matrices_are_converted_in_parts_without_a_seam() -> None:
    matrix = np.random.default_rng(1).standard_normal((1025, 2080)).astype(np.float32)
    whole = quantise.quantise(matrix, "Q8_0")
    rows = np.concatenate([quantise.quantise(part, "Q8_0") for part in np.array_split(matrix, 7)])
    np.testing.assert_array_equal(whole, rows)
    np.testing.assert_array_equal(
        quantise.dequantise(whole, "Q8_0", matrix.shape)[-1], quantise.dequantise(whole[-1], "Q8_0", (2080,))
    )


@pytest.mark.parametrize(
    ("type", "most"), [("F16", 5e-4), ("BF16", 4e-3), ("Q8_0", 0.5 / 127), ("Q4_0", 0.125)]
)
def test_error_stays_within_a_step_of_the_largest_in_its_block(type: str, most: float) -> None:
    matrix = np.random.default_rng(2).standard_normal((64, 64)).astype(np.float32)
    error = np.abs(quantise.dequantise(quantise.quantise(matrix, type), type, matrix.shape) - matrix)
    largest = np.abs(matrix.reshape(64, 2, 32)).max(axis=2, keepdims=True)
    relative = (error.reshape(64, 2, 32) / largest).max()
    assert 0 < relative <= most * 1.1


def test_bf16_keeps_infinity_and_nan() -> None:
    odd = np.array([np.inf, -np.inf, np.nan, 1.0], dtype=np.float32)
    back = quantise.dequantise(quantise.quantise(odd, "BF16"), "BF16", (4,))
    np.testing.assert_array_equal(back, odd)


@pytest.mark.parametrize("type", ["F16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize(
    ("number", "said"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e9, "beyond 65504")]
)
def test_numbers_that_half_precision_cannot_hold_are_refused(type: str, number: float, said: str) -> None:
    matrix = np.zeros((2, 32), dtype=np.float32)
    matrix[1, 3] = number
    with pytest.raises(TwofoldError, match=said):
        quantise.quantise(matrix, type)


def test_misuse_is_named() -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        quantise.quantise(np.zeros((2, 40), dtype=np.float32), "Q8_0")
    with pytest.raises(UsageError, match="Did you mean 'Q8_0'"):
        quantise.quantise(np.zeros((2, 32), dtype=np.float32), "Q8")
    with pytest.raises(UsageError, match="are not a Q4_0 tensor"):
        quantise.dequantise(np.zeros(17, dtype=np.uint8), "Q4_0", (32,))
