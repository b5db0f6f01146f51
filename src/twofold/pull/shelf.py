"""What models there are here, described for people and programs: what `list`, `show` and the server tell."""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twofold import parameters
from twofold.base.errors import TwofoldError
from twofold.measure import forecast, pace, speed
from twofold.parameters import Model, ModelConfig
from twofold.parameters import card as cards
from twofold.parameters.model import FILE_TYPES
from twofold.run import catalogue, pulled

_TYPES = {number: name for name, number in FILE_TYPES.items()}
CONTEXT = 2048  # positions that memory is told for


@dataclass(frozen=True, kw_only=True)
class About:
    """A model that has a name here.

    `kind`: "box", "default", "run", "pulled" or "file". `memory_bytes`: with CONTEXT positions.
    `predicted_tokens_per_s`: None where it was not asked for or cannot be measured. `problem`: a sentence
    when the file cannot be opened; then the figures are 0. `card`: Markdown.
    """

    name: str
    path: str
    kind: str
    default: bool
    removable: bool
    bytes: int
    parameters: int
    architecture: str
    file_type: str
    context: int
    memory_bytes: int
    predicted_tokens_per_s: float | None
    license: str
    source: dict[str, Any]
    card: str
    problem: str | None = None

    def record(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)


def everything(*, predict: bool = True) -> list[About]:
    """Return all models that have a name here, the default first."""
    return [about(name, path, predict=predict) for name, path in catalogue.known().items()]


def about(name: str, path: Path, *, predict: bool = True) -> About:
    """Return what there is to say of the model at `path`. `predict`: how fast it would be, too."""
    weights = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in weights)
    facts = _facts(path, path.stat().st_mtime_ns, size)
    on_shelf = next((model for model in pulled.models() if model.path == path), None)
    kind = (
        "pulled"
        if on_shelf
        else "box"
        if name == "box"
        else "run"
        if path.parent.parent.name == "runs"
        else "file"
    )
    by_default = name == catalogue.default_name()
    config = facts.pop("config")
    return About(
        name=name, path=str(path), kind="default" if by_default and kind == "file" else kind,
        default=by_default, removable=on_shelf is not None, source=on_shelf.source if on_shelf else {},
        predicted_tokens_per_s=_speed(config, facts["file_type"]) if predict and config else None, **facts,
    )  # fmt: skip


@functools.lru_cache(maxsize=256)
def _read(path: Path, changed: int, size: int) -> dict[str, Any]:
    """Return what a model's file says; the arguments after the path tell one version of it from another."""
    facts: dict[str, Any] = {
        "bytes": size, "parameters": 0, "architecture": "", "file_type": "", "context": 0, "memory_bytes": 0,
        "license": "", "card": "", "config": None,
    }  # fmt: skip
    try:
        model = parameters.load(path)
        config = model.config
        work = speed.work(config, speed.tensor_types(config, "F32"))
        facts |= {
            "parameters": config.parameters, "architecture": config.architecture, "context": config.context,
            "file_type": file_type(path, model), "config": config,
            "memory_bytes": forecast.memory_bytes(size) + work.cache * min(CONTEXT, config.context),
            "license": str(model.card.get("license", "")), "card": cards.to_markdown(model.card),
        }  # fmt: skip
    except TwofoldError as error:
        facts["problem"] = str(error)
    return facts


def _facts(path: Path, changed: int, size: int) -> dict[str, Any]:
    return dict(_read(path, changed, size))


def file_type(path: Path, model: Model) -> str:
    """Return the type of a model's file: as it says itself, else that of most of its bytes."""
    if path.is_dir():
        return "F32"  # as which it is run
    number = parameters.gguf.read(path).metadata.get("general.file_type")
    if type(number) is int and number in _TYPES:
        return _TYPES[number]
    read = pace.work_of(model).bytes
    return max(read, key=lambda kind: read[kind])


def _speed(config: ModelConfig, type: str) -> float | None:
    try:
        return round(forecast.tokens_per_s(config, type), 1)
    except TwofoldError:
        return None
