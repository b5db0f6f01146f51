"""The run folder: `recipe.toml` says how to repeat a run, and is enough to resume it.

    recipe.toml      kind, settings, plan, data with hashes, and at the end what came of it
    metrics.jsonl    one record per step, evaluation and sample
    decisions.jsonl  the end of the run moved forward, if it was
    checkpoints/     the last step (ring-*), the last checkpoints and the best
    corpus/          the tokenised text
    tokenizer.json   model.gguf   card.md   loss.svg

Not covered: several runs in one folder.
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from twofold.base import config as configs
from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import write_text

Kind = Literal["pretrain", "finetune", "improve", "prefer"]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A run's `recipe.toml`. `settings` are those of its kind; `plan` and `result` are empty until known."""

    kind: Kind
    settings: dict[str, Any]
    plan: dict[str, Any] = dataclasses.field(default_factory=dict)
    data: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    decisions: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    result: dict[str, Any] = dataclasses.field(default_factory=dict)


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write `recipe.toml` into a run folder, atomically."""
    write_text(folder / "recipe.toml", configs.to_toml({"twofold": 1, **dataclasses.asdict(recipe)}))


def read_recipe(folder: Path) -> Recipe:
    """Return the recipe of a run folder.

    Raises UsageError when it is no run folder, BadFileError when the recipe is damaged.
    """
    path = folder / "recipe.toml"
    if not path.is_file():
        raise UsageError(f"{folder} is not the folder of a run: it holds no recipe.toml.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        kind = raw["kind"]
        if kind not in get_args(Kind):
            raise KeyError("kind")
        rest = {key: raw[key] for key in ("plan", "data", "decisions", "result") if key in raw}
        return Recipe(kind, raw.get("settings", {}), **rest)
    except (OSError, ValueError, KeyError) as error:
        raise BadFileError(f"{path} is damaged ({error}).") from error


def new_folder(chosen: Path | None, name: str) -> Path:
    """Return an empty folder for a run: the chosen one, or `runs/<name>`, numbered if that is taken.

    Raises UsageError when the chosen one holds a run already.
    """
    if chosen is not None:
        if (chosen / "recipe.toml").exists():
            raise UsageError(
                f"{chosen} already holds a run: go on with it (`--resume {chosen}`) or choose another --out."
            )
        if chosen.exists() and not chosen.is_dir():
            raise UsageError(f"--out {chosen} is a file; give a folder.")
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen
    number = 1
    while True:
        folder = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1


def restore(cls: type[T], values: dict[str, Any], what: str, folder: Path) -> T:
    """Return a `cls` from a recipe's table. Raises BadFileError when it does not fit."""
    try:
        return configs.build(cls, values)
    except UsageError as error:
        raise BadFileError(f"The {what} in {folder / 'recipe.toml'} is not usable: {error}") from error
