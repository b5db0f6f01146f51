"""safetensors files and folders: as the package and torch write and read them, and damage in one sentence."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.parameters import quantise, safetensors
from twofold.parameters.tensors import Held


def _arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shapes = {"a.weight": (5, 7), "b.bias": (3,), "cube": (2, 2, 2), "one": (1, 1)}
    return {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("dtype", safetensors.WRITABLE)
def test_what_is_written_is_read(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.write(path, {name: Held(array) for name, array in _arrays().items()}, dtype)
    read = safetensors.read(path)
    assert set(read) == set(_arrays())
    for name, array in _arrays().items():
        stored = quantise.dequantise(quantise.quantise(array, dtype), dtype, array.shape)
        assert read[name].shape == array.shape
        np.testing.assert_array_equal(read[name].float32(), stored)


@pytest.mark.parametrize(("dtype", "numpy"), [("F32", np.float32), ("F16", np.float16)])
def test_the_package_reads_it(tmp_path: Path, dtype: str, numpy: type) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.write(path, {name: Held(array) for name, array in _arrays().items()}, dtype)
    theirs = load_file(path)
    for name, array in _arrays().items():
        assert theirs[name].dtype == numpy
        np.testing.assert_array_equal(theirs[name], array.astype(numpy))


@pytest.mark.parametrize("numpy", [np.float32, np.float16, np.float64])
def test_what_the_package_writes_is_read(tmp_path: Path, numpy: type) -> None:
    path = tmp_path / "m.safetensors"
    save_file({name: array.astype(numpy) for name, array in _arrays().items()}, path, metadata={"x": "y"})
    read = safetensors.read(path)
    for name, array in _arrays().items():
        np.testing.assert_array_equal(read[name].float32(), array.astype(numpy).astype(np.float32))


def test_torch_and_bfloat16_agree(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    tensors = {name: torch.from_numpy(array).to(torch.bfloat16) for name, array in _arrays().items()}
    save_torch(tensors, tmp_path / "theirs.safetensors")
    for name, tensor in safetensors.read(tmp_path / "theirs.safetensors").items():
        assert tensor.dtype == "BF16"
        np.testing.assert_array_equal(tensor.float32(), tensors[name].float().numpy())
    ours = tmp_path / "ours.safetensors"
    safetensors.write(ours, {name: Held(array) for name, array in _arrays().items()}, "BF16")
    back = load_torch(ours)
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def test_counts_may_stand_in_a_file_but_not_as_weights(tmp_path: Path) -> None:
    save_file({"ids": np.arange(4)}, tmp_path / "m.safetensors")
    tensor = safetensors.read(tmp_path / "m.safetensors")["ids"]
    with pytest.raises(BadFileError, match="'ids' has the type I64"):
        tensor.float32()


def test_unusable_requests_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="F32"):
        safetensors.write(tmp_path / "m.safetensors", {}, "Q8_0")
    huge = Held(np.full((2, 2), 1e30, dtype=np.float32))
    with pytest.raises(TwofoldError, match="beyond 65504"):
        safetensors.write(tmp_path / "m.safetensors", {"x": huge}, "F16")
    assert not list(tmp_path.iterdir())


def _sharded(folder: Path) -> dict[str, np.ndarray]:
    arrays = _arrays()
    places = {}
    for number, (name, array) in enumerate(arrays.items()):
        place = f"model-0000{number % 2 + 1}-of-00002.safetensors"
        places[name] = place
        mine = {other: arrays[other] for other, at in places.items() if at == place}
        safetensors.write(folder / place, {other: Held(value) for other, value in mine.items()}, "F32")
        assert array.size
    (folder / safetensors.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return arrays


def test_a_folder_in_parts_is_read_by_its_index(tmp_path: Path) -> None:
    arrays = _sharded(tmp_path)
    read = safetensors.read_folder(tmp_path)
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name].float32(), array)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("{", "no weight_map"),
        ("[]", "no weight_map"),
        ('{"weight_map": []}', "no weight_map"),
        ('{"weight_map": {"a.weight": "../model.safetensors"}}', "not a neighbour"),
        ('{"weight_map": {"a.weight": "weights.bin"}}', "not a neighbour"),
        ('{"weight_map": {"a.weight": "gone.safetensors"}}', "gone.safetensors"),
        ('{"weight_map": {"none": "model-00001-of-00002.safetensors"}}', "lacks the tensor 'none'"),
    ],
)
def test_an_index_that_does_not_fit_is_named(tmp_path: Path, index: str, said: str) -> None:
    _sharded(tmp_path)
    (tmp_path / safetensors.INDEX).write_text(index)
    with pytest.raises(BadFileError, match=said):
        safetensors.read_folder(tmp_path)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"holds no model\.safetensors"):
        safetensors.read_folder(tmp_path)


def _file(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _one(**change: object) -> dict[str, object]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}}


DAMAGED = {
    "empty": (b"", "is empty"),
    "short": (b"abc", "header is longer"),
    "long header": (struct.pack("<Q", 1 << 60) + b"{}", "header is longer"),
    "not JSON": (_file(b"{..."), "not JSON"),
    "deep": (_file(b"[" * 200_000), "not JSON"),
    "long number": (_file(b'{"t":' + b"9" * 5000 + b"}"), "not JSON"),
    "not an object": (_file([1]), "not a JSON object"),
    "twice": (_file(b'{"t":1,"t":2}'), "not JSON"),
    "entry": (_file({"t": 3}), "'t' is not an object"),
    "type": (_file(_one(dtype="F8_E4M3"), bytes(8)), "type 'F8_E4M3'"),
    "shape": (_file(_one(shape=[-2]), bytes(8)), "makes no sense"),
    "huge shape": (_file(_one(shape=[1 << 50, 1 << 50]), bytes(8)), "wrong number of bytes"),
    "truth": (_file(_one(shape=[True, 2]), bytes(8)), "makes no sense"),
    "offsets": (_file(_one(data_offsets=[8, 0]), bytes(8)), "wrong number of bytes"),
    "gap": (_file(_one(data_offsets=[8, 16]), bytes(16)), "does not lie where"),
    "outside": (_file(_one(), bytes(4)), "does not lie where"),
    "rest": (_file(_one(), bytes(12)), "bytes instead of"),
}


@pytest.mark.parametrize("kind", list(DAMAGED))
def test_damage_is_named(tmp_path: Path, kind: str) -> None:
    raw, said = DAMAGED[kind]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(raw)
    with pytest.raises(BadFileError, match=said) as caught:
        safetensors.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match=r"none\.safetensors"):
        safetensors.read(tmp_path / "none.safetensors")
