"""Peripherals that programs of the LLM OS can call, a file each.

Each defines DESCRIPTION, one sentence, and `open(settings) -> Device` (kernel/device.py). `devices.toml` in
the user's data folder has a section for each that is to be told something.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twofold.base import home
from twofold.base.errors import MissingExtraError, UsageError
from twofold.base.registry import Registry
from twofold.kernel.device import Device

DEVICES = Registry("twofold.devices", "device", requires=("DESCRIPTION", "open"))


def settings(path: Path | None = None) -> dict[str, Mapping[str, Any]]:
    """Return the sections of devices.toml. Raises UsageError."""
    path = path or home.data_folder() / "devices.toml"
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UsageError(f"{path} is not a TOML file: {error}.") from None
    if wrong := [name for name, section in sections.items() if not isinstance(section, dict)]:
        raise UsageError(f"{path} holds sections only, such as [browser]: {wrong[0]!r} is none.")
    return sections


def opened(names: Iterable[str] | None = None) -> dict[str, Device]:
    """Return devices by name, open; by default all whose packages are installed. Names of what is no device
    (calls that the kernel answers itself) are passed over. Raises MissingExtraError for one that is named."""
    told, known, found = settings(), DEVICES.names(), {}
    for name in known if names is None else dict.fromkeys(names):
        if name in known:
            try:
                found[name] = DEVICES.get(name).open(told.get(name, {}))
            except MissingExtraError:
                if names is not None:
                    raise
    return found
