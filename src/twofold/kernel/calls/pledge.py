"""Pledge the calls that will be made: nothing else is possible from then on (kernel/pledge.py)."""

from twofold.base.errors import UsageError
from twofold.kernel.device import DeviceError, Effect, Function, Returned
from twofold.kernel.flow import NOTHING, Ring
from twofold.kernel.pledge import Pledge
from twofold.kernel.policy import Call
from twofold.kernel.syscalls import Process

FUNCTION = Function(
    name="pledge",
    description=(
        "Say which calls you will make, before you read what is from outside; nothing else is possible then. "
        'Each is {NAME: ARGUMENTS, "times": 2}, or "NAME 12" for any arguments. '
        'An argument is fixed, or open: {"open": "number"}, {"like": "Dinner at {text}"}. '
        "Types: number, integer, boolean, date, name, text."
    ),
    parameters={
        "type": "object",
        "properties": {
            "calls": {
                "type": "array",
                "items": {"type": ["object", "string"]},
            },
            "answer": {"type": "string"},
        },
        "required": ["calls"],
    },
    effect=Effect.NONE,
    trusted=True,
)  # fmt: skip


def call(process: Process, call: Call) -> Returned:
    """Bind the process. Raises DeviceError when it is bound already, or has read what is not trusted."""
    state = process.state
    if "pledge" in state.own:
        raise DeviceError("This process has pledged already.")
    if state.label.ring is Ring.TOOL:
        raise DeviceError("This process has read what is not to be trusted: it is too late to pledge.")
    try:
        pledge = Pledge.of(call.arguments, state.label)
    except UsageError as error:
        raise DeviceError(str(error)) from None
    process.write("pledged", {"pledge": pledge.record()})
    return Returned(value=None, text="Pledged.", label=NOTHING)
