"""run.c in numpy: the same transformer on one page, to read first and to check the fast one against.

A token's id picks a row of the embedding table. Each block then adds two things to that vector: what
attention finds in the tokens before (Vaswani et al. 2017, arXiv 1706.03762), and what a gated feed-forward
network makes of the token itself (SwiGLU, arXiv 2002.05202). A last product with the vocabulary gives one
logit for every token that may come next. Positions enter by rotating queries and keys (arXiv 2104.09864);
several heads share a key (grouped queries, arXiv 2305.13245); Qwen3 also normalises queries and keys.

Letters: N tokens in the batch, C width, H heads, K key/value heads, D head size, F feed-forward width,
V vocabulary, T positions. Not covered: speed, half precision, threads.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from twofold.parameters import Model, ModelConfig

Floats = NDArray[np.float32]


class Reference:
    """A model with a key/value cache of `sequences` x `context` tokens; float32 throughout."""

    def __init__(self, model: Model, *, context: int, sequences: int = 1) -> None:
        self.config = model.config
        self.weights: Mapping[str, Floats] = {name: model.tensors[name] for name in model.tensors}
        c = model.config
        shape = (c.layers, sequences, context, c.kv_heads, c.head_dim)
        self.keys_LSTKD, self.values_LSTKD = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self.cosine_TD, self.sine_TD = rotations(c, context, self.weights.get("rope_freqs.weight"))

    def forward(
        self,
        tokens: Sequence[int],
        sequences: Sequence[int],
        positions: Sequence[int],
        wanted: Sequence[bool],
    ) -> Floats:
        """Return the logits [wanted, V] of the wanted ones among N tokens, each at its sequence and position.

        A token sees those before it in its own sequence: from earlier calls, and earlier in this batch.
        """
        c, w = self.config, self.weights
        x_NC = w["token_embd.weight"][np.asarray(tokens)]
        for layer in range(c.layers):
            block = f"blk.{layer}."
            x_NC = x_NC + self._attention(
                layer, rms_norm(x_NC, w[block + "attn_norm.weight"], c.rms_eps), sequences, positions
            )
            h_NC = rms_norm(x_NC, w[block + "ffn_norm.weight"], c.rms_eps)
            gate_NF, up_NF = self._product(block + "ffn_gate", h_NC), self._product(block + "ffn_up", h_NC)
            x_NC = x_NC + self._product(block + "ffn_down", gate_NF / (1 + np.exp(-gate_NF)) * up_NF)
        x_NC = rms_norm(x_NC[np.asarray(wanted, bool)], w["output_norm.weight"], c.rms_eps)
        return self._product("token_embd" if c.tied else "output", x_NC)

    def _product(self, name: str, x_NC: Floats) -> Floats:
        """Return x times the matrix `name`; tests override it to round as run.c does."""
        out: Floats = x_NC @ self.weights[name + ".weight"].T
        return out

    def _kept(self, x_NKD: Floats) -> Floats:
        """Return keys or values as the cache keeps them."""
        return x_NKD

    def _attention(
        self, layer: int, x_NC: Floats, sequences: Sequence[int], positions: Sequence[int]
    ) -> Floats:
        c, w, block = self.config, self.weights, f"blk.{layer}."
        q_NHD = self._project(block + "attn_q", x_NC, c.heads)
        k_NKD = self._project(block + "attn_k", x_NC, c.kv_heads)
        v_NKD = self._project(block + "attn_v", x_NC, c.kv_heads)
        if c.qk_norm:
            q_NHD = rms_norm(q_NHD, w[block + "attn_q_norm.weight"], c.rms_eps)
            k_NKD = rms_norm(k_NKD, w[block + "attn_k_norm.weight"], c.rms_eps)
        q_NHD, k_NKD = self._rotate(q_NHD, positions), self._rotate(k_NKD, positions)
        for n, (sequence, position) in enumerate(zip(sequences, positions, strict=True)):
            self.keys_LSTKD[layer, sequence, position] = self._kept(k_NKD[n])
            self.values_LSTKD[layer, sequence, position] = self._kept(v_NKD[n])
        out_NHD = np.empty_like(q_NHD)
        for n, (sequence, position) in enumerate(zip(sequences, positions, strict=True)):
            keys_TKD = self.keys_LSTKD[layer, sequence, : position + 1]
            values_TKD = self.values_LSTKD[layer, sequence, : position + 1]
            q_KGD = q_NHD[n].reshape(c.kv_heads, c.heads // c.kv_heads, c.head_dim)
            scores_KGT = np.einsum("kgd,tkd->kgt", q_KGD, keys_TKD) / np.float32(np.sqrt(c.head_dim))
            p_KGT = np.exp(scores_KGT - scores_KGT.max(-1, keepdims=True))
            p_KGT /= p_KGT.sum(-1, keepdims=True)
            out_NHD[n] = np.einsum("kgt,tkd->kgd", p_KGT, values_TKD).reshape(c.heads, c.head_dim)
        return self._product(block + "attn_output", out_NHD.reshape(len(out_NHD), -1))

    def _project(self, name: str, x_NC: Floats, heads: int) -> Floats:
        y = self._product(name, x_NC)
        if self.config.qkv_bias:
            y = y + self.weights[name + ".bias"]
        out_NHD: Floats = y.reshape(len(x_NC), heads, self.config.head_dim)
        return out_NHD

    def _rotate(self, x_NHD: Floats, positions: Sequence[int]) -> Floats:
        cosine_N1D, sine_N1D = (
            table[np.asarray(positions)][:, None] for table in (self.cosine_TD, self.sine_TD)
        )
        out_NHD = np.empty_like(x_NHD)
        half = self.config.head_dim // 2
        pairs = self.config.rope_interleaved  # neighbours, or element i with i + D/2
        first = (..., slice(0, None, 2) if pairs else slice(0, half))
        second = (..., slice(1, None, 2) if pairs else slice(half, None))
        a, b = x_NHD[first], x_NHD[second]
        out_NHD[first], out_NHD[second] = a * cosine_N1D - b * sine_N1D, a * sine_N1D + b * cosine_N1D
        return out_NHD

    def copy(self, source: int, target: int, length: int) -> None:
        """Let sequence `target` begin with the first `length` tokens of `source`."""
        for cache in (self.keys_LSTKD, self.values_LSTKD):
            cache[:, target, :length] = cache[:, source, :length]


def rms_norm(x: Floats, weight: Floats, eps: float) -> Floats:
    """Return x [..., n] scaled to a root mean square of 1, times weight [n] (arXiv 1910.07467)."""
    out: Floats = x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps)) * weight
    return out


def rotations(config: ModelConfig, context: int, factors: Floats | None) -> tuple[Floats, Floats]:
    """Return the cosines and sines [T, D/2] of every position's rotations."""
    half = config.head_dim // 2
    speed_D = config.rope_theta ** -(np.arange(half, dtype=np.float64) / half)
    if config.rope_scaling is not None and config.rope_scaling.type == "linear":
        speed_D /= config.rope_scaling.factor
    if factors is not None:
        speed_D /= factors
    angle_TD = np.arange(context)[:, None] * speed_D
    return np.cos(angle_TD).astype(np.float32), np.sin(angle_TD).astype(np.float32)
