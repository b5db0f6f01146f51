"""GGUF files: what we write others read, what others write we read, and damage is one sentence."""

import struct
from pathlib import Path

import gguf as rival
import numpy as np
import pytest
import zstandard

from twofold.base.errors import BadFileError, TwofoldError
from twofold.parameters import gguf, quantise

METADATA = {
    "general.architecture": "qwen3",
    "general.name": "naïve 船",
    "count": 7,
    "negative": -7,
    "large": 1 << 40,
    "small": -(1 << 40),
    "fraction": 0.1,
    "yes": True,
    "numbers": [3, -4, 5],
    "long": [1 << 40],
    "fractions": [0.5, -2.0],
    "words": ["a", "", "é"],
    "switches": [True, False],
    "none": [],
    "runs": np.array([1, 2**32 - 1], dtype=np.uint32),
    "byte": np.uint8(9),
}


def _tensors() -> dict[str, tuple[str, np.ndarray]]:
    generator = np.random.default_rng(3)
    tensors = {f"t.{t}": (t, generator.standard_normal((5, 256)).astype("f4")) for t in quantise.FORMATS}
    tensors["vector"] = ("F32", generator.standard_normal(7).astype("f4"))  # 28 bytes: needs padding
    tensors["cube"] = ("F16", generator.standard_normal((2, 3, 64)).astype("f4"))
    return tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    gguf.write(tmp_path / "model.gguf", METADATA, _tensors())
    return tmp_path / "model.gguf"


def test_what_is_written_is_read(path: Path) -> None:
    file = gguf.read(path)
    assert file.version == 3
    assert list(file.metadata) == list(METADATA)
    for key, value in METADATA.items():
        if isinstance(value, np.ndarray | np.generic):
            assert file.metadata[key] == value.tolist()
        elif isinstance(value, float):
            assert file.metadata[key] == np.float32(value)
        else:
            assert file.metadata[key] == value
            assert type(file.metadata[key]) is type(value)
    for name, (type_, array) in _tensors().items():
        tensor = file.tensors[name]
        assert (tensor.type, tensor.shape) == (type_, array.shape)
        stored = quantise.dequantise(quantise.quantise(array, type_), type_, array.shape)
        np.testing.assert_array_equal(tensor.float32(), stored)
        assert tensor.data.ctypes.data % 32 == 0


def test_the_gguf_package_reads_it(path: Path) -> None:
    reader = rival.GGUFReader(path)
    kinds = rival.GGUFValueType
    expected = {
        "count": kinds.UINT32, "negative": kinds.INT32, "large": kinds.UINT64, "small": kinds.INT64,
        "fraction": kinds.FLOAT32, "yes": kinds.BOOL, "byte": kinds.UINT8,
    }  # fmt: skip
    for key, kind in expected.items():
        assert reader.fields[key].types == [kind]
    for key, kind in {"numbers": kinds.INT32, "long": kinds.INT64, "runs": kinds.UINT32}.items():
        assert reader.fields[key].types == [kinds.ARRAY, kind]
        assert reader.fields[key].contents() == list(METADATA[key])
    assert reader.fields["words"].contents() == METADATA["words"]
    assert reader.fields["general.name"].contents() == METADATA["general.name"]
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name, (type_, array) in _tensors().items():
        assert tensors[name].tensor_type.name == type_
        assert tuple(reversed(tensors[name].shape.tolist())) == array.shape
        theirs = rival.dequantize(tensors[name].data, tensors[name].tensor_type)
        np.testing.assert_array_equal(theirs.reshape(array.shape), gguf.read(path).tensors[name].float32())


@pytest.mark.parametrize("alignment", [32, 64, 256])
def test_what_the_gguf_package_writes_is_read(tmp_path: Path, alignment: int) -> None:
    path = tmp_path / "theirs.gguf"
    writer = rival.GGUFWriter(path, "llama")
    writer.add_custom_alignment(alignment)
    writer.add_float64("double", 0.1)
    writer.add_int16("short", -3)
    writer.add_array("list", [1.5, 2.5])
    writer.add_array("strings", ["x", "yz"])
    arrays = {name: array for name, (_, array) in _tensors().items() if array.ndim == 2}
    for name, array in arrays.items():
        code = getattr(rival.GGMLQuantizationType, name.removeprefix("t."))
        # The package does not encode superblocks itself.
        ours = quantise.quantise(array, code.name)
        writer.add_tensor(name, ours if name.endswith("_K") else rival.quantize(array, code), raw_dtype=code)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = gguf.read(path)
    assert file.metadata["double"] == 0.1
    assert file.metadata["short"] == -3
    assert file.metadata["list"] == [1.5, 2.5]
    assert file.metadata["strings"] == ["x", "yz"]
    for name, array in arrays.items():
        type_ = name.removeprefix("t.")
        assert file.tensors[name].type == type_
        np.testing.assert_array_equal(
            file.tensors[name].float32(),
            quantise.dequantise(quantise.quantise(array, type_), type_, array.shape),
        )


def test_a_stored_tensor_is_copied_byte_for_byte_and_a_file_can_replace_itself(path: Path) -> None:
    before = path.read_bytes()
    file = gguf.read(path)
    tensors = {name: (tensor.type, tensor) for name, tensor in file.tensors.items()}
    gguf.write(path, METADATA, tensors)
    assert path.read_bytes() == before


def test_an_interrupted_write_leaves_the_old_file(path: Path) -> None:
    before = path.read_bytes()
    bad = np.full((2, 32), np.nan, dtype=np.float32)
    with pytest.raises(TwofoldError, match=r"'worse': Weights cannot be stored as Q8_0"):
        gguf.write(path, {}, {"fine": ("F32", bad), "worse": ("Q8_0", bad)})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model.gguf"]


def test_version_2_is_read(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[4] = 2
    path.write_bytes(raw)
    assert gguf.read(path).version == 2


@pytest.mark.parametrize("value", [None, {"a": 1}, [1, "a"], [True, 1], 1 << 70, 1j, [[1, 2]]])
def test_values_that_gguf_has_no_type_for_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(TwofoldError, match="'odd' of type"):
        gguf.write(tmp_path / "x.gguf", {"odd": value}, {})


def _header(values: bytes = b"", n_values: int = 0, tensors: bytes = b"", n_tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_values) + values + tensors


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _tensor(name: str, dims: tuple[int, ...], code: int = 0, offset: int = 0) -> bytes:
    return _text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, code, offset)


_EMPTY_LIST = _text("k") + struct.pack("<IIQ", 9, 4, 0)
DAMAGED = {
    "empty": (b"", "is empty"),
    "foreign": (b"PK\x03\x04" * 9, "not a GGUF"),
    "old": (b"GGUF" + bytes([1]) + bytes(40), "version 1"),
    "big-endian": (b"GGUF" + bytes([0, 0, 0, 3]) + bytes(40), "version 50331648"),
    "short": (b"GGUF\x03", "ends too early"),
    "many values": (_header(n_values=1 << 62), "ends too early"),
    "many tensors": (_header(n_tensors=1 << 62), "ends too early"),
    "long string": (_header(struct.pack("<Q", 1 << 63) + bytes(20), 1), "ends too early"),
    "long array": (_header(_text("k") + struct.pack("<IIQ", 9, 0, 1 << 60), 1), "ends too early"),
    "array of arrays": (_header(_text("k") + struct.pack("<IIQ", 9, 9, 1), 1), "unknown type 9"),
    "unknown type": (_header(_text("k") + struct.pack("<IQ", 77, 1), 1), "unknown type 77"),
    "twice a value": (_header(_EMPTY_LIST * 2, 2), "'k' is there twice"),
    "not UTF-8": (_header(struct.pack("<Q", 1) + b"\xff" + bytes(20), 1), "not UTF-8"),
    "alignment": (_header(_text("general.alignment") + struct.pack("<II", 4, 48), 1), "alignment 48"),
    "no dimensions": (_header(tensors=_tensor("t", ()) + bytes(64), n_tensors=1), "0 dimensions"),
    "no columns": (_header(tensors=_tensor("t", (0, 3)) + bytes(64), n_tensors=1), "shape"),
    "huge": (_header(tensors=_tensor("t", (1 << 40, 1 << 40)) + bytes(64), n_tensors=1), "shape"),
    "odd block": (_header(tensors=_tensor("t", (33,), 8) + bytes(64), n_tensors=1), "Q8_0 cannot have"),
    "outside": (_header(tensors=_tensor("t", (99,)) + bytes(64), n_tensors=1), "does not lie inside"),
    "askew": (_header(tensors=_tensor("t", (1,), 0, 4) + bytes(64), n_tensors=1), "does not lie inside"),
    "twice a tensor": (
        _header(tensors=_tensor("t", (1,)) * 2 + bytes(64), n_tensors=2),
        "'t' is there twice",
    ),
    "foreign type": (_header(tensors=_tensor("t", (256,), 11) + bytes(200), n_tensors=1), "type Q3_K"),
    "odd superblock": (_header(tensors=_tensor("t", (96,), 12) + bytes(64), n_tensors=1), "Q4_K cannot have"),
}


@pytest.mark.parametrize("kind", list(DAMAGED))
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    raw, said = DAMAGED[kind]
    path = tmp_path / "bad.gguf"
    path.write_bytes(raw)
    with pytest.raises(BadFileError, match=said) as caught:
        gguf.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "tokens"), [("gpt-2", 50257), ("llama-spm", 32000), ("starcoder", 49152)])
def test_files_of_llama_cpp_are_read(shared_data: Path, tmp_path: Path, name: str, tokens: int) -> None:
    packed = (shared_data / f"tokenizer/ggml_vocab/ggml-vocab-{name}.gguf.zst").read_bytes()
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(zstandard.ZstdDecompressor().stream_reader(packed).read())
    metadata = gguf.read(path).metadata
    assert len(metadata["tokenizer.ggml.tokens"]) == tokens
    assert len(metadata["tokenizer.ggml.token_type"]) == tokens
    gguf.write(path, metadata, {})
    assert gguf.read(path).metadata == metadata


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(BadFileError, match=str(path)):
            gguf.read(path)
