"""Gemma 3, text (Gemma Team, 2025, arXiv 2503.19786).

Five of six layers see only a window of tokens and have a rotary base of their own; norms stand before and
after attention and feed-forward, and on each query and key head; the gate is a GELU in its tanh form;
embeddings are scaled by the square root of the width. GGUF holds the norms' weights with the 1 that Hugging
Face adds when it runs them. Not covered: folders that hold pictures' weights too (their GGUF files open),
Gemma 1, 2, 3n and 4, softcapped logits.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from twofold.base.errors import BadFileError
from twofold.parameters.blocks import Floats
from twofold.parameters.config import ModelConfig, shortest
from twofold.parameters.families import _decoder

ARCHITECTURE = "gemma3"
HF_ARCHITECTURE = "Gemma3ForCausalLM"
MODEL_TYPE = "gemma3_text"
_ACTIVATION = "gelu_pytorch_tanh"
_PATTERN = 6
_DEFAULTS = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
}
_OWN = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def hf_name(name: str) -> str:
    """Return Hugging Face's name of the tensor that GGUF calls `name`."""
    return _decoder.hf_name(name, _OWN)


def to_gguf_order(name: str, array: Floats, config: ModelConfig) -> Floats:
    """Return a norm's weights with the 1 added, and other tensors as they are."""
    return array + np.float32(1) if name.endswith("norm.weight") else array


def to_hf_order(name: str, array: Floats, config: ModelConfig) -> Floats:
    """Return the inverse of `to_gguf_order`."""
    return array - np.float32(1) if name.endswith("norm.weight") else array


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Return the shape in a Gemma 3 config.json. Raises BadFileError."""
    for key in (
        "attention_bias",
        "use_bidirectional_attention",
        "attn_logit_softcapping",
        "final_logit_softcapping",
    ):
        _decoder.refuse(config, key, "twofold runs Gemma 3 without it only")
    settings = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    local = _split_rope(settings)
    shape = _decoder.read(
        {**settings, "hidden_act": settings.pop("hidden_activation", settings.get("hidden_act", _ACTIVATION)),
         "sliding_window": None}, ARCHITECTURE, "gemma3", {}, _ACTIVATION,
    )  # fmt: skip
    pattern = _pattern(settings, shape.layers)
    window = settings.get("sliding_window", 4096) if pattern > 1 else None
    scalar = settings["query_pre_attn_scalar"]
    if isinstance(scalar, bool) or not isinstance(scalar, int | float) or scalar <= 0:
        raise BadFileError(f"config.json's query_pre_attn_scalar is {scalar!r}, not a positive number.")
    return replace(
        shape,
        sliding_window=window,
        window_pattern=pattern if window else None,
        local_theta=local if window else None,
        attention_scale=None if scalar == shape.head_dim else shortest(scalar**-0.5),
    )


def _split_rope(settings: dict[str, Any]) -> Any:
    """Return the rotary base of layers with a window; the settings keep that of the others, flat."""
    rope = settings.get("rope_parameters")
    if isinstance(rope, Mapping) and "full_attention" in rope:  # transformers 5
        settings["rope_parameters"] = {"rope_theta": 1e6, **(rope["full_attention"] or {})}
        return {"rope_theta": 1e4, **(rope.get("sliding_attention") or {})}["rope_theta"]
    settings.setdefault("rope_theta", 1e6)
    return settings.get("rope_local_base_freq", 1e4)


def _pattern(settings: Mapping[str, Any], layers: int) -> int:
    """Return the number n for which each n-th layer sees everything. Raises BadFileError."""
    types = settings.get("layer_types")
    pattern = settings.get("sliding_window_pattern", settings.get("_sliding_window_pattern", _PATTERN))
    if isinstance(types, list) and "full_attention" in types:
        pattern = types.index("full_attention") + 1
    if type(pattern) is not int or pattern < 1:
        raise BadFileError(f"config.json's sliding_window_pattern is {pattern!r}, not a whole number.")
    expected = ["sliding_attention" if (layer + 1) % pattern else "full_attention" for layer in range(layers)]
    if types is not None and types != expected:
        raise BadFileError("config.json's layer_types follow no simple pattern, and twofold runs no other.")
    return pattern


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a Gemma 3 model."""
    settings = _decoder.write(config, HF_ARCHITECTURE, MODEL_TYPE)
    pattern = config.window_pattern or 1
    kinds = [
        "sliding_attention" if config.slides(layer) else "full_attention" for layer in range(config.layers)
    ]
    scalar = config.scale**-2
    del settings["hidden_act"]
    return {
        **settings,
        "hidden_activation": _ACTIVATION,
        "attention_bias": False,
        "sliding_window": config.sliding_window or 4096,
        "sliding_window_pattern": pattern,
        "layer_types": kinds,
        "rope_local_base_freq": config.local_theta or 1e4,
        "query_pre_attn_scalar": round(scalar) if abs(scalar - round(scalar)) < 1e-3 else scalar,
    }
