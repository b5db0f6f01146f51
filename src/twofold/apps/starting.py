"""What `twofold run` and the web app begin: a task for an app, or for a process that may use some devices."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from twofold.apps import shelf
from twofold.kernel.capabilities import Capability
from twofold.kernel.process import Program

DEVICES = ("calculator", "clock")  # what a process without an app may use, unless others are named


def program(
    task: str,
    *,
    app: str = "",
    devices: Sequence[str] = DEVICES,
    model: str = "",
    limits: Mapping[str, float | None] | None = None,
    priority: int = 0,
    stays: bool = False,
) -> Program:
    """Return the program of a process with a task.

    devices: without an app, what it may use. model: else the app's, else the default. limits: fields of
    Budget; None is what the app says. Raises UsageError where there is no such app.
    """
    if app:
        found = shelf.find(app).program(task)
    else:
        found = Program(message=task, capabilities=tuple(Capability(device=name) for name in devices))
    given: dict[str, Any] = {name: value for name, value in (limits or {}).items() if value is not None}
    return replace(
        found, priority=priority, stays=stays or found.stays, model=model or found.model,
        budget=replace(found.budget, **given),
    )  # fmt: skip
