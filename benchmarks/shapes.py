"""The shapes that decoding is measured on, with random weights: speed depends on shapes, not on what a model
knows.

Written as Llama-style models, because all three sides (twofold, llama.cpp, llama2.c) run that graph.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twofold.parameters import Model, ModelConfig
from twofold.parameters.tensors import LazyTensors
from twofold.tokens import Tokenizer, Vocabulary
from twofold.tokens.vocabulary import STAND_INS

Floats = npt.NDArray[np.float32]
VOCAB = 32_000
CONTEXT = 1024


@dataclass(frozen=True)
class Shape:
    """A model's shape, and how many tokens to decode so that a measurement takes about half a second."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    tied: bool
    decode_tokens: int
    context: int = CONTEXT

    @property
    def config(self) -> ModelConfig:
        """Return the shape as twofold writes it into a model file."""
        return ModelConfig(
            architecture="llama",
            vocab_size=VOCAB,
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            kv_heads=self.kv_heads,
            head_dim=self.width // self.heads,
            ffn=self.ffn,
            context=self.context,
            rms_eps=1e-5,
            tied=self.tied,
        )


SHAPES = {
    "15M": Shape("15M", 288, 6, 6, 6, 768, True, 256),
    "110M": Shape("110M", 768, 12, 12, 12, 2048, True, 64),
    "1.1B": Shape("1.1B", 2048, 22, 32, 4, 5632, False, 16),
}


@dataclass(frozen=True)
class RandomTensor:
    """A tensor of random numbers, made when they are asked for: 1.1 billion need not be in memory at once."""

    shape: tuple[int, ...]
    numbers: Floats  # one run of normal numbers that all tensors are cut from
    place: int  # where this one begins

    def float32(self) -> Floats:
        """Return the numbers, float32 of `shape`; a norm is all ones."""
        if len(self.shape) == 1:
            return np.ones(self.shape, np.float32)
        return np.resize(np.roll(self.numbers, -self.place), self.shape)


def weights(shape: Shape, seed: int = 0) -> LazyTensors:
    """Return the tensors of a shape by their GGUF names: normal numbers over the square root of the width."""
    numbers = np.random.default_rng(seed).standard_normal(1_000_003, dtype=np.float32)
    numbers *= np.float32(1 / np.sqrt(shape.width))
    sizes = shape.config.shapes()
    return LazyTensors(
        {
            name: RandomTensor(size, numbers, 7919 * i % numbers.size)
            for i, (name, size) in enumerate(sizes.items())
        }
    )


def vocabulary() -> Vocabulary:
    """Return a vocabulary of 32,000 tokens: the bytes, one merge, and fillers no text is split into."""
    tokens = [*STAND_INS, "ab", *(f"filler{number}" for number in range(VOCAB - 258)), "<|endoftext|>"]
    types = [1] * (VOCAB - 1) + [3]
    return Vocabulary(
        kind="bpe", pre="qwen2", tokens=tuple(tokens), types=tuple(types), merges=("a b",), eos_id=VOCAB - 1
    )


def model(shape: Shape) -> Model:
    """Return the model of a shape, its weights made lazily."""
    return Model(shape.config, Tokenizer(vocabulary()), {"name": f"random {shape.name}"}, weights(shape))


def write_llama2c(shape: Shape, path: Path) -> None:
    """Write the same weights in llama2.c's own float32 format (its export.py, version 0)."""
    tensors = weights(shape)
    order = [
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_down",
        "ffn_up",
    ]
    with path.open("wb") as file:
        vocab = VOCAB if shape.tied else -VOCAB  # negative: the output has a matrix of its own
        numbers = (shape.width, shape.ffn, shape.layers, shape.heads, shape.kv_heads, vocab, shape.context)
        file.write(struct.pack("<7i", *numbers))
        file.write(tensors["token_embd.weight"].tobytes())
        for name in order:
            for layer in range(shape.layers):
                file.write(tensors[f"blk.{layer}.{name}.weight"].tobytes())
        file.write(tensors["output_norm.weight"].tobytes())
        file.write(
            bytes(4 * shape.context * shape.config.head_dim)
        )  # tables of angles that are no longer read
        if not shape.tied:
            file.write(tensors["output.weight"].tobytes())
