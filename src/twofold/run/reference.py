"""run.c in numpy: the same transformer on one page, to read first and to check the fast one against.

A token's id picks a row of the embedding table. Each block then adds two things to that vector: what
attention finds in the tokens before (Vaswani et al. 2017, arXiv 1706.03762), and what a gated feed-forward
network makes of the token itself (SwiGLU, arXiv 2002.05202). A last product with the vocabulary gives one
logit for every token that may come next. Positions enter by rotating queries and keys (arXiv 2104.09864);
several heads share a key (grouped queries, arXiv 2305.13245); Qwen3 also normalises queries and keys. Gemma 3
(arXiv 2503.19786) does, and normalises what a block adds too; most of its layers see only a window of tokens.
Phi-3 (arXiv 2404.14219) keeps several matrices in one and turns a part of each head.

Letters: N tokens in the batch, C width, H heads, K key/value heads, D head size, R how much of it positions
turn, F feed-forward width, V vocabulary, T positions. Not covered: speed, half precision, threads.
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
        far = c.rope_scaling is not None and context > c.rope_scaling.original_context
        names = ("rope_freqs.weight", f"rope_factors_{'long' if far else 'short'}.weight")
        factors = next((self.weights[name] for name in names if name in self.weights), None)
        self.turns = {
            False: rotations(c, context, factors)
        }  # cosines and sines, of layers with a window or not
        self.turns[True] = self.turns[False] if c.local_theta is None else local_rotations(c, context)

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
        if c.gemma:
            x_NC = x_NC * np.float32(np.sqrt(c.width))
        for layer in range(c.layers):
            block = f"blk.{layer}."
            h_NC = rms_norm(x_NC, w[block + "attn_norm.weight"], c.rms_eps)
            y_NC = self._attention(layer, h_NC, sequences, positions)
            if c.gemma:
                y_NC = rms_norm(y_NC, w[block + "post_attention_norm.weight"], c.rms_eps)
            x_NC = x_NC + y_NC
            y_NC = self._feed_forward(block, rms_norm(x_NC, w[block + "ffn_norm.weight"], c.rms_eps))
            if c.gemma:
                y_NC = rms_norm(y_NC, w[block + "post_ffw_norm.weight"], c.rms_eps)
            x_NC = x_NC + y_NC
        x_NC = rms_norm(x_NC[np.asarray(wanted, bool)], w["output_norm.weight"], c.rms_eps)
        return self._product("token_embd" if c.tied else "output", x_NC)

    def _feed_forward(self, block: str, h_NC: Floats) -> Floats:
        if self.config.fused:
            gate_NF, up_NF = np.split(self._product(block + "ffn_up", h_NC), 2, axis=-1)
        else:
            gate_NF, up_NF = self._product(block + "ffn_gate", h_NC), self._product(block + "ffn_up", h_NC)
        slope_NF = 1.5957691 * (gate_NF + 0.044715 * gate_NF**3) if self.config.gemma else gate_NF
        return self._product(block + "ffn_down", gate_NF / (1 + np.exp(-slope_NF)) * up_NF)

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
        q_NHD, k_NKD, v_NKD = self._queries_keys_values(block, x_NC)
        if c.qk_norm:
            q_NHD = rms_norm(q_NHD, w[block + "attn_q_norm.weight"], c.rms_eps)
            k_NKD = rms_norm(k_NKD, w[block + "attn_k_norm.weight"], c.rms_eps)
        slides = c.slides(layer)
        q_NHD, k_NKD = self._rotate(q_NHD, positions, slides), self._rotate(k_NKD, positions, slides)
        for n, (sequence, position) in enumerate(zip(sequences, positions, strict=True)):
            self.keys_LSTKD[layer, sequence, position] = self._kept(k_NKD[n])
            self.values_LSTKD[layer, sequence, position] = self._kept(v_NKD[n])
        out_NHD = np.empty_like(q_NHD)
        for n, (sequence, position) in enumerate(zip(sequences, positions, strict=True)):
            first = max(0, position + 1 - (c.sliding_window or 0)) if slides else 0
            keys_TKD = self.keys_LSTKD[layer, sequence, first : position + 1]
            values_TKD = self.values_LSTKD[layer, sequence, first : position + 1]
            q_KGD = q_NHD[n].reshape(c.kv_heads, c.heads // c.kv_heads, c.head_dim)
            scores_KGT = np.einsum("kgd,tkd->kgt", q_KGD, keys_TKD) * np.float32(c.scale)
            p_KGT = np.exp(scores_KGT - scores_KGT.max(-1, keepdims=True))
            p_KGT /= p_KGT.sum(-1, keepdims=True)
            out_NHD[n] = np.einsum("kgt,tkd->kgd", p_KGT, values_TKD).reshape(c.heads, c.head_dim)
        return self._product(block + "attn_output", out_NHD.reshape(len(out_NHD), -1))

    def _queries_keys_values(self, block: str, x_NC: Floats) -> list[Floats]:
        c, names = self.config, ("attn_q", "attn_k", "attn_v")
        if c.fused:
            queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
            parts = np.split(self._product(block + "attn_qkv", x_NC), [queries, queries + keys], axis=-1)
        else:
            parts = [self._product(block + name, x_NC) for name in names]
        if c.qkv_bias:
            parts = [y + self.weights[f"{block}{name}.bias"] for name, y in zip(names, parts, strict=True)]
        return [y.reshape(len(x_NC), -1, c.head_dim) for y in parts]

    def _rotate(self, x_NHD: Floats, positions: Sequence[int], slides: bool) -> Floats:
        cosine_N1R, sine_N1R = (table[np.asarray(positions)][:, None] for table in self.turns[slides])
        out_NHD = x_NHD.copy()
        R = self.config.rotary_dim
        pairs = self.config.rope_interleaved  # neighbours, or element i with i + R/2
        first = (..., slice(0, R, 2) if pairs else slice(0, R // 2))
        second = (..., slice(1, R, 2) if pairs else slice(R // 2, R))
        a, b = x_NHD[first], x_NHD[second]
        out_NHD[first], out_NHD[second] = a * cosine_N1R - b * sine_N1R, a * sine_N1R + b * cosine_N1R
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
    """Return the cosines and sines [T, R/2] of every position's rotations."""
    scaling = config.rope_scaling
    slower = scaling.factor if scaling is not None and scaling.type == "linear" else 1.0
    cosine_TR, sine_TR = _turns(config, config.rope_theta, context, slower if factors is None else factors)
    gain = np.float32(1 if scaling is None else scaling.attention_factor)
    return cosine_TR * gain, sine_TR * gain


def local_rotations(config: ModelConfig, context: int) -> tuple[Floats, Floats]:
    """Return the same for layers with a window whose base is their own; it is never stretched."""
    return _turns(config, config.local_theta or config.rope_theta, context, 1.0)


def _turns(config: ModelConfig, theta: float, context: int, slower: float | Floats) -> tuple[Floats, Floats]:
    half = config.rotary_dim // 2
    speed_R = theta ** -(np.arange(half, dtype=np.float64) / half) / slower
    angle_TR = np.arange(context)[:, None] * speed_R
    return np.cos(angle_TR).astype(np.float32), np.sin(angle_TR).astype(np.float32)
