"""Qwen2 and Qwen2.5, dense (Qwen Team, Qwen2 Technical Report, 2024).

Like Llama with biases on queries, keys and values, and rotary pairs half a head apart. Not covered: the
mixture-of-experts sizes, sliding windows.
"""

from collections.abc import Mapping
from typing import Any

from twofold.parameters.config import ModelConfig
from twofold.parameters.families import _decoder
from twofold.parameters.families._decoder import hf_name, same_order

__all__ = ["ARCHITECTURE", "HF_ARCHITECTURE", "MODEL_TYPE", "from_hf", "hf_name", "to_hf"]

ARCHITECTURE = "qwen2"
HF_ARCHITECTURE = "Qwen2ForCausalLM"
MODEL_TYPE = "qwen2"
_DEFAULTS = {
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}

to_gguf_order = to_hf_order = same_order


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Return the shape in a Qwen2 config.json. Raises BadFileError."""
    _decoder.refuse(config, "use_sliding_window", "a window in some layers only is not supported")
    return _decoder.read({**config, "sliding_window": None}, ARCHITECTURE, "qwen2", _DEFAULTS)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a Qwen2 model."""
    settings = _decoder.write(config, HF_ARCHITECTURE, MODEL_TYPE)
    return {**settings, "use_sliding_window": False, "sliding_window": None}
