"""Llama 1 to 3, and what was built alike (SmolLM2, TinyLlama) (Touvron et al. 2023; Llama Team, 2024).

Grouped-query attention without biases or head norms, SwiGLU; rotary pairs are neighbours in GGUF. Not
covered: Llama 4, variants with biases.
"""

from collections.abc import Mapping
from typing import Any

from twofold.parameters.config import ModelConfig
from twofold.parameters.families import _decoder
from twofold.parameters.families._decoder import hf_name, to_halves, to_neighbours

__all__ = ["ARCHITECTURE", "HF_ARCHITECTURE", "MODEL_TYPE", "from_hf", "hf_name", "to_hf"]

ARCHITECTURE = "llama"
HF_ARCHITECTURE = "LlamaForCausalLM"
MODEL_TYPE = "llama"
_DEFAULTS = {
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}

to_gguf_order, to_hf_order = to_neighbours, to_halves


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Return the shape in a Llama config.json. Raises BadFileError."""
    _decoder.refuse(config, "attention_bias", "twofold runs Llama without biases only")
    return _decoder.read({**config, "sliding_window": None}, ARCHITECTURE, "llama", _DEFAULTS)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a Llama model."""
    settings = _decoder.write(config, HF_ARCHITECTURE, MODEL_TYPE)
    return {**settings, "attention_bias": False, "mlp_bias": False}
