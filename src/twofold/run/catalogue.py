"""Which models there are on this machine, and what their names are.

A name is that of a run (`runs/NAME`), of a pulled model, "box" for the model in the box; a path does as well.
Not covered: models that other programs keep.
"""

import re
from pathlib import Path

from twofold.base.errors import TwofoldError, UsageError
from twofold.base.names import nearest
from twofold.run import box, default, pulled

_ON_A_HUB = re.compile(r"[\w-][\w.-]*/[\w.-]+(:[\w.-]+)?")


def find(model: str | None) -> Path:
    """Return the GGUF file or Hugging Face folder that `model` names.

    None is the default model (the one in the box, until another is promoted), "box" the one in the box.
    Raises UsageError when there is nothing of that name.
    """
    if model is None:
        return default.path()
    if model == "box":
        return box.path()
    for path in (Path(model), Path("runs") / model, default.folder() / model):
        if path.is_dir() and (path / "model.gguf").is_file():
            return path / "model.gguf"
        if path.is_file() or (path / "config.json").is_file():
            return path
    if (there := pulled.find(model)) is not None:  # by what was asked for, as owner/repo:Q4_K_M
        return there.path
    if Path(model).is_dir():
        raise UsageError(f"The folder {model} holds neither model.gguf nor a Hugging Face config.json.")
    guess = nearest(model, known())
    hint = "give a .gguf file, a Hugging Face folder or a name that `twofold list` shows."
    if guess:
        hint = f"did you mean {guess}?"
    elif _ON_A_HUB.fullmatch(model):
        hint = f"`twofold pull {model}` fetches it if the hub has it."
    raise UsageError(f"There is no model {model!r}: {hint}")


def default_name() -> str:
    """Return what the default model is called."""
    stack = default.promoted()
    return stack[-1].name if stack else "box"


def known() -> dict[str, Path]:
    """Return the files of all models that have a name, by name: the default first, then as they are found."""
    found: dict[str, Path] = {}
    for name, path in ((default_name, default.path), (lambda: "box", box.path)):
        try:
            found.setdefault(name(), path())
        except TwofoldError:
            continue  # a default that is gone is no reason to hide the others
    for file in sorted(Path("runs").glob("*/model.gguf")):
        found.setdefault(file.parent.name, file)
    for model in pulled.models():
        found.setdefault(model.name, model.path)
    return found


def name_of(path: Path) -> str:
    """Return what a model at `path` is called: its file's name, or its folder's for a model.gguf."""
    return path.absolute().parent.name if path.name == "model.gguf" else path.name.removesuffix(".gguf")
