"""The model that a run starts from: a file, or what an earlier run left behind.

Not covered: which graphs can be trained (export.from_model says).
"""

import dataclasses
from functools import partial
from pathlib import Path

from twofold.base.errors import BadFileError, UsageError
from twofold.parameters import Model, load
from twofold.parameters.families import FAMILIES
from twofold.train import checkpoint
from twofold.train.folder import read_recipe


def model_file(path: Path) -> Path:
    """Return what the engine opens of a model: a run folder's model.gguf, else the path itself."""
    return path / "model.gguf" if (path / "model.gguf").is_file() else path


def described(path: Path) -> Model:
    """Return the model to start from, for its shape, tokenizer and card: no weight is read.

    Raises UsageError for a run that is not finished.
    """
    if path.is_dir() and not (path / "config.json").is_file() and not (path / "model.gguf").is_file():
        raise UsageError(
            f"{path} holds no model.gguf: the run is not finished; go on with it by --resume {path}."
        )
    return load(path if (path / "config.json").is_file() else model_file(path))


def open_parent(path: Path) -> Model:
    """Return the model to start from; a run folder's weights come unrounded from its last checkpoint."""
    model = described(path)
    if not path.is_dir() or (path / "config.json").is_file():
        return model
    found = checkpoint.steps(path / "checkpoints")
    recipe = read_recipe(path) if (path / "recipe.toml").is_file() else None
    if not found or (recipe is not None and recipe.settings.get("lora")):
        return model  # a run with adapters saved nothing but these
    step = recipe.result.get("best_step", found[-1]) if recipe is not None else found[-1]
    try:
        state = checkpoint.load(checkpoint.place(path / "checkpoints", step))
    except BadFileError as error:
        raise BadFileError(
            f"{error} Start from {path / 'model.gguf'}, whose weights are rounded, or remove that folder."
        ) from error
    order = partial(FAMILIES.get(model.config.family).to_gguf_order, config=model.config)
    try:
        tensors = {
            name: order(name, state.tensors[f"model.{name}"].numpy()) for name in model.config.shapes()
        }
    except KeyError as error:
        raise BadFileError(f"The checkpoint in {path} lacks {error}: it is not of this model.") from error
    return dataclasses.replace(model, tensors=tensors)
