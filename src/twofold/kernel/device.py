"""What the kernel knows of devices: their functions, what a call does to the world, and what it is given.

A device is a file of `twofold/devices/` with a DESCRIPTION (one sentence) and `open(settings) -> Device`.
The kernel never imports one; it is handed those that are there.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from twofold.base.errors import TwofoldError
from twofold.kernel.flow import Label


class DeviceError(TwofoldError):
    """A call failed; the sentence goes to the model."""


class Effect(StrEnum):
    """What a call may change, and where it can be seen."""

    NONE = "none"  # pure: the calculator
    READ = "read"  # reads what is the user's, on this machine
    FETCH = "fetch"  # asks the outside; the request itself can carry something away
    WRITE = "write"  # changes what is the user's, on this machine; can be undone
    SEND = "send"  # leaves the machine, or cannot be undone

    @property
    def repeatable(self) -> bool:
        """Whether a call that was begun, and of which nobody knows the end, may be made again unasked."""
        return self in (Effect.NONE, Effect.READ)


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function of a device.

    parameters: JSON schema of an object. targets: arguments that say where to or on what (paths, URLs,
    recipients); contents: arguments that go there. trusted: its results are as trustworthy as its arguments.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    effect: Effect
    targets: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()
    trusted: bool = False


@dataclass(frozen=True, kw_only=True)
class Returned:
    """What a call returned. value: JSON. label: where the device knows better than its function's effect.
    files: made in the process's folder. text: how a model reads the value; default: its JSON."""

    value: Any
    label: Label | None = None
    files: tuple[str, ...] = ()
    text: str | None = None


def _nobody(question: str, options: Sequence[str] | None) -> str:
    raise DeviceError("Nobody is there who could be asked.")


def _nothing(name: str, arguments: Mapping[str, Any]) -> Any:
    raise DeviceError(f"{name} cannot be called from here.")


@dataclass(frozen=True, kw_only=True)
class Context:
    """Who calls a device.

    workspace: the process's own folder. call: the call's id. ask_user: returns the user's answer; where it is
    not there yet, the call is left and made again from its start when it is, so a device asks before it does
    what cannot be done twice. syscall: a nested call by its name, under the same policy; it returns the value
    (and, when the call is made again, the value it had before). scope: what the process's capabilities for
    this function name as targets, for a device that meets more targets on its way (redirections); () names
    none. app, folder, files: whose process it is, where that app lies, and what in there its processes may
    search.
    """

    pid: int
    workspace: Path
    call: str
    cancelled: Callable[[], bool] = lambda: False
    ask_user: Callable[[str, Sequence[str] | None], str] = _nobody
    syscall: Callable[[str, Mapping[str, Any]], Any] = _nothing
    labels: Mapping[str, Label] = field(default_factory=dict)  # of the arguments
    scope: tuple[str, ...] = ()
    app: str = ""
    folder: Path | None = None
    files: tuple[str, ...] = ()


class Device(Protocol):
    """A device that is open."""

    def functions(self) -> Sequence[Function]:
        """Return its functions; always the same ones."""
        ...

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Carry out a call; arguments are valid under the function's schema. Raises DeviceError."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def named(devices: Mapping[str, Device]) -> dict[str, tuple[str, Function]]:
    """Return every function by the name that models call it by, with its device's name.

    That is `device_function`, or the device's name for a function that has the same.
    """
    found = {}
    for name, device in devices.items():
        for function in device.functions():
            found[name if function.name == name else f"{name}_{function.name}"] = name, function
    return found
