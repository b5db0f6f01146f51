"""What the dense families share: the keys of config.json, the names of tensors, the order of rotary rows.

Hugging Face keeps the two halves that rotary positions turn together D/2 rows apart (i with i + D/2). GGUF's
"llama" wants them as neighbours (2i, 2i + 1), so the rows of each query and key head are shuffled on the way,
as llama.cpp's converter does.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from twofold.base.errors import BadFileError
from twofold.parameters.blocks import Floats
from twofold.parameters.config import ModelConfig, RopeScaling

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FIELDS = {  # ModelConfig -> config.json
    "vocab_size": "vocab_size",
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "ffn": "intermediate_size",
    "context": "max_position_embeddings",
    "rms_eps": "rms_norm_eps",
    "tied": "tie_word_embeddings",
}


def hf_name(name: str, own: Mapping[str, str] | None = None) -> str:
    """Return Hugging Face's name of the tensor that GGUF calls `name`; `own`: a family's names of parts."""
    if name in _TOP:
        return _TOP[name]
    _, layer, part, kind = name.split(".")
    return f"model.layers.{layer}.{(own or {}).get(part) or _BLOCK[part]}.{kind}"


def read(
    config: Mapping[str, Any],
    architecture: str,
    family: str,
    defaults: Mapping[str, Any],
    activation: str = "silu",
) -> ModelConfig:
    """Return the shape in a config.json; `defaults` are the family's own for keys that are left out.

    Raises BadFileError for a missing or impossible setting, or one that twofold cannot run.
    """
    settings = {**defaults, **{key: value for key, value in config.items() if value is not None}}
    if settings.get("hidden_act", activation) != activation:
        raise BadFileError(
            f"The model's hidden_act is {settings['hidden_act']!r}; twofold runs {activation!r} only."
        )
    if settings.get("quantization_config"):
        raise BadFileError(
            "The model's weights are quantised by a scheme that twofold does not read: take the original."
        )
    if settings.get("mlp_bias"):
        raise BadFileError("The model has mlp_bias, which no family here runs with.")
    heads, width = settings.get("num_attention_heads"), settings.get("hidden_size")
    settings.setdefault("num_key_value_heads", heads)
    if type(heads) is int and type(width) is int and heads > 0:
        settings.setdefault("head_dim", width // heads)
    missing = [key for key in _FIELDS.values() if key not in settings]
    if missing:
        raise BadFileError(f"config.json lacks {', '.join(missing)}: fetch the model again.")
    if not isinstance(settings["tie_word_embeddings"], bool):
        raise BadFileError("config.json's tie_word_embeddings is neither true nor false.")
    theta, scaling = _read_rope(settings)
    return ModelConfig(
        architecture=architecture,
        family=family,
        rope_theta=theta,
        rope_scaling=scaling,
        sliding_window=settings.get("sliding_window"),
        **{field: settings[key] for field, key in _FIELDS.items()},
    )


def _read_rope(settings: Mapping[str, Any]) -> tuple[Any, RopeScaling | None]:
    """Return theta and the stretch; transformers 5 keeps both in rope_parameters, 4 had rope_scaling."""
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise BadFileError(f"config.json's rope settings are {rope!r}, not an object.")
    theta = rope.get("rope_theta", settings.get("rope_theta"))
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind not in ("linear", "llama3"):
        raise BadFileError(f"The model's rope scaling {kind!r} is not supported; linear and llama3 are.")
    keys = {"factor": "factor"}
    if kind == "llama3":
        keys |= {"low_freq_factor": "low_freq_factor", "high_freq_factor": "high_freq_factor"}
        keys["original_context"] = "original_max_position_embeddings"
    values = {field: rope.get(key) for field, key in keys.items()}
    for field, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadFileError(f"config.json's rope setting {keys[field]} is {value!r}, not a number.")
    if type(values.get("original_context", 1)) is not int:
        raise BadFileError("config.json's original_max_position_embeddings is not a whole number.")
    return theta, RopeScaling(type=kind, **{key: value for key, value in values.items() if value is not None})


def write(config: ModelConfig, hf_architecture: str, model_type: str) -> dict[str, Any]:
    """Return the config.json of a shape, without the keys that only one family has."""
    settings: dict[str, Any] = {"architectures": [hf_architecture], "model_type": model_type}
    settings |= {key: getattr(config, field) for field, key in _FIELDS.items()}
    settings |= {"hidden_act": "silu", "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True}
    settings["rope_theta"] = config.rope_theta
    scaling = config.rope_scaling
    if scaling is not None:
        settings["rope_scaling"] = {"rope_type": scaling.type, "factor": scaling.factor}
        if scaling.type == "llama3":
            settings["rope_scaling"] |= {
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_context,
            }
    return settings


def refuse(config: Mapping[str, Any], key: str, why: str) -> None:
    """Raise BadFileError if config.json switches `key` on."""
    if config.get(key):
        raise BadFileError(f"config.json has {key}: {config[key]!r}, and {why}.")


def same_order(name: str, array: Floats, config: ModelConfig) -> Floats:
    """Return `array`: both formats order the rows alike."""
    return array


def to_neighbours(name: str, array: Floats, config: ModelConfig) -> Floats:
    """Return a query or key matrix [heads D, C] with rows i and i + D/2 of each head made neighbours."""
    return _shuffle(name, array, config, (2, config.head_dim // 2))


def to_halves(name: str, array: Floats, config: ModelConfig) -> Floats:
    """Return the inverse of `to_neighbours`."""
    return _shuffle(name, array, config, (config.head_dim // 2, 2))


def _shuffle(name: str, array: Floats, config: ModelConfig, halves: tuple[int, int]) -> Floats:
    if not name.endswith(("attn_q.weight", "attn_k.weight")):
        return array
    by_head = array.reshape(-1, *halves, array.shape[-1])
    return np.ascontiguousarray(by_head.swapaxes(1, 2)).reshape(array.shape)
