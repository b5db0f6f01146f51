"""Phi-3, Phi-3.5-mini and Phi-4-mini (Microsoft, 2024, arXiv 2404.14219 and 2503.01743).

The graph of Llama, but queries, keys and values are rows of one matrix, gate and up of another, as in GGUF;
positions turn element i with i + R/2, in Phi-4-mini only three quarters of each head. Contexts longer than
the one it was trained on are reached by LongRoPE (arXiv 2402.13753). Not covered: Phi-1 and 2, Phi-3-small
(block-sparse), mixtures of experts, pictures and sound; Phi-4-mini's tokenizer, which cuts words in a way of
its own.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from twofold.base.errors import BadFileError
from twofold.parameters.config import ModelConfig, RopeScaling, shortest
from twofold.parameters.families import _decoder
from twofold.parameters.families._decoder import same_order

ARCHITECTURE = "phi3"
HF_ARCHITECTURE = "Phi3ForCausalLM"
MODEL_TYPE = "phi3"
_DEFAULTS = {
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
_OWN = {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}

to_gguf_order = to_hf_order = same_order


def hf_name(name: str) -> str:
    """Return Hugging Face's name of the tensor that GGUF calls `name`."""
    return _decoder.hf_name(name, _OWN)


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Return the shape in a Phi-3 config.json. Raises BadFileError."""
    _decoder.refuse(config, "attention_bias", "twofold runs Phi-3 without biases only")
    settings = {**_DEFAULTS, **{key: value for key, value in config.items() if value is not None}}
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise BadFileError(f"config.json's rope settings are {rope!r}, not an object.")
    plain = {**settings, "rope_scaling": None, "rope_parameters": {"rope_theta": _theta(rope, settings)}}
    shape = _decoder.read(plain, ARCHITECTURE, "phi3", {})
    part = rope.get("partial_rotary_factor", settings.get("partial_rotary_factor", 1.0))
    if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
        raise BadFileError(f"config.json's partial_rotary_factor is {part!r}, not a number up to 1.")
    scaling = None
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        scaling = _longrope(rope, settings, shape.context)
    return replace(shape, rotary_dim=int(shape.head_dim * part), rope_scaling=scaling)


def _theta(rope: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    return rope.get("rope_theta", settings["rope_theta"])


def _longrope(rope: Mapping[str, Any], settings: Mapping[str, Any], context: int) -> RopeScaling:
    """Return the stretch; "su" is its first name, and "yarn" in the oldest files means it too."""
    kind = rope.get("rope_type", rope.get("type"))
    original = rope.get("original_max_position_embeddings", settings["original_max_position_embeddings"])
    if kind not in ("longrope", "su", "yarn") or type(original) is not int or original < 2:
        raise BadFileError(f"The model's rope scaling {kind!r} is not supported for Phi-3; longrope is.")
    factor = rope.get("factor") or context / original
    usual = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    short, long = _factors(rope, "short_factor"), _factors(rope, "long_factor")
    gain = shortest(rope.get("attention_factor") or usual)
    return RopeScaling(
        type="longrope", original_context=original, short=short, long=long, attention_factor=gain
    )


def _factors(rope: Mapping[str, Any], name: str) -> tuple[float, ...]:
    numbers = rope.get(name)
    if not isinstance(numbers, list) or not {type(number) for number in numbers} <= {int, float}:
        raise BadFileError(f"config.json's {name} is not a list of numbers.")
    return tuple(shortest(float(number)) for number in numbers)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a Phi-3 model."""
    settings = _decoder.write(replace(config, rope_scaling=None), HF_ARCHITECTURE, MODEL_TYPE)
    scaling = config.rope_scaling
    part = config.rotary_dim / config.head_dim
    settings |= {
        "attention_bias": False,
        "sliding_window": config.sliding_window,
        "partial_rotary_factor": part,
    }
    settings["original_max_position_embeddings"] = scaling.original_context if scaling else config.context
    if scaling is not None:
        settings["rope_scaling"] = {
            "rope_type": "longrope",
            "short_factor": list(scaling.short),
            "long_factor": list(scaling.long),
            "attention_factor": scaling.attention_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    return settings
