"""Read a value that is hidden: its label joins the process's, and what that may do is less from then on."""

from twofold.kernel.device import DeviceError, Effect, Function, Returned
from twofold.kernel.flow import NOTHING
from twofold.kernel.policy import Call
from twofold.kernel.syscalls import Process

FUNCTION = Function(
    name="reveal",
    description="Read a hidden value.",
    parameters={"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]},
    effect=Effect.NONE,
    targets=("value",),
    trusted=True,
)


def call(process: Process, call: Call) -> Returned:
    """Show the page. Raises DeviceError when there is no such value."""
    page = process.state.page(call.arguments["value"])
    if page is None:
        raise DeviceError(f"There is no value {call.arguments['value']}.")
    if page.hidden:
        process.write("revealed", {"page": page.id})
    return Returned(value=None, text=f"{page.id} is shown above now.", label=NOTHING)
