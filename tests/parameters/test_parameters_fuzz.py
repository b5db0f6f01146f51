"""Thousands of damaged files: each opens or is one sentence; never a crash, a hang or a huge allocation."""

import resource
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from twofold.base.errors import BadFileError
from twofold.parameters import gguf, safetensors
from twofold.parameters.config import ModelConfig
from twofold.parameters.tensors import Held

ROUNDS = 2500
_WORDS = [0, 1, 2, 3, 7, 8, 9, 31, 32, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, 1 << 62, (1 << 64) - 1]


def _mutate(raw: bytes, generator: np.random.Generator) -> bytes:
    """Return `raw` with one to four injuries: changed bytes, absurd numbers, cuts, doubled or lost parts."""
    data = bytearray(raw)
    for _ in range(generator.integers(1, 5)):
        at = int(generator.integers(0, max(1, len(data))))
        kind = generator.integers(0, 6)
        if kind == 0 and data:
            data[at] = int(generator.integers(0, 256))
        elif kind == 1:
            data[at : at + 8] = struct.pack("<Q", int(_WORDS[generator.integers(len(_WORDS))]))
        elif kind == 2:
            data[at : at + 4] = struct.pack("<I", int(_WORDS[generator.integers(12)]))
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = data[at : at + int(generator.integers(1, 64))]
        else:
            del data[at : at + int(generator.integers(1, 16))]
    return bytes(data)


@contextmanager
def _little_memory(more: int) -> Iterator[None]:
    """Let the process map only `more` bytes beyond what it has, so that a huge allocation fails at once."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, old)


def _fuzz(raw: bytes, path: Path, head: int, use: Callable[[Path], None]) -> tuple[int, int]:
    """Return how many damaged files opened and how many did not; most are hurt in the first `head` bytes."""
    generator = np.random.default_rng(11)
    opened, messages = 0, []
    with _little_memory(256 << 20):
        for round_ in range(ROUNDS):
            injured = _mutate(raw[:head], generator) + raw[head:] if round_ % 4 else _mutate(raw, generator)
            path.unlink()  # writing over a file can wait for the disk, a new file does not
            path.write_bytes(injured)
            try:
                use(path)
                opened += 1
            except BadFileError as error:
                messages.append(str(error))
    assert not any("\n" in message for message in messages)
    return opened, len(messages)


def _use_gguf(path: Path) -> None:
    file = gguf.read(path)
    for tensor in file.tensors.values():
        assert tensor.float32().shape == tensor.shape
    ModelConfig.from_gguf(file.metadata, file.tensors)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory use is read from /proc")
def test_damaged_gguf_files_open_or_are_refused(tmp_path: Path) -> None:
    config = ModelConfig(
        architecture="qwen3",
        vocab_size=4,
        layers=1,
        width=32,
        heads=2,
        kv_heads=1,
        head_dim=16,
        ffn=32,
        context=8,
    )
    metadata = {
        **config.to_gguf(),
        "tokenizer.ggml.tokens": ["a", "b", "c", "d"],
        "tokenizer.ggml.scores": [0.5, 1.0],
        "flag": True,
    }
    types = ["Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "F16", "BF16", "F32"]
    tensors = {
        name: (types[number % len(types)], np.ones(shape, dtype=np.float32))
        for number, (name, shape) in enumerate(config.shapes().items())
        if len(shape) == 2
    }
    path = tmp_path / "model.gguf"
    gguf.write(path, metadata, tensors)
    raw = path.read_bytes()
    opened, refused = _fuzz(raw, path, raw.index(b"output.weight") + 40, _use_gguf)
    assert opened > ROUNDS // 50  # the injuries are not all fatal, so the checks behind the header run too
    assert refused > ROUNDS // 2


def _use_safetensors(path: Path) -> None:
    for tensor in safetensors.read(path).values():
        assert tensor.float32().shape == tensor.shape


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory use is read from /proc")
def test_damaged_safetensors_files_open_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    arrays = {f"layer.{number}.weight": np.ones((3, number + 2), dtype=np.float32) for number in range(5)}
    safetensors.write(path, {name: Held(array) for name, array in arrays.items()}, "BF16")
    raw = path.read_bytes()
    opened, refused = _fuzz(raw, path, 8 + struct.unpack("<Q", raw[:8])[0], _use_safetensors)
    assert opened > ROUNDS // 100
    assert refused > ROUNDS // 2
