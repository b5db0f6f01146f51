"""Model families: one file each says how a Hugging Face folder of that family becomes GGUF and back.

A family's file defines ARCHITECTURE (GGUF's name), HF_ARCHITECTURE and MODEL_TYPE (the names in config.json),
`from_hf(config) -> ModelConfig`, `to_hf(config) -> dict`, `hf_name(name) -> str`, and
`to_gguf_order(name, array, config)` / `to_hf_order(name, array, config)` for rows that the two formats order
differently.
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from twofold.base.errors import BadFileError
from twofold.base.registry import Registry

FAMILIES = Registry(
    "twofold.parameters.families",
    "model family",
    requires=(
        "ARCHITECTURE", "HF_ARCHITECTURE", "MODEL_TYPE",
        "from_hf", "to_hf", "hf_name", "to_gguf_order", "to_hf_order",
    ),
)  # fmt: skip


def of_hf(config: Mapping[str, Any], where: str) -> ModuleType:
    """Return the family of a config.json: by its `architectures`, or by its `model_type` without them.

    Raises BadFileError that names `where` and the families there are.
    """
    architectures, model_type = config.get("architectures") or [], config.get("model_type")
    known = [FAMILIES.get(name) for name in FAMILIES.names()]
    for family in known:
        if architectures == [family.HF_ARCHITECTURE] or (
            not architectures and model_type == family.MODEL_TYPE
        ):
            return family
    raise BadFileError(
        f"{where} holds a model of the kind {architectures or model_type!r}; twofold reads "
        f"{', '.join(family.HF_ARCHITECTURE for family in known)}."
    )
