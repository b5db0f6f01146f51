"""The devices that a plan may ask for: figures and prices from `hardware.toml`, and from the user's own file.

The user's file is `$XDG_CONFIG_HOME/twofold/hardware.toml` (else ~/.config). The device `here` is this
machine's processor: its figures are measured, or come from its ladder when there is one.

Not covered: prices that change by the hour; they are what somebody once paid.
"""

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.base import config as configs
from twofold.base.errors import BadFileError, UsageError
from twofold.base.names import unknown
from twofold.measure.ladder import Ladder

HERE = "here"
BF16_BY_FLOAT32 = 2.0  # of a processor's products, where nothing was measured


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device. Operations and bytes per second, bytes, dollars per hour; see hardware.toml."""

    title: str
    bf16_tflops: float
    memory_gb: float
    bandwidth_gb_s: float
    per_node: int
    link_gb_s: float
    network_gb_s: float
    dollars_per_hour: float
    source: str
    name: str = ""
    utilisation: float | None = None  # of one machine; None = what is usual

    def __post_init__(self) -> None:
        figures = (self.bf16_tflops, self.memory_gb, self.bandwidth_gb_s, self.link_gb_s, self.network_gb_s)
        if min(figures) <= 0 or self.per_node < 1 or self.dollars_per_hour < 0:
            raise ValueError("its figures are above 0.")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise ValueError("utilisation is a share, above 0 and at most 1.")

    @property
    def peak(self) -> float:
        """Operations per second."""
        return self.bf16_tflops * 1e12

    @property
    def memory(self) -> float:
        """Bytes."""
        return self.memory_gb * 1e9


def user_file() -> Path:
    """Return where the user's own table lies, if there is one."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "twofold" / "hardware.toml"


def devices(extra: Path | None = None) -> dict[str, Device]:
    """Return the devices by name: ours, changed by the user's file, changed by `extra`.

    Raises BadFileError when a table cannot be read, UsageError when `extra` is not there.
    """
    tables = _tables(Path(__file__).with_name("hardware.toml"))
    if extra is not None and not extra.is_file():
        raise UsageError(f"There is no file {extra} to read hardware from.")
    for path in (user_file(), extra):
        if path is not None and path.is_file():
            for name, table in _tables(path).items():
                tables[name] = {**tables.get(name, {}), **table}
                _device(name, tables[name], str(path))
    tables.pop(HERE, None)  # that one is measured
    return {name: _device(name, table, "hardware.toml") for name, table in tables.items()}


def find(name: str, extra: Path | None = None) -> Device:
    """Return the device called `name` (in any case). Raises UsageError with the names that there are."""
    known = devices(extra)
    key = name.strip().lower().replace("_", "-").replace(" ", "-")
    if key not in known:
        raise UsageError(unknown("device", name, [*known, HERE]))
    return known[key]


def packaged(name: str) -> Device:
    """Return a device as the package has it, whatever the user's own table says."""
    return _device(name, _tables(Path(__file__).with_name("hardware.toml"))[name], "hardware.toml")


def here(ladder: Ladder | None = None, extra: Path | None = None) -> Device:
    """Return this machine's processor as a device: measured now, or as its ladder found it.

    The price is 0 unless a table `[here]` in the user's file gives one; other fields of it count too. Raises
    CompilerError when there is no C compiler to measure with.
    """
    from twofold.measure import machine

    threads = machine.cores()
    found = machine.measure(threads, seconds=0.04, most_mb=256)
    peak = 2 * found.all.float32 * BF16_BY_FLOAT32
    device = Device(
        name=HERE, title=found.processor, bf16_tflops=peak / 1e12, memory_gb=found.memory_bytes / 1e9,
        bandwidth_gb_s=found.all.memory / 1e9, per_node=1, link_gb_s=found.all.memory / 1e9,
        network_gb_s=1.25, dollars_per_hour=0.0, source="measured now; bfloat16 taken as twice float32",
    )  # fmt: skip
    if ladder is not None:
        top = max(run.flops_per_s for run in ladder.runs)
        share = min(1.0, top / device.peak)
        device = dataclasses.replace(device, utilisation=share, source="measured now; speed from its ladder")
    for path in (user_file(), extra):
        if path is not None and path.is_file() and HERE in (tables := _tables(path)):
            device = dataclasses.replace(device, **_checked(tables[HERE], HERE, str(path)))
    return device


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFileError(f"The hardware table {path} cannot be read ({error}).") from error
    wrong = [name for name, table in raw.items() if not isinstance(table, dict)]
    if wrong:
        raise BadFileError(f"The hardware table {path} has {wrong[0]!r} outside of a device's table [NAME].")
    return raw


def _device(name: str, table: Mapping[str, Any], where: str) -> Device:
    if name == HERE:  # only changes what is measured
        table = {**_NOWHERE, **table}
    try:
        return configs.build(Device, {**table, "name": name})
    except UsageError as error:
        raise BadFileError(f"The device [{name}] in {where} is not usable: {error}") from error


def _checked(table: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    device = _device(name, table, where)
    return {key: getattr(device, key) for key in table}


_NOWHERE = {
    "title": HERE, "bf16_tflops": 1.0, "memory_gb": 1.0, "bandwidth_gb_s": 1.0, "per_node": 1,
    "link_gb_s": 1.0, "network_gb_s": 1.0, "dollars_per_hour": 0.0, "source": "",
}  # fmt: skip
