"""GGUF, the model file: a header, named values, named tensors, then the tensors' bytes.

All numbers are little-endian. The layout (versions 2 and 3 are alike but for big-endian files):

    "GGUF"  version u32  tensors u64  values u64
    values    key string, type u32, value         string: length u64, then UTF-8 bytes
                                                  array: item type u32, length u64, items
    tensors   name string, dimensions u32, each dimension u64 (columns first), type u32, offset u64
    padding to a multiple of `general.alignment` (32 unless said), from where the offsets count

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Reading maps the file into memory and
believes nothing in it: each count is checked against the bytes that are left before anything is made of it.
Not covered: big-endian files, arrays of arrays, files split into parts, tensor types beyond `quantise`.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import BadFileError, TwofoldError
from twofold.base.files import atomic_write
from twofold.parameters import quantise
from twofold.parameters.blocks import Bytes, Floats

ALIGNMENT = 32
_BOOL, _STRING, _ARRAY = 7, 8, 9
_DTYPES = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4",
    6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
_CODES = {np.dtype(name): code for code, name in _DTYPES.items()}
# Types that other programs write and twofold does not read, for a message that helps.
_FOREIGN = {10: "Q2_K", 11: "Q3_K", 20: "IQ4_NL", 23: "IQ4_XS", 28: "F64", 39: "MXFP4"}


class Source(Protocol):
    """A tensor whose numbers are made when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def float32(self) -> Floats: ...


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: `data` are its bytes as stored (uint8 [n], a view of the mapped file)."""

    name: str
    shape: tuple[int, ...]
    type: str
    data: Bytes = field(repr=False)

    def float32(self) -> Floats:
        """Return the numbers, float32 of `shape` (numpy order: rows, columns). F32 is a read-only view."""
        return quantise.dequantise(self.data, self.type, self.shape)


@dataclass(frozen=True)
class File:
    """An open GGUF file. Metadata values are bool, int, float, str, or a list of one of these."""

    path: Path
    version: int
    metadata: dict[str, Any]
    tensors: dict[str, Tensor]


def read(path: str | Path) -> File:
    """Return the GGUF file at `path`; tensors stay on the disk until they are read.

    Raises BadFileError for a file that is missing, foreign, cut short or damaged.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadFileError(f"Cannot read the model file {path}: {error.strerror}.") from error
    except ValueError as error:  # mmap's word for a file of no bytes
        raise BadFileError(f"{path} is empty: fetch or write it again.") from error
    return _Reader(path, mapped).file()


class _Reader:
    """A cursor over the bytes of one file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.at, self.end = path, data, 0, len(data)

    def file(self) -> File:
        if self.data[:4] != b"GGUF":
            raise BadFileError(f"{self.path} is not a GGUF model file: it does not begin with 'GGUF'.")
        self.at = 4
        version = self.number("<I")
        if version not in (2, 3):
            raise BadFileError(f"{self.path} is GGUF version {version}; 2 and 3 are read: convert it again.")
        tensors, values = self.number("<Q"), self.number("<Q")
        self.room(tensors, 24)
        self.room(values, 13)
        metadata: dict[str, Any] = {}
        for _ in range(values):
            key = self.string("a key")
            if key in metadata:
                raise self.damaged(f"the value {key!r} is there twice")
            metadata[key] = self.value(key)
        alignment = metadata.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 0 < alignment <= 1 << 16 or alignment & (alignment - 1):
            raise self.damaged(f"the alignment {alignment!r} is not a power of two up to 65536")
        entries = [self.entry() for _ in range(tensors)]
        start = -(-self.at // alignment) * alignment
        found: dict[str, Tensor] = {}
        for name, shape, code, offset in entries:
            if name in found:
                raise self.damaged(f"the tensor {name!r} is there twice")
            found[name] = self.tensor(name, shape, code, offset, start, alignment)
        return File(self.path, version, metadata, found)

    def damaged(self, what: str) -> BadFileError:
        return BadFileError(f"{self.path} is damaged: {what}; fetch or write the file again.")

    def room(self, count: int, size: int) -> None:
        """Check that `count` things of at least `size` bytes each can still follow."""
        if count * size > self.end - self.at:
            raise self.damaged(f"it ends too early, at byte {self.end}")

    def take(self, count: int) -> bytes:
        self.room(count, 1)
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def string(self, what: str) -> str:
        try:
            return self.take(self.number("<Q")).decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"{what} before byte {self.at} is not UTF-8 text") from error

    def value(self, key: str) -> Any:
        code = self.number("<I")
        if code == _STRING:
            return self.string(repr(key))
        if code != _ARRAY:
            return self.numbers(key, code, 1)[0]
        code, count = self.number("<I"), self.number("<Q")
        if code != _STRING:
            return self.numbers(key, code, count)
        self.room(count, 8)
        return [self.string(f"an item of {key!r}") for _ in range(count)]

    def numbers(self, key: str, code: int, count: int) -> list[Any]:
        if code not in _DTYPES:
            raise self.damaged(f"the value {key!r} has the unknown type {code}")
        dtype = np.dtype(_DTYPES[code])
        self.room(count, dtype.itemsize)
        raw = np.frombuffer(self.take(count * dtype.itemsize), dtype="u1" if code == _BOOL else dtype)
        # A C program takes any byte but 0 for true.
        return [bool(byte) for byte in raw] if code == _BOOL else list(raw.tolist())

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        name = self.string("a tensor's name")
        dimensions = self.number("<I")
        if not 1 <= dimensions <= 4:
            raise self.damaged(f"the tensor {name!r} has {dimensions} dimensions instead of 1 to 4")
        columns_first = [self.number("<Q") for _ in range(dimensions)]
        return name, tuple(reversed(columns_first)), self.number("<I"), self.number("<Q")

    def tensor(
        self, name: str, shape: tuple[int, ...], code: int, offset: int, start: int, alignment: int
    ) -> Tensor:
        if code not in quantise.NAMES:
            called = _FOREIGN.get(code, f"number {code}")
            raise BadFileError(
                f"The tensor {name!r} in {self.path} has the type {called}, which twofold does not read: "
                f"take a file in {', '.join(quantise.FORMATS)}."
            )
        type = quantise.NAMES[code]
        form = quantise.FORMATS[type]
        weights = 1
        for length in shape:
            weights *= length
        if not 0 < weights < 1 << 60 or shape[-1] % form.block:
            raise self.damaged(f"the tensor {name!r} has the shape {shape}, which {type} cannot have")
        size = weights // form.block * form.size
        if offset % alignment or start + offset + size > self.end:
            raise self.damaged(f"the tensor {name!r} does not lie inside the file")
        return Tensor(name, shape, type, np.frombuffer(self.data, np.uint8, size, start + offset))


def write(
    path: str | Path, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[str, NDArray[Any] | Source]]
) -> None:
    """Write a GGUF version 3 file to `path`, atomically; the rest as `write_to` has it."""
    with atomic_write(path) as file:
        write_to(file, metadata, tensors)


def write_to(
    file: BinaryIO, metadata: Mapping[str, Any], tensors: Mapping[str, tuple[str, NDArray[Any] | Source]]
) -> None:
    """Write a GGUF version 3 file into an open one.

    `tensors`: name -> (type, float array or a lazy Source); each is made, converted and written in turn, and
    a `Tensor` that is stored in that type already is copied byte for byte. Metadata: a bool, str, int
    (UINT32, or INT32, UINT64, INT64 where it must), float (FLOAT32), numpy number or array (its dtype), or
    list (strings, bools, INT32, FLOAT32). Raises TwofoldError for anything else.
    """
    alignment = int(metadata.get("general.alignment", ALIGNMENT))
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        header += [_string(key), _value(key, value)]
    offset = 0
    for name, (type, source) in tensors.items():
        shape = source.shape
        rows = int(np.prod(shape[:-1], dtype=np.int64))
        header.append(_string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape)))
        header.append(struct.pack("<IQ", quantise.form(type).id, offset))
        offset += rows * quantise.row_bytes(type, shape[-1])
        offset += -offset % alignment
    head = b"".join(header)
    file.write(head + bytes(-len(head) % alignment))
    for name, (type, source) in tensors.items():
        data = _stored(name, type, source)
        file.write(data)
        file.write(bytes(-len(data) % alignment))


def _stored(name: str, type: str, source: NDArray[Any] | Source) -> memoryview:
    """Return the bytes of one tensor."""
    if isinstance(source, Tensor) and source.type == type:
        return source.data.data
    array = source if isinstance(source, np.ndarray) else source.float32()
    try:
        return quantise.quantise(array, type).reshape(-1).data
    except TwofoldError as error:
        raise error.__class__(f"The tensor {name!r}: {error}") from error


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(key: str, value: Any) -> bytes:
    """Return type and bytes of one metadata value."""
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
        return struct.pack("<IIQ", _ARRAY, _STRING, len(value)) + b"".join(map(_string, value))
    array = _array(key, value)
    dtype = np.dtype("?") if array.dtype == np.bool_ else array.dtype.newbyteorder("<")
    if dtype not in _CODES or array.ndim > 1:
        raise TwofoldError(f"The metadata value {key!r} of type {type(value).__name__} has no place in GGUF.")
    raw = array.astype(dtype).tobytes()
    if array.ndim == 0:
        return struct.pack("<I", _CODES[dtype]) + raw
    return struct.pack("<IIQ", _ARRAY, _CODES[dtype], array.size) + raw


def _array(key: str, value: Any) -> NDArray[Any]:
    """Return a number or list of numbers as an array of the dtype it is stored in."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    items = list(value) if isinstance(value, list | tuple) else [value]
    kinds = {type(item) for item in items}
    if kinds <= {bool} and items:
        return np.array(value, dtype=np.bool_)
    if kinds <= {int}:
        wanted = ["<i4", "<i8"] if isinstance(value, list | tuple) else ["<u4", "<i4", "<u8", "<i8"]
        low, high = min(items, default=0), max(items, default=0)
        for dtype in wanted:
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return np.array(value, dtype=dtype)
    elif kinds <= {int, float}:
        with np.errstate(over="ignore"):
            return np.array(value, dtype="<f4")
    raise TwofoldError(f"The metadata value {key!r} of type {type(value).__name__} has no place in GGUF.")
