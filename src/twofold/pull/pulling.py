"""Pulling a model: first what it would be and how fast it would run, then fetching it, then the shelf.

`plan` asks the hub (or looks at a path here) and says what would come; it refuses what this machine cannot
hold or this program does not run, before a byte of weights has come. `carry_out` fetches, checks and, where
only safetensors are there, converts. Killed at any moment it goes on where it was; the model appears on the
shelf in one move, whole. Two that pull the same model do not disturb each other: the second is told so.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twofold import parameters
from twofold.base import files
from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.base.names import unknown
from twofold.measure import forecast, machine, speed
from twofold.parameters import ModelConfig
from twofold.parameters.families import FAMILIES, of_hf
from twofold.parameters.model import FILE_TYPES
from twofold.pull import choosing, hub, names, shelf, web
from twofold.pull.download import Stopped, Wanted, fetch
from twofold.run import pulled

Tell = Callable[[str, int, int], object]  # what is being done, bytes done, bytes in all

CONVERTED = "Q8_0"
_RESERVED = ("box", "latest")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What pulling a model would bring.

    `where` it comes from, in words. `wanted`: file names and how to fetch them, none for a `local` model.
    `converts`: it is a Hugging Face folder. `file_bytes`: of the model in the end, about. `tokens_per_s`: as
    forecast for this machine, None where that cannot be measured. `there`: the shelf has exactly this one.
    """

    name: str
    where: str
    local: Path | None
    wanted: tuple[tuple[str, Wanted], ...]
    converts: bool
    type: str
    file_bytes: int
    memory_bytes: int
    tokens_per_s: float | None
    license: str
    source: dict[str, Any]
    there: bool = False

    @property
    def download_bytes(self) -> int:
        """How many bytes have to come in all; what an earlier attempt brought counts."""
        return sum(wanted.size for _, wanted in self.wanted)

    @property
    def tight(self) -> bool:
        """Whether it fits into this machine's memory, but not into what is free now."""
        return self.memory_bytes > machine.available_bytes()


# --- planning


def plan(text: str, type: str | None = None, name: str | None = None) -> Plan:
    """Return what pulling `text` would bring. `type`: a file type to take or convert to; `name`: its name.

    Raises UsageError for a name that means nothing, a model that is not there, that this program does not
    run, or that this machine cannot hold; TwofoldError when the hub cannot be reached.
    """
    type = type.upper() if type else None
    if type is not None and type not in FILE_TYPES:
        raise UsageError(unknown("file type", type, FILE_TYPES))
    asked = names.parse(text, web.endpoint())
    found = _here(asked.path, type, name) if asked.path else _there(asked, type, name)
    found = dataclasses.replace(found, source={"asked": asked.text, **found.source})
    same = pulled.find(found.name)
    kept = ("repo", "commit", "file", "sha256", "type", "path")
    if same is not None and same.name == found.name:
        old = {key: same.source.get(key) for key in kept if key in found.source}
        if old == {key: found.source[key] for key in kept if key in found.source}:
            return dataclasses.replace(found, there=True)
    _refuse_what_does_not_fit(found)
    return found


def _there(asked: names.Asked, type: str | None, name: str | None) -> Plan:
    """Return the plan for a model on the hub."""
    repo = hub.look(asked.repo, asked.revision)
    where = f"{web.endpoint().partition('://')[2]}/{repo.id}"
    source = {"repo": repo.id, "hub": web.endpoint(), "commit": repo.commit, "license": repo.license}
    there = {choosing.type_of(file.name) for file in repo.files if file.name.endswith(".gguf")}
    what = asked.what or (type if type in there else None)
    file = choosing.gguf(repo, what) if asked.what or what or not (type and _weights(repo)) else None
    if file is not None:
        if type is not None and choosing.type_of(file.name) not in ("", type):
            raise UsageError(f"{file.name} is not {type}: leave out --type, or ask for {repo.id}:{type}.")
        _refuse_foreign(repo)
        return Plan(
            name=_name(name, file.name.removesuffix(".gguf"), repo.id), where=where, local=None,
            wanted=((pulled.MODEL, repo.wanted(file)),), converts=False, type=choosing.type_of(file.name),
            file_bytes=file.size, memory_bytes=forecast.memory_bytes(file.size),
            tokens_per_s=_forecast(forecast.of_file, file.size, choosing.type_of(file.name), repo.parameters),
            license=repo.license,
            source={**source, "file": file.path, "sha256": file.sha256},
        )  # fmt: skip
    taken = choosing.folder(repo)
    settings = next(file for file in taken if file.name == "config.json")
    config = _config(repo, settings)
    type = type or CONVERTED
    sizes = _sizes(config, type)
    return Plan(
        name=_name(name, f"{repo.id.partition('/')[2]}-{type}", repo.id), where=where, local=None,
        wanted=tuple((file.name, repo.wanted(file)) for file in taken), converts=True, type=type,
        **sizes, license=repo.license, source={**source, "type": type},
    )  # fmt: skip


def _here(path: Path, type: str | None, name: str | None) -> Plan:
    """Return the plan for a model that lies on this machine: a GGUF file, or a folder."""
    path = path.resolve()
    if path.is_dir() and (path / pulled.MODEL).is_file() and not (path / "config.json").is_file():
        path = path / pulled.MODEL  # a run
    is_folder = path.is_dir()
    model = parameters.load(path)
    source: dict[str, Any] = {"path": str(path), "license": str(model.card.get("license", ""))}
    stem = path.parent.name if path.name == pulled.MODEL else path.name.removesuffix(".gguf")
    if is_folder or type is not None:
        type = type or CONVERTED
        stem = stem if choosing.type_of(f"{stem}.gguf") == type else f"{stem}-{type}"
        sizes = _sizes(model.config, type)
        source["type"] = type
    else:
        size = path.stat().st_size
        source["sha256"] = files.sha256(path)
        sizes = {
            "file_bytes": size, "memory_bytes": forecast.memory_bytes(size),
            "tokens_per_s": _forecast(forecast.tokens_per_s, model.config, shelf.file_type(path, model)),
        }  # fmt: skip
    return Plan(
        name=_name(name, stem, str(path)), where=str(path), local=path, wanted=(),
        converts=is_folder or type is not None, type=type or choosing.type_of(path.name),
        **sizes, license=source["license"], source=source,
    )  # fmt: skip


def _name(given: str | None, stem: str, origin: str) -> str:
    """Return what the model will be called: as the user says, or as its file, clear of others' names."""
    if given is not None:
        if not re.fullmatch(r"\w[\w.-]{0,79}", given) or given in _RESERVED:
            raise UsageError(f"{given!r} cannot be a model's name: letters, digits, dots, - and _, no path.")
        return given
    name = re.sub(r"[^\w.-]+", "-", stem).strip(".-_")[:80] or "model"
    other = pulled.find(name)
    mine = (
        other is None or other.name != name or origin in (other.source.get("repo"), other.source.get("path"))
    )
    return name if mine and name not in _RESERVED else f"{origin.split('/')[-2] or 'my'}--{name}"


def _weights(repo: hub.Repo) -> bool:
    return any(file.name.endswith(".safetensors") for file in repo.files)


def _config(repo: hub.Repo, file: hub.HubFile) -> ModelConfig:
    """Return the shape of a model on the hub from its config.json.

    Raises BadFileError for a foreign one, or one whose weights cannot be read.
    """
    where = f"{repo.id}/config.json"
    settings = web.read_json(repo.wanted(file).url)
    config: ModelConfig = of_hf(settings, where).from_hf(settings)
    return config


def _refuse_foreign(repo: hub.Repo) -> None:
    known = {FAMILIES.get(name).ARCHITECTURE for name in FAMILIES.names()}
    if repo.architecture and repo.architecture not in known:
        raise UsageError(
            f"{repo.id} is of the architecture {repo.architecture}; twofold runs {', '.join(sorted(known))}."
        )


def _sizes(config: ModelConfig, type: str) -> dict[str, Any]:
    return {
        "file_bytes": speed.file_bytes(config, type),
        "memory_bytes": speed.memory_bytes(config, type),
        "tokens_per_s": _forecast(forecast.tokens_per_s, config, type),
    }


def _forecast(rule: Callable[..., float], *what: Any) -> float | None:
    try:
        return rule(*what)
    except TwofoldError:
        return None  # no compiler, or no memory to measure with


def _refuse_what_does_not_fit(plan: Plan) -> None:
    """Raise UsageError when the machine has too little memory for a model, or the disk too little room."""
    gb = 1e9
    memory = machine.total_bytes()
    if plan.memory_bytes > memory:
        raise UsageError(
            f"{plan.name} needs about {plan.memory_bytes / gb:.1f} GB of memory, and this machine has "
            f"{memory / gb:.1f} GB: take a smaller model, or one of fewer bits."
        )
    came = sum(size for name, size in pulled.unfinished().items() if name == plan.name)
    need = plan.download_bytes - came + (plan.file_bytes if plan.converts else 0)
    place = pulled.folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if need > free:
        raise UsageError(
            f"{plan.name} needs {need / gb:.1f} GB on the disk at {place}, and {free / gb:.1f} GB are free: "
            "make room (twofold list, twofold remove), or set XDG_DATA_HOME to another disk."
        )


# --- carrying out


def carry_out(
    plan: Plan,
    tell: Tell = lambda what, done, total: None,
    stopped: Stopped = lambda: False,
) -> Path:
    """Return where the model lies, when it is whole and on the shelf.

    `tell` hears of progress. Raises download.StoppedError when `stopped` says so, BadFileError when what
    came is not what the hub promised or cannot be run, UsageError when somebody else is pulling it.
    """
    final = pulled.folder() / plan.name
    if plan.there:
        return final / pulled.MODEL
    with _alone(plan.name):
        stage = pulled.stage(plan.name, str(plan.source.get("commit", "here")) + plan.type)
        ready = stage / "ready"
        ready.mkdir(parents=True, exist_ok=True)
        _bring(plan, stage, ready / pulled.MODEL, tell, stopped)
        try:
            parameters.load(ready / pulled.MODEL)
        except BadFileError as error:
            shutil.rmtree(stage)
            raise BadFileError(f"{plan.name} came whole, but cannot be run: {error}") from error
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        source = {"schema": 1, **plan.source, "name": plan.name, "pulled": now}
        files.write_text(ready / pulled.SOURCE, json.dumps(source, indent=2, ensure_ascii=False) + "\n")
        pulled.place(ready, plan.name)
        pulled.forget(plan.name)
    return final / pulled.MODEL


def _bring(plan: Plan, stage: Path, model: Path, tell: Tell, stopped: Stopped) -> None:
    """Make the model's file, unless an earlier attempt came so far."""
    if model.exists():
        return
    if plan.local is not None and not plan.converts:
        tell(plan.local.name, 0, plan.file_bytes)
        _copy(plan.local, model)
        tell(plan.local.name, plan.file_bytes, plan.file_bytes)
        return
    folder = stage / "folder" if plan.converts else model.parent
    before, total = 0, plan.download_bytes
    for name, wanted in plan.wanted:
        fetch(wanted, folder / name, lambda done, n=name, b=before: tell(n, b + done, total), stopped)  # type: ignore[misc]
        before += wanted.size
    if plan.converts:
        tell(f"converting to {plan.type}", total, total)
        parameters.save_gguf(parameters.load(plan.local or folder), model, plan.type)


def _copy(source: Path, into: Path) -> None:
    """Have a file at a second place; the disk holds it once where it can."""
    temporary = into.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copyfile(source, temporary)
    os.replace(temporary, into)


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Hold the lock of a model's name; the system releases it when this process ends, however it ends."""
    pulled.partial().mkdir(parents=True, exist_ok=True)
    with open(pulled.partial() / f"{name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{name} is being pulled by another program already: wait for it.") from None
        yield
