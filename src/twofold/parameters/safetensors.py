"""safetensors, Hugging Face's weight files: a length, a JSON header, then the tensors' bytes.

    u64 length of the header
    {"name": {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [begin, end]}, ...}
    the bytes; offsets count from here and leave no gap

Format: https://github.com/huggingface/safetensors#format. It is read by hand because the package's numpy face
has no bfloat16, and because nothing in a header may be believed before it is checked. A folder may hold one
`model.safetensors` or several with `model.safetensors.index.json`. Not covered: 8-bit and packed types,
pickled weights (they run code when opened).
"""

import json
import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import atomic_write
from twofold.base.names import unknown
from twofold.parameters import quantise
from twofold.parameters.blocks import Bytes, Floats
from twofold.parameters.gguf import Source

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
WRITABLE = ("F32", "F16", "BF16")
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
_MOST_HEADER = 100_000_000  # bytes; the limit of the reference reader


@dataclass(frozen=True)
class Tensor:
    """A tensor in a file: `data` are its bytes (uint8 [n], a view of the mapped file)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Bytes = field(repr=False)

    def float32(self) -> Floats:
        """Return the numbers, float32 of `shape`. Raises BadFileError for a dtype that holds no weights."""
        if self.dtype in WRITABLE:
            return quantise.dequantise(self.data, self.dtype, self.shape)
        if self.dtype == "F64":
            return np.ascontiguousarray(self.data).view("<f8").astype(np.float32).reshape(self.shape)
        raise BadFileError(f"The tensor {self.name!r} has the type {self.dtype}, which is not for weights.")


def read(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of one file by name. Raises BadFileError for a missing or damaged file."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BadFileError(f"Cannot read the weights {path}: {error.strerror}.") from error
    except ValueError as error:  # mmap's word for a file of no bytes
        raise BadFileError(f"{path} is empty: fetch it again.") from error
    length = struct.unpack("<Q", mapped[:8])[0] if len(mapped) >= 8 else len(mapped)
    if length > min(_MOST_HEADER, len(mapped) - 8):
        raise _damaged(path, "its header is longer than the file")
    try:
        header = json.loads(mapped[8 : 8 + length].decode(), object_pairs_hook=_no_doubles)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    start = 8 + length
    entries = [(name, *_entry(path, name, entry)) for name, entry in header.items()]
    at = 0
    tensors: dict[str, Tensor] = {}
    for name, dtype, shape, begin, end in sorted(entries, key=lambda entry: (entry[3], entry[4])):
        if begin != at or start + end > len(mapped):
            raise _damaged(path, f"the tensor {name!r} does not lie where it should")
        tensors[name] = Tensor(
            name, shape, dtype, np.frombuffer(mapped, np.uint8, end - begin, start + begin)
        )
        at = end
    if start + at != len(mapped):
        raise _damaged(path, f"it has {len(mapped)} bytes instead of {start + at}")
    return tensors


def read_folder(folder: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a model folder by name, from one file or from all that its index names.

    Raises BadFileError when there are none or when the index does not fit the files.
    """
    folder = Path(folder)
    index = folder / INDEX
    if not index.exists():
        if not (folder / SINGLE).exists():
            raise BadFileError(f"{folder} holds no {SINGLE}: twofold reads weights in that format only.")
        return read(folder / SINGLE)
    try:
        places = json.loads(index.read_bytes().decode())["weight_map"]
        names = {str(name): str(place) for name, place in places.items()}
    except OSError as error:
        raise BadFileError(f"Cannot read {index}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(index, "it has no weight_map of tensor to file") from error
    files: dict[str, dict[str, Tensor]] = {}
    for place in sorted(set(names.values())):
        if Path(place).name != place or not place.endswith(".safetensors"):
            raise _damaged(index, f"it names the file {place!r}, which is not a neighbour")
        files[place] = read(folder / place)
    missing = [name for name, place in names.items() if name not in files[place]]
    if missing:
        raise _damaged(index, f"{names[missing[0]]} lacks the tensor {missing[0]!r}")
    return {name: files[place][name] for name, place in names.items()}


def write(path: str | Path, tensors: Mapping[str, Source], dtype: str) -> None:
    """Write one file atomically, each tensor made, converted to `dtype` (F32, F16, BF16) and written in turn.

    Raises UsageError for another dtype, TwofoldError for numbers that it cannot hold.
    """
    if dtype not in WRITABLE:
        raise UsageError(unknown("dtype for safetensors", dtype, WRITABLE))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers insists on this entry
    at = 0
    for name, source in tensors.items():
        end = at + math.prod(source.shape) * _SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(source.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for source in tensors.values():
            file.write(quantise.quantise(source.float32(), dtype).data)


def _damaged(path: Path, what: str) -> BadFileError:
    return BadFileError(f"{path} is damaged: {what}; fetch it again.")


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice")
    return result


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Return dtype, shape, begin and end of one tensor, each checked."""
    if not isinstance(entry, dict):
        raise _damaged(path, f"the entry of {name!r} is not an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _SIZES:
        raise BadFileError(
            f"The tensor {name!r} in {path} has the type {dtype!r}, which twofold does not read: "
            f"take weights in {', '.join(WRITABLE)}."
        )
    if not (_is_lengths(shape) and _is_lengths(offsets) and len(offsets) == 2 and len(shape) <= 8):
        raise _damaged(path, f"the shape or place of the tensor {name!r} makes no sense")
    if offsets[1] - offsets[0] != math.prod(shape) * _SIZES[dtype]:
        raise _damaged(path, f"the tensor {name!r} of shape {shape} has the wrong number of bytes")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _is_lengths(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 60 for item in value)
