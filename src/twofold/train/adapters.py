"""Low-rank adapters: learn a small correction to each matrix instead of the matrix (LoRA).

A matrix W [out, in] stays as it is, and W + (α/r)·B·A is used in its place, A [r, in] drawn at random and B
[out, r] zero at first, so that the first step starts from the model itself (Hu et al. 2021,
arXiv:2106.09685). Only A and B are trained and saved: for a model of a billion weights a checkpoint is tens
of megabytes. When the run ends, the sum is written as an ordinary model.

The sum is made anew in every pass and the graph stays as it is: every family that can be trained can be
adapted, and what `merged` writes is, number for number, what was trained. The price is one matrix of each
kind in memory while a block runs. Not covered: quantised base weights (QLoRA), adapters kept as files of
their own, processes in shards.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from twofold.parameters import ModelConfig
from twofold.train.transformer import Transformer

MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


class Delta(nn.Module):
    """W ↦ W + scale·B·A."""

    def __init__(self, shape: torch.Size, rank: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        out, in_ = shape
        self.scale = scale
        self.a = nn.Parameter(torch.randn(rank, in_, generator=generator) * in_**-0.5)
        self.b = nn.Parameter(torch.zeros(out, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the matrix that is used."""
        return weight + self.scale * (self.b @ self.a)


class Adapted(Transformer):
    """A transformer whose matrices in the blocks are adapted; nothing else of it is trained.

    `named()` gives the adapters alone: they are what the optimiser and the checkpoints hold.
    """

    def __init__(self, config: ModelConfig, *, compute: torch.dtype = torch.float32) -> None:
        super().__init__(config, compute=compute)
        self._deltas: dict[tuple[int, str], Delta] = {}

    def adapt(self, rank: int, seed: int) -> None:
        """Freeze all weights, as they are now, and add adapters with α = 2·rank (a scale of 2)."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for number, block in enumerate(self.blk):
            for name in MATRICES:
                shape = getattr(block, name).shape
                delta = Delta(shape, min(rank, *shape), 2.0, generator)
                parametrize.register_parametrization(block, name, delta)
                self._deltas[number, name] = delta

    def named(self) -> dict[str, nn.Parameter]:
        """Return the adapters by name, as `adapter.3.attn_q.a`; before `adapt`, all weights."""
        found: dict[str, nn.Parameter] = {}
        for (number, name), delta in self._deltas.items():
            found |= {f"adapter.{number}.{name}.a": delta.a, f"adapter.{number}.{name}.b": delta.b}
        return found or super().named()

    def merged(self) -> Transformer:
        """Return an ordinary transformer with the sums as its weights."""
        net = Transformer(self.config, compute=self.compute)
        with torch.no_grad():
            for name, parameter in net.named().items():
                *path, last = name.removesuffix(".weight").split(".")
                module: nn.Module = self.get_submodule(".".join(path)) if path else self
                parameter.copy_(getattr(module, last))
        return net
