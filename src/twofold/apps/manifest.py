"""What an app says of itself: app.toml, checked; and how two versions of it differ in what they may do.

    name = "researcher"                     # letters, digits, -
    version = "1.0.0"
    description = "Searches, tabulates, calculates, plots and reports."
    instructions = "instructions.md"        # what the model sees first
    shown = ["calculator"]                  # devices whose results it sees at once; all else stays hidden
    files = ["handbook"]                    # files or folders of the app that its processes can search

    [model]                                 # all optional
    name = "gpt"                            # a kernel by its name, or
    weights = "model.gguf"                  # the app's own
    window = 4096                           # tokens that it needs at least

    [budget]                                # of one process; all optional
    tokens = 200000
    seconds = 900
    calls = 100
    money = 1.0

    [[capabilities]]
    device = "browser"
    functions = ["read"]                    # none named: all of them
    scope = ["https://*.example.org/*"]     # none named: anywhere
    budget = 40                             # calls
    why = "reads the pages that answer your question"

An unknown key is an error that names the nearest one. What an app is *allowed* is never more than this
page says, and the user sees it before the app is installed.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold.apps.tree import check_name
from twofold.base import config
from twofold.base.errors import BadFileError, UsageError
from twofold.kernel.capabilities import Capability
from twofold.kernel.process import Budget, Program

MANIFEST = "app.toml"
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
_VERSION = re.compile(r"(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})")
_MOST = 100_000  # bytes of app.toml, and of the instructions


@dataclass(frozen=True, kw_only=True)
class Asks:
    """A capability that an app asks for; `why` is told to the user."""

    device: str
    functions: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    budget: int | None = None
    why: str = ""

    def capability(self) -> Capability:
        """Return it as the kernel knows it; an app's capabilities do not expire."""
        return Capability(device=self.device, functions=self.functions, scope=self.scope, budget=self.budget)

    def said(self) -> str:
        """Return it for people: "browser: read; on https://example.org/*; at most 40 calls"."""
        parts = [f"{self.device}: {', '.join(self.functions) or 'everything'}"]
        parts.append(f"on {', '.join(self.scope)}" if self.scope else "anywhere")
        parts += [f"at most {self.budget:,} calls"] if self.budget is not None else []
        return "; ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which model an app runs on, or what it needs of one."""

    name: str | None = None
    weights: str | None = None
    window: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of app.toml."""

    name: str
    version: str
    description: str
    instructions: str = "instructions.md"
    license: str | None = None
    shown: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    model: Model = field(default_factory=Model)
    budget: Budget = field(default_factory=Budget)
    capabilities: tuple[Asks, ...] = ()

    def number(self) -> tuple[int, ...]:
        """Return the version as numbers, to compare it with another."""
        return tuple(int(part) for part in self.version.split("."))


@dataclass(frozen=True, kw_only=True)
class App:
    """An app that is at hand. `origin`: "built in", "installed", or the folder it is tried from."""

    manifest: Manifest
    folder: Path
    origin: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    def instructions(self) -> str:
        """Return what the model sees first."""
        return (self.folder / self.manifest.instructions).read_text(encoding="utf-8").strip()

    def capabilities(self) -> tuple[Capability, ...]:
        """Return what its processes may do."""
        return tuple(one.capability() for one in self.manifest.capabilities)

    def program(self, message: str, **more: Any) -> Program:
        """Return a process of it that is told this; `more`: other fields of the program."""
        told = self.manifest
        return Program(
            **{
                "message": message, "instructions": self.instructions(), "capabilities": self.capabilities(),
                "budget": told.budget, "shown": told.shown, "app": self.name,
                "folder": str(self.folder.absolute()), "files": told.files,
                "model": str(self.weights() or told.model.name or ""), **more,
            }
        )  # fmt: skip

    def files(self) -> list[Path]:
        """Return the files that its processes can search, in order."""
        found: list[Path] = []
        for name in self.manifest.files:
            path = self.folder / name
            found += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        return found

    def weights(self) -> Path | None:
        """Return the file of its own weights, None when it has none."""
        return self.folder / self.manifest.model.weights if self.manifest.model.weights else None


def read(folder: Path, origin: str | None = None) -> App:
    """Return the app in a folder. Raises BadFileError when app.toml is not there or says what cannot be."""
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
        values = tomllib.loads(raw.decode()) if len(raw) <= _MOST else None
    except FileNotFoundError:
        raise BadFileError(f"{folder} is not the folder of an app: there is no {MANIFEST} in it.") from None
    except (ValueError, RecursionError) as error:
        why = error if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise BadFileError(f"{path} is not a TOML file: {why}.") from None
    if values is None:
        raise BadFileError(f"{path} is too large for a manifest.")
    try:
        if isinstance(asked := values.get("capabilities"), list):
            values["capabilities"] = [
                config.build(Asks, one if isinstance(one, dict) else {}, at="capabilities.") for one in asked
            ]
        manifest = config.build(Manifest, values)
        _check(manifest, folder)
    except UsageError as error:
        raise BadFileError(f"{path}: {error}") from None
    return App(manifest=manifest, folder=folder, origin=origin or str(folder))


def _check(manifest: Manifest, folder: Path) -> None:
    """Raise UsageError for values of the right type that cannot be."""
    if not NAME.fullmatch(manifest.name):
        raise UsageError(f"The name {manifest.name[:60]!r} is not made of small letters, digits and -.")
    if not _VERSION.fullmatch(manifest.version):
        raise UsageError(f"The version {manifest.version[:60]!r} is not three numbers such as 1.0.0.")
    if not 0 < len(manifest.description) <= 200 or not manifest.description.isprintable():
        raise UsageError("The description is one line of at most 200 characters.")
    needed = [manifest.instructions, *([manifest.model.weights] if manifest.model.weights else [])]
    for name in (*needed, *manifest.files):
        path = folder / check_name(name, str(folder))
        if path.is_symlink() or not (path.is_file() or (name in manifest.files and path.is_dir())):
            raise UsageError(f"It names {name}, which is not there.")
    if manifest.model.weights and manifest.model.name:
        raise UsageError("The model is either a `name` or the app's own `weights`.")
    try:
        text = (folder / manifest.instructions).read_bytes()
        if len(text) > _MOST or not text.decode().strip():
            raise UsageError(f"{manifest.instructions} is empty, or too long for instructions.")
    except UnicodeDecodeError:
        raise UsageError(f"{manifest.instructions} is not UTF-8.") from None
    amounts = [*vars(manifest.budget).values(), manifest.model.window]
    amounts += [one.budget for one in manifest.capabilities]
    if any(amount is not None and not amount > 0 for amount in amounts):
        raise UsageError("A budget is more than nothing, or left out.")
    for one in manifest.capabilities:
        words = (one.device, one.why, *one.functions, *one.scope)
        if not one.device or not all(word.isprintable() and len(word) <= 300 for word in words):
            raise UsageError("A capability is made of short lines of plain characters.")


# --- how two versions differ


@dataclass(frozen=True, kw_only=True)
class Change:
    """A line of a diff. sign: "+" more than before, "-" less, " " as before."""

    sign: str
    text: str
    why: str = ""


def difference(before: Manifest | None, after: Manifest) -> list[Change]:
    """Return what `after` may do, line by line, against what `before` may (None: nothing)."""
    old, new = (_permissions(one) if one is not None else {} for one in (before, after))
    lines = []
    for text, why in new.items():
        lines.append(Change(sign=" " if text in old else "+", text=text, why=why))
    lines += [Change(sign="-", text=text, why=why) for text, why in old.items() if text not in new]
    return lines


def widens(changes: Sequence[Change]) -> bool:
    """Return whether something is allowed that was not before."""
    return any(change.sign == "+" for change in changes)


def _permissions(manifest: Manifest) -> dict[str, str]:
    """Return every permission of an app as a sentence, with the reason that it gives."""
    found = {one.said(): one.why for one in manifest.capabilities}
    for device in manifest.shown:
        found[f"sees at once what {device} returns"] = ""
    if manifest.model.name:
        found[f"runs on the model {manifest.model.name}"] = ""
    if manifest.model.weights:
        found["brings weights of its own"] = ""
    for name, amount in vars(manifest.budget).items():
        found[f"uses up to {amount:,} {name}" if amount is not None else f"uses {name} without a limit"] = ""
    return found


def record(manifest: Manifest) -> dict[str, Any]:
    """Return what a store's index tells of an app."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "permissions": list(_permissions(manifest)),
    }
