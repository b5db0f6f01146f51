"""Mistral 7B and its kin (Jiang et al., Mistral 7B, 2023).

The graph of Llama with an optional sliding window: a token sees only so many tokens back. In GGUF it is
stored as "llama"; `twofold.family` in the metadata remembers what it was. Not covered: Mixtral, YaRN.
"""

from collections.abc import Mapping
from typing import Any

from twofold.parameters.config import ModelConfig
from twofold.parameters.families import _decoder
from twofold.parameters.families._decoder import hf_name, to_halves, to_neighbours

__all__ = ["ARCHITECTURE", "HF_ARCHITECTURE", "MODEL_TYPE", "from_hf", "hf_name", "to_hf"]

ARCHITECTURE = "llama"
HF_ARCHITECTURE = "MistralForCausalLM"
MODEL_TYPE = "mistral"
_DEFAULTS = {
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "rope_theta": 10000.0,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}
_LIBRARY_WINDOW = 4096  # what transformers takes when config.json does not say; null there means none

to_gguf_order, to_hf_order = to_neighbours, to_halves


def from_hf(config: Mapping[str, Any]) -> ModelConfig:
    """Return the shape in a Mistral config.json. Raises BadFileError."""
    return _decoder.read({"sliding_window": _LIBRARY_WINDOW, **config}, ARCHITECTURE, "mistral", _DEFAULTS)


def to_hf(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json of a Mistral model."""
    settings = _decoder.write(config, HF_ARCHITECTURE, MODEL_TYPE)
    return {**settings, "sliding_window": config.sliding_window}
