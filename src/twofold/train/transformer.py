"""The transformer being trained: Qwen3's dense graph in torch.

A token becomes a vector; each block lets every position look back at earlier ones (attention) and then think
about what it saw (a gated feed-forward net); the last vector becomes one score per token of the vocabulary.
Parts: RMSNorm before each half-block (Zhang & Sennrich 2019, arXiv:1910.07467), rotary positions in the
half-split layout (Su et al. 2021, arXiv:2104.09864), grouped-query attention (Ainslie et al. 2023,
arXiv:2305.13245), norms on queries and keys (Dehghani et al. 2023, arXiv:2302.05442, section 2), SwiGLU
(Shazeer 2020, arXiv:2002.05202), as put together in Qwen3 (arXiv:2505.09388, section 2).

Parameters are float32; products run in `compute` (bfloat16 where the hardware has it). Several documents may
share a row: with `documents` given, nobody sees across a border. Positions count from the start of the row
rather than of the document, which is the same thing: rotary attention depends on differences only.

Not covered: dropout, key-value caches (training reads whole rows), families other than Qwen3 and, without the
norms on queries and keys, Llama.

Letters: B rows, T positions, N = B·T, D width, H heads, K key heads, G = H/K, E head size, F feed-forward
size, V vocabulary.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from twofold.parameters import ModelConfig
from twofold.train.functions import HeadLoss

ATTENTION_BLOCK = 128  # queries per block; keys after the block are never multiplied


class Block(nn.Module):
    """One layer: attention and feed-forward net, each added to the stream of vectors that passes through."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        D, E, F_ = config.width, config.head_dim, config.ffn
        self.heads, self.kv_heads, self.head_dim, self.eps = config.heads, config.kv_heads, E, config.rms_eps
        self.attn_norm = nn.Parameter(torch.ones(D))
        self.attn_q = nn.Parameter(torch.empty(config.heads * E, D))
        self.attn_k = nn.Parameter(torch.empty(config.kv_heads * E, D))
        self.attn_v = nn.Parameter(torch.empty(config.kv_heads * E, D))
        self.attn_q_norm = nn.Parameter(torch.ones(E)) if config.qk_norm else None
        self.attn_k_norm = nn.Parameter(torch.ones(E)) if config.qk_norm else None
        self.attn_output = nn.Parameter(torch.empty(D, config.heads * E))
        self.ffn_norm = nn.Parameter(torch.ones(D))
        self.ffn_gate = nn.Parameter(torch.empty(F_, D))
        self.ffn_up = nn.Parameter(torch.empty(F_, D))
        self.ffn_down = nn.Parameter(torch.empty(D, F_))

    def forward(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor, bias: Tensor) -> Tensor:
        """Return the stream after this layer; `bias` [B or 1, 1, 1, T, T] is 0 where looking is allowed."""
        x_BTD = x_BTD + self._attention(rms_norm(x_BTD, self.attn_norm, self.eps), cos_TE, sin_TE, bias)
        return x_BTD + self._feed_forward(rms_norm(x_BTD, self.ffn_norm, self.eps))

    def _attention(self, x_BTD: Tensor, cos_TE: Tensor, sin_TE: Tensor, bias: Tensor) -> Tensor:
        B, T, _ = x_BTD.shape
        H, K, E = self.heads, self.kv_heads, self.head_dim
        # One product for all three: larger products run closer to the machine's peak.
        weight = torch.cat([self.attn_q, self.attn_k, self.attn_v]).to(x_BTD.dtype)
        q, k, v = torch.split(F.linear(x_BTD, weight), [H * E, K * E, K * E], dim=-1)
        q_BTHE, k_BTKE, v_BTKE = q.view(B, T, H, E), k.view(B, T, K, E), v.view(B, T, K, E)
        if self.attn_q_norm is not None and self.attn_k_norm is not None:
            q_BTHE = rms_norm(q_BTHE, self.attn_q_norm, self.eps)
            k_BTKE = rms_norm(k_BTKE, self.attn_k_norm, self.eps)
        q_BTHE, k_BTKE = rotate(q_BTHE, cos_TE, sin_TE), rotate(k_BTKE, cos_TE, sin_TE)
        y_BTHE = attend(q_BTHE, k_BTKE, v_BTKE, bias)
        return F.linear(y_BTHE.reshape(B, T, H * E), self.attn_output.to(x_BTD.dtype))

    def _feed_forward(self, x_BTD: Tensor) -> Tensor:
        weight = torch.cat([self.ffn_gate, self.ffn_up]).to(x_BTD.dtype)
        gate_BTF, up_BTF = F.linear(x_BTD, weight).chunk(2, dim=-1)
        return F.linear(F.silu(gate_BTF) * up_BTF, self.ffn_down.to(x_BTD.dtype))


class Transformer(nn.Module):
    """Token ids to the loss of each next token. `named()` gives the parameters by their names in GGUF."""

    cos_TE: Tensor  # noqa: N815
    sin_TE: Tensor  # noqa: N815

    def __init__(self, config: ModelConfig, *, compute: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.compute, self.compiled = config, compute, False
        self.token_embd = nn.Parameter(torch.empty(config.vocab_size, config.width))
        self.blk = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.output_norm = nn.Parameter(torch.ones(config.width))
        self.output = None if config.tied else nn.Parameter(torch.empty(config.vocab_size, config.width))
        cos_TE, sin_TE = rotary_table(config.context, config.head_dim, config.rope_theta)
        self.register_buffer("cos_TE", cos_TE, persistent=False)
        self.register_buffer("sin_TE", sin_TE, persistent=False)

    def initialise(self, seed: int) -> None:
        """Draw the starting weights from `seed`, the same on every machine and device.

        Matrices that write into the stream start at zero, so that every block begins as the identity and
        depth costs nothing at first (Zhang et al. 2019, arXiv:1901.09321); the head starts small.
        """
        generator = torch.Generator().manual_seed(seed)

        def normal(parameter: Tensor, std: float) -> None:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)

        with torch.no_grad():
            for name, parameter in self.named().items():
                if parameter.ndim == 1:
                    parameter.fill_(1.0)
                elif name.endswith(("attn_output.weight", "ffn_down.weight")):
                    parameter.zero_()
                elif name == "output.weight":
                    normal(parameter, 0.01)
                elif name == "token_embd.weight":
                    normal(parameter, 0.1 if self.output is None else 0.5)
                else:
                    normal(parameter, 0.6 * parameter.shape[1] ** -0.5)

    def compile_blocks(self, backend: str | Callable[..., Any] = "inductor") -> None:
        """Let torch's compiler fuse what is between the products of a block, at the first step that comes.

        All blocks are one program, so it is compiled once. The first step raises what the compiler raises.
        """
        self.compiled = True
        for block in self.blk:
            block.compile(dynamic=False, backend=backend)

    def named(self) -> dict[str, nn.Parameter]:
        """Return all parameters by their canonical (GGUF) names; a tied head is not listed twice."""
        return {f"{name}.weight": parameter for name, parameter in self.named_parameters()}

    def forward(self, ids_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Return the final normed vectors [B, T, D] in `compute`.

        `ids_BT`: int64 token ids, T at most the model's context. `documents_BT`: any number per document in
        the row; positions with different numbers do not see each other.
        """
        T = ids_BT.shape[1]
        cos_TE, sin_TE = self.cos_TE[:T].to(self.compute), self.sin_TE[:T].to(self.compute)
        bias = attention_bias(T, documents_BT, self.compute, ids_BT.device)
        x_BTD = F.embedding(ids_BT, self.token_embd).to(self.compute)
        for block in self.blk:
            # Only steps are worth compiling for: held-out rows and samples come in many shapes.
            layer = block.forward if self.compiled and not torch.is_grad_enabled() else block
            x_BTD = layer(x_BTD, cos_TE, sin_TE, bias)
        return rms_norm(x_BTD, self.output_norm, self.config.rms_eps)

    @property
    def head(self) -> Tensor:
        """The matrix [V, D] that turns a vector into one score per token."""
        return self.token_embd if self.output is None else self.output

    def logits(self, ids_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Return float32 logits [B, T, V]."""
        return F.linear(self(ids_BT, documents_BT).float(), self.head)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Return the summed loss in nats over the targets that are not negative (float32 scalar)."""
        x_BTD = self(ids_BT, documents_BT)
        total: Tensor = HeadLoss.apply(x_BTD.flatten(0, 1), self.head, targets_BT.flatten())  # type: ignore[no-untyped-call]
        return total


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Return `x` scaled to a root mean square of 1 along its last axis, times `weight`."""
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def rotary_table(context: int, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [T, 1, E] of position × frequency, for pairs (i, i + E/2); sines signed."""
    frequency_E = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle_TE = torch.arange(context, dtype=torch.float64)[:, None, None] * frequency_E
    cos, sin = angle_TE.cos().float(), angle_TE.sin().float()
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def rotate(x_BTHE: Tensor, cos_TE: Tensor, sin_TE: Tensor) -> Tensor:
    """Return `x_BTHE` with each pair (i, i + E/2) turned by its position's angle."""
    return x_BTHE * cos_TE + x_BTHE.roll(x_BTHE.shape[-1] // 2, -1) * sin_TE


def attention_bias(T: int, documents_BT: Tensor | None, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return [B or 1, 1, 1, T, T]: 0 where query t may see key s (s ≤ t, same document), else −∞."""
    allowed = torch.ones(T, T, dtype=torch.bool, device=device).tril()[None]
    if documents_BT is not None:
        allowed = allowed & (documents_BT[:, :, None] == documents_BT[:, None, :])
    bias = torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, -math.inf)
    return bias[:, None, None]


def attend(q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, bias: Tensor) -> Tensor:
    """Return causal attention [B, T, H, E], computed in blocks of queries with plain products.

    A block of queries only meets keys up to its end, which saves almost half of the work; the heads that
    share a key head are stacked into one product. On a CPU this beats torch's fused kernel (docs/log.md).
    """
    B, T, H, E = q_BTHE.shape
    K = k_BTKE.shape[2]
    G = H // K
    q = (q_BTHE * E**-0.5).view(B, T, K, G, E).permute(0, 2, 3, 1, 4)
    k = k_BTKE.transpose(1, 2)
    v = v_BTKE.transpose(1, 2)
    parts = []
    for start in range(0, T, ATTENTION_BLOCK):
        end = min(start + ATTENTION_BLOCK, T)
        size = end - start
        q_block = q[:, :, :, start:end].reshape(B, K, G * size, E)
        score = (q_block @ k[:, :, :end].transpose(-1, -2)).view(B, K, G, size, end)
        weight = (score + bias[..., start:end, :end]).softmax(-1)
        part = weight.view(B, K, G * size, end) @ v[:, :, :end]
        parts.append(part.view(B, K, G, size, E))
    return torch.cat(parts, 3).permute(0, 3, 1, 2, 4).reshape(B, T, H, E)
