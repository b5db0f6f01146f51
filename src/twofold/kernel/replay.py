"""Replay: a process again from its journal alone. What minds, devices and people said is taken from there;
what the kernel made of it, it must make again.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from twofold.base.errors import TwofoldError
from twofold.kernel.journal import MACHINE, Event
from twofold.kernel.process import Request, State, fold, step

if TYPE_CHECKING:
    from twofold.kernel.system import System

# What the kernel does by itself, and what `step` says then.
_STEPS = {"said": ("say",), "decided": ("decide", "call"), "began": ("call",), "exited": ("finish",)}


def replayed(system: "System", pid: int) -> Iterator[tuple[Event, str]]:
    """Yield each event of a process, and what the kernel would do otherwise today; "" when it follows."""
    state = None
    for event in system.events(pid):
        problem = _otherwise(system, state, event) if state else ""
        state = fold(state, event)
        yield event, problem


def _otherwise(system: "System", state: State, event: Event) -> str:
    body = event.body
    if event.kind not in _STEPS or (event.kind == "exited" and body["reason"] != "done"):
        return ""
    call = state.open()
    owner = call.owner if call else ""  # whoever ran it then
    what = step(state, owner, system.calls.repeatable)
    interrupted = event.kind == "said" and (state.stopped or state.exit or state.told > body["read"])
    if what not in _STEPS[event.kind] and not interrupted:
        return f"Today the process would {what or 'wait'}."
    if event.kind != "decided":
        return ""
    request = Request(id=body["call"], name=body["name"], arguments=body["arguments"], inside=body["inside"])
    try:
        decision = system.calls.decision(state, request, _granted(system, state, event))
    except TwofoldError as error:
        return f"Today the policy could not decide: {error}"
    today: dict[str, Any] = {"verdict": decision.verdict, "rule": decision.rule}
    if any(body[name] != value for name, value in today.items()):
        return f"Today the policy says {decision.verdict} ({decision.rule}): {decision.reason}"
    return ""


def _granted(system: "System", state: State, event: Event) -> list[Any]:
    """Return what the user had granted by then."""
    machine = system.events(MACHINE)
    ever = [one.body["grant"] for one in machine if one.kind == "granted" and one.at <= event.at]
    return [*state.grants, *ever]
