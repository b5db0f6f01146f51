"""Tensors that become float32 numbers only when somebody asks for them.

A model of seven billion weights is 28 GB as float32 but 4 to 8 GB on the disk, so `Model.tensors` holds
recipes: where the bytes are and what to do with them. Nothing is kept after it was handed out.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from twofold.parameters.blocks import Floats
from twofold.parameters.gguf import Source


@dataclass(frozen=True)
class Changed:
    """The tensor `source` after a change that keeps its shape, such as another order of rows."""

    source: Source
    change: Callable[[Floats], Floats]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def float32(self) -> Floats:
        """Return the changed numbers, float32 of the same shape."""
        return self.change(self.source.float32())


@dataclass(frozen=True)
class Held:
    """A tensor that is in memory already."""

    array: Floats

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def float32(self) -> Floats:
        """Return the array as float32, without a copy where it is."""
        return np.asarray(self.array, dtype=np.float32)


class LazyTensors(Mapping[str, Floats]):
    """A mapping of name -> float32 array that makes each array when it is looked up."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = dict(sources)

    def __getitem__(self, name: str) -> Floats:
        return self.sources[name].float32()

    def __contains__(self, name: object) -> bool:
        return name in self.sources  # Mapping's own would make the array to find out

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)


def source_of(tensors: Mapping[str, Floats], name: str) -> Source:
    """Return the tensor `name` as something with a shape, without making its numbers if they are lazy."""
    return tensors.sources[name] if isinstance(tensors, LazyTensors) else Held(tensors[name])
