"""What tests of the kernel share: devices that remember their calls, and systems in a folder."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, Effect, Function, Returned
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import ByCapability, Policy
from twofold.kernel.process import Program
from twofold.kernel.system import System

Does = Callable[[Mapping[str, Any], Context], Any]


class One:
    """A device of one function of its own name, which remembers what it was called with."""

    def __init__(
        self, name: str, does: Does, effect: Effect = Effect.NONE, *, trusted: bool = True, **schema: Any
    ) -> None:
        self.name, self.does, self.effect, self.trusted = name, does, effect, trusted
        self.schema = {"type": "object", **schema}
        self.calls: list[Mapping[str, Any]] = []

    def functions(self) -> Sequence[Function]:
        function = Function(
            name=self.name, description=f"Does {self.name}.", parameters=self.schema, effect=self.effect,
            trusted=self.trusted,
        )  # fmt: skip
        return [function]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        self.calls.append(arguments)
        found = self.does(arguments, context)
        return found if isinstance(found, Returned) else Returned(value=found)

    def close(self) -> None:
        pass


def adder() -> One:
    number = {"type": "integer"}
    return One(
        "add", lambda given, _: given["a"] + given["b"], properties={"a": number, "b": number},
        required=["a", "b"],
    )  # fmt: skip


def calls(*named: tuple[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return a reply that calls functions."""
    return {"calls": [{"name": name, "arguments": dict(arguments)} for name, arguments in named]}


def system(
    folder: Path, replies: Sequence[Any], *devices: One, policy: Policy | None = None, **more: Any
) -> System:
    """Return a system on which a script speaks; what it was asked is in `script.heard`."""
    script = Script(replies)
    found = System(
        folder, minds=lambda name: script, devices={one.name: one for one in devices},
        policy=policy or ByCapability(), **more,
    )  # fmt: skip
    found.script = script  # type: ignore[attr-defined]
    return found


def program(message: str = "Go.", *names: str, **more: Any) -> Program:
    """Return a program that may use these devices."""
    return Program(message=message, capabilities=tuple(Capability(device=name) for name in names), **more)


class Gate:
    """Lets a device wait until a test says so."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, *_: Any) -> str:
        self.reached.set()
        assert self.open.wait(20)
        return "through"
