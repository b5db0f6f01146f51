"""The tools of an app: the functions that its processes may call, as they are on this machine."""

from dataclasses import dataclass

from twofold import devices
from twofold.apps.manifest import App
from twofold.base.errors import TwofoldError
from twofold.kernel.calls import CALLS
from twofold.kernel.device import Function, named


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function by the name that models call it by, and the device or system call that it belongs to.

    effect: what a call may do to the world. problem: why the device is not at hand; then `name` is its own.
    """

    name: str
    device: str
    description: str = ""
    effect: str = ""
    problem: str = ""


def tools(app: App) -> list[Tool]:
    """Return what an app's processes may call, in the order in which it asks for it. Nothing is called."""
    held, found = app.capabilities(), list[Tool]()
    for device in dict.fromkeys(one.device for one in held):
        try:
            known = _functions(device)
        except TwofoldError as error:
            found.append(Tool(name=device, device=device, problem=str(error)))
            continue
        if not known:
            found.append(Tool(name=device, device=device, problem=f"There is no device {device} here."))
        for name, function in known.items():
            if any(one.names(device, function.name) for one in held):
                effect = function.effect.value
                found.append(Tool(name=name, device=device, description=function.description, effect=effect))
    return found


def _functions(device: str) -> dict[str, Function]:
    """Return the functions of a device, or of the system call of that name; none where there is neither."""
    if device in CALLS.names():
        return {device: CALLS.get(device).FUNCTION}
    opened = devices.opened([device])
    try:
        return {name: function for name, (_, function) in named(opened).items()}
    finally:
        for one in opened.values():
            one.close()
