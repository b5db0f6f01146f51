"""Devices for tests of the MCP server, and a program that offers them over standard input and output.

Started by tests: `python mcp_offering.py FOLDER`.
"""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, DeviceError, Effect, Function, Returned
from twofold.kernel.policy import ByCapability, Call, Decision, Grant
from twofold.kernel.process import State
from twofold.kernel.system import System
from twofold.serve.mcp import Guest, Offer, over_pipes


def function(name: str, effect: Effect, **kinds: str) -> Function:
    properties = {key: {"type": kind} for key, kind in kinds.items()}
    schema = {"type": "object", "properties": properties, "required": list(kinds)}
    return Function(name=name, description=f"Does {name}.", parameters=schema, effect=effect)


class Desk:
    """Adds, waits until it is told to stop, draws, sends, and fails."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.stopped = 0

    def functions(self) -> Sequence[Function]:
        return [
            function("add", Effect.NONE, a="integer", b="integer"),
            function("wait", Effect.READ),
            function("draw", Effect.NONE),
            function("send", Effect.SEND, text="string"),
            function("fail", Effect.NONE),
        ]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        match function:
            case "add":
                return Returned(value=arguments["a"] + arguments["b"])
            case "send":
                self.sent.append(arguments["text"])
                return Returned(value={"sent": arguments["text"]})
            case "draw":
                (context.workspace / "dot.png").write_bytes(b"\x89PNG")
                return Returned(value="drawn", files=("dot.png",))
            case "fail":
                raise DeviceError("This cannot be done.")
        while not context.cancelled():
            time.sleep(0.01)
        self.stopped += 1
        raise DeviceError("It was told to stop.")

    def close(self) -> None:
        pass


class Asks(ByCapability):
    """Asks before anything is sent."""

    def decide(self, call: Call, state: State, grants: Sequence[Grant]) -> Decision:
        found = super().decide(call, state, grants)
        if found.verdict == "allow" and call.function.effect is Effect.SEND:
            shows = {"text": call.arguments["text"], "ring": int(call.process.ring)}
            return Decision(verdict="ask", rule="asks", reason="It sends.", shows=shows)
        return found


@contextmanager
def offering(folder: Path) -> Iterator[tuple[Offer, System, Desk]]:
    """Give an offer of a desk, its system, and the desk."""
    guest, desk = Guest(), Desk()
    system = System(folder, minds=lambda name: guest, devices={"desk": desk}, policy=Asks(), workers=2)
    system.start()
    functions = ("add", "wait", "draw", "send", "fail")
    offer = Offer(system, guest, system.devices, [Capability(device="desk", functions=functions)])
    try:
        yield offer, system, desk
    finally:
        offer.close()
        system.close()


if __name__ == "__main__":
    with offering(Path(sys.argv[1])) as (made, _, _):
        over_pipes(made)
