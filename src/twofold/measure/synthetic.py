"""Model files with random weights of a given shape and type, made in a moment, to time the engine on.

Speed depends on a model's shape and on how its weights are stored, not on what it knows. So that a file of a
gigabyte takes about a second, one run of random numbers is quantised once, and every tensor is cut from it.

Not covered: weights that mean anything, and a tokenizer that splits text as people's do.
"""

from pathlib import Path

import numpy as np

from twofold.parameters import Model, ModelConfig, gguf, quantise
from twofold.parameters.model import save_gguf, tensor_type
from twofold.parameters.tensors import LazyTensors
from twofold.tokens import Tokenizer, Vocabulary
from twofold.tokens.vocabulary import CONTROL, NORMAL, STAND_INS

LEAST_VOCABULARY = len(STAND_INS) + 2
_RUN = 1 << 18  # random numbers, a multiple of every block; tensors begin at different places in them
_STRIDE = 7  # blocks between the beginnings of two tensors


def write(config: ModelConfig, path: Path, type: str = "Q8_0") -> Path:
    """Return `path`, now a GGUF file of `config` with random weights, stored as a file of `type` is.

    Raises UsageError for an unknown type or a vocabulary that is too small, OSError when the disk is full.
    """
    numbers = np.random.default_rng(0).standard_normal(_RUN, dtype=np.float32)
    numbers *= np.float32(config.width**-0.5)
    sizes: dict[str, int] = {}  # the bytes of the largest tensor of each type
    types: dict[str, str] = {}
    for name, shape in config.shapes().items():
        types[name] = tensor_type(name, shape, type, config.layers)
        sizes[types[name]] = max(sizes.get(types[name], 0), _bytes(types[name], shape))
    runs = {}
    for kind, most in sizes.items():
        run = quantise.quantise(np.ones(_RUN, np.float32) if kind == "F32" else numbers, kind)
        margin = _STRIDE * len(types) * quantise.form(kind).size
        runs[kind] = np.resize(run, most + margin)
    tensors = {}
    for number, (name, shape) in enumerate(config.shapes().items()):
        kind = types[name]
        start = _STRIDE * number * quantise.form(kind).size
        data = runs[kind][start : start + _bytes(kind, shape)]
        tensors[name] = gguf.Tensor(name, shape, kind, data)
    model = Model(config, Tokenizer(_vocabulary(config.vocab_size)), {"name": "random"}, LazyTensors(tensors))
    save_gguf(model, path, type)
    return path


def _bytes(type: str, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape[:-1], dtype=np.int64)) * quantise.row_bytes(type, shape[-1])


def _vocabulary(size: int) -> Vocabulary:
    """Return a vocabulary of `size` tokens: the bytes, one merge, and fillers no text is split into."""
    assert size >= LEAST_VOCABULARY
    fillers = (f"filler{number}" for number in range(size - LEAST_VOCABULARY))
    tokens = (*STAND_INS, "ab", *fillers, "<|endoftext|>")
    types = (NORMAL,) * (size - 1) + (CONTROL,)
    return Vocabulary(kind="bpe", pre="qwen2", tokens=tokens, types=types, merges=("a b",), eos_id=size - 1)
