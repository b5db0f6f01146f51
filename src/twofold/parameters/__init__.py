"""File one: a model's weights, tokenizer and card in one GGUF file, or in a Hugging Face folder.

`load` opens either as a `Model`; `save_gguf` and `save_hf` write it again. See docs/parameters.md.
"""

from twofold.parameters.config import ModelConfig
from twofold.parameters.model import Model, load, save_gguf, save_hf, write_gguf

__all__ = ["Model", "ModelConfig", "load", "save_gguf", "save_hf", "write_gguf"]
