"""Stored weights are ggml's, bit for bit, as its own Python package makes and reads them."""

import gguf as rival
import numpy as np
import pytest

from twofold.base.errors import TwofoldError, UsageError
from twofold.parameters import quantise

# The relative root mean square error of llama.cpp's own quantiser (ggml 0.25.3, without an importance matrix)
# for normal random weights, by superblock type.
GGML_ERROR = {"Q4_K": 0.07133, "Q5_K": 0.03612, "Q6_K": 0.01775}


def _matrices() -> list[np.ndarray]:
    """Return matrices of many sizes of numbers, with blocks of zeros, of ties and of equal numbers."""
    generator = np.random.default_rng(5)
    matrices = []
    for scale in (1e-30, 1e-9, 1e-6, 1e-4, 1.0, 300.0):
        matrix = (generator.standard_normal((33, 512)) * scale).astype(np.float32)
        matrix[0, :32] = 0
        matrix[1, :64] = np.repeat(np.array([scale, -scale], dtype=np.float32), 32)
        matrix[2] = np.round(matrix[2] / scale * 2) * scale / 2  # many halves, to be rounded away from zero
        matrix[3, 0], matrix[3, 1] = -matrix[3].max() * 2, matrix[3].max() * 2  # a tie for the farthest
        matrices.append(matrix)
    return [*matrices, generator.standard_normal(256).astype(np.float32)]


def _same_bits(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Assert that two float32 arrays are the same to the last bit, but for which of the NaNs it is."""
    ours, theirs = (np.where(np.isnan(array), np.float32(np.nan), array) for array in (ours, theirs))
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("type", sorted(set(quantise.FORMATS) - set(GGML_ERROR)))
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


@pytest.mark.parametrize("type", list(quantise.FORMATS))
def test_any_bytes_are_the_numbers_that_gguf_reads(type: str) -> None:
    block, size = quantise.FORMATS[type].block, quantise.FORMATS[type].size
    # Some of the scales are not finite.
    data = np.random.default_rng(7).integers(0, 256, (50, 8 * size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        theirs = rival.dequantize(data, getattr(rival.GGMLQuantizationType, type))
    _same_bits(quantise.dequantise(data, type, (50, 8 * block)), theirs)


@pytest.mark.parametrize("type", list(GGML_ERROR))
def test_superblocks_read_by_gguf_are_as_near_as_those_of_llama_cpp(type: str) -> None:
    code = getattr(rival.GGMLQuantizationType, type)
    assert quantise.FORMATS[type].id == code
    for matrix in _matrices():
        ours = quantise.quantise(matrix, type)
        assert ours.shape == (*matrix.shape[:-1], quantise.row_bytes(type, matrix.shape[-1]))
        back = quantise.dequantise(ours, type, matrix.shape)
        _same_bits(back, rival.dequantize(ours, code))
        # Half precision cannot hold the scales of weights of 1e-9 and less, but it does those of 1e-6.
        assert np.abs(back - matrix).max() <= max(0.2 * np.abs(matrix).max(), 1e-8)
    for scale, allowed in ((1, 1.005), (0.02, 1.005), (1e-5, 1.2)):
        normal = (scale * np.random.default_rng(0).standard_normal((256, 2048))).astype(np.float32)
        error = quantise.dequantise(quantise.quantise(normal, type), type, normal.shape) - normal
        assert np.sqrt(np.square(error).mean() / np.square(normal).mean()) < allowed * GGML_ERROR[type]


@pytest.mark.parametrize("type", list(GGML_ERROR))
def test_parts_of_equal_numbers_and_of_one_sign_are_kept(type: str) -> None:
    ramp = np.linspace(0, 1, 32, dtype=np.float32)
    parts = [np.full(32, number, dtype=np.float32) for number in (-3, 0, 2.5, 1e-20)]
    matrix = np.concatenate([*parts, -ramp, ramp, ramp - 1.5, 0 * ramp])
    back = quantise.dequantise(quantise.quantise(matrix, type), type, matrix.shape)
    np.testing.assert_allclose(back, matrix, atol=0.06)  # a depth is a multiple of 3 / 63
    assert not back[32:64].any()
    if type != "Q6_K":  # whose zero is level 32
        assert not quantise.quantise(np.zeros(512, dtype=np.float32), type).any()


@pytest.mark.parametrize("type", ["Q8_0", "Q4_K"])
def test_large_matrices_are_converted_in_parts_without_a_seam(type: str) -> None:
    matrix = np.random.default_rng(1).standard_normal((515, 2304)).astype(np.float32)
    whole = quantise.quantise(matrix, type)
    rows = np.concatenate([quantise.quantise(part, type) for part in np.array_split(matrix, 7)])
    np.testing.assert_array_equal(whole, rows)
    np.testing.assert_array_equal(
        quantise.dequantise(whole, type, matrix.shape)[-1], quantise.dequantise(whole[-1], type, (2304,))
    )


@pytest.mark.parametrize(
    ("type", "most"),
    [
        ("F16", 5e-4),
        ("BF16", 4e-3),
        ("Q8_0", 0.5 / 127),
        ("Q5_0", 1 / 16),
        ("Q5_1", 1 / 31),
        ("Q4_0", 1 / 8),
        ("Q4_1", 1 / 15),
    ],
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


@pytest.mark.parametrize("type", sorted(set(quantise.FORMATS) - {"F32", "BF16"}))
@pytest.mark.parametrize(
    ("number", "said"), [(np.nan, "not finite"), (np.inf, "not finite"), (1e9, "beyond 65504")]
)
def test_numbers_that_half_precision_cannot_hold_are_refused(type: str, number: float, said: str) -> None:
    matrix = np.zeros((2, 256), dtype=np.float32)
    matrix[1, 3] = number
    with pytest.raises(TwofoldError, match=said):
        quantise.quantise(matrix, type)


def test_misuse_is_named() -> None:
    with pytest.raises(UsageError, match="multiple of 32"):
        quantise.quantise(np.zeros((2, 40), dtype=np.float32), "Q8_0")
    with pytest.raises(UsageError, match="multiple of 256 weights, not 96"):
        quantise.quantise(np.zeros((2, 96), dtype=np.float32), "Q6_K")
    with pytest.raises(UsageError, match="Did you mean 'Q8_0'"):
        quantise.quantise(np.zeros((2, 32), dtype=np.float32), "Q8")
    with pytest.raises(UsageError, match="are not a Q4_0 tensor"):
        quantise.dequantise(np.zeros(17, dtype=np.uint8), "Q4_0", (32,))
