"""Conversations with twofold's own devices, as a process of the kernel shows them to a model.

`talk(rng, side)` returns one: a task or two for the calculator, units, the clock, or for none of them, with
the functions told as the kernel tells them (their real schemas, or a line each for a small window) and the
results that the real devices give, so that `twofold run "what is 17*23?"` finds the model prepared.

Not covered: devices that change something; the demo's are in box_research.py.
"""

import datetime
import functools
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import box_calls
import box_sums
import box_talk
from box_turns import Message, Talk, roughly, says, user
from box_words import Side, wordings, words

from twofold import apps
from twofold import devices as peripherals
from twofold.devices.clock import Clock, zone_of
from twofold.kernel import brief
from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Context, DeviceError
from twofold.kernel.policy import Rules
from twofold.kernel.process import Program
from twofold.kernel.system import System

HELD = (
    ("calculator",),
    ("calculator", "clock"),
    ("calculator", "convert"),
    ("calculator", "convert", "clock"),
)
WHOLE = 2000  # characters of schemas that are about a quarter of the window of the model in the box


@functools.cache
def _device(name: str) -> Any:
    return peripherals.opened([name])[name]


@functools.cache
def offered(app: str, held: tuple[str, ...]) -> tuple[str, tuple[Any, ...]]:
    """Return the instructions and the functions of a process: of an app, or one that holds these devices."""
    program = apps.find(app).program("?") if app else Program(
        message="?", capabilities=tuple(Capability(device=name) for name in held)
    )  # fmt: skip
    names = [capability.device for capability in program.capabilities]
    with tempfile.TemporaryDirectory() as folder:
        system = System(
            Path(folder), minds=lambda name: _none(), devices=peripherals.opened(names), policy=Rules()
        )
        try:
            state = system.state(system.spawn(program))
            return program.instructions, tuple(system.calls.offered(state))
        finally:
            system.close()


def _none() -> Any:
    raise AssertionError("nobody is to speak")


def done(
    device: str, function: str, arguments: Mapping[str, Any], now: datetime.datetime | None = None
) -> str:
    """Return what a device answers. Raises DeviceError."""
    context = Context(pid=1, workspace=Path(), call="c1")
    opened = Clock(lambda: now, zone_of("UTC")) if now else _device(device)
    returned = opened.call(function, arguments, context)
    return str(returned.text or returned.value)


def call(name: str, **arguments: Any) -> Message:
    """Return the assistant's message that calls a function."""
    return {"role": "assistant", "content": "", "tool_calls": [{"name": name, "arguments": arguments}]}


def sum_of(rng: random.Random, side: Side) -> list[Message]:
    """Return a sum: what is asked, the call, its result and the answer; the others likewise."""
    text, inner, unit = box_sums.told(rng, side)
    got = done("calculator", "calculator", {"expression": inner})
    answer = f"That is {got} {unit}." if unit else f"{inner} = {got}."
    return [user(roughly(rng, text)), call("calculator", expression=inner), _result(got), says(answer, got)]


def units(rng: random.Random, side: Side) -> list[Message]:
    source, target, _ = rng.choice(words("units")).split(":")
    amount = rng.randint(2, 900)
    values = {"amount": amount, "source": source, "target": target}
    got = done("convert", "convert", values)
    asked = wordings("convert").draw(rng, side, **values)
    said = says(f"{amount} {source} are {got} {target}.", got)
    return [user(roughly(rng, asked)), call("convert", **values), _result(got), said]


def now(rng: random.Random, side: Side) -> list[Message]:
    got = done("clock", "clock", {}, _moment(rng))
    return [user(wordings("clock").draw(rng, side)), call("clock"), _result(got), says(f"It is {got}.", got)]


def between(rng: random.Random, side: Side) -> list[Message]:
    start = _moment(rng).date()
    end = start + datetime.timedelta(days=rng.randint(2, 900))
    given = {"start": str(start), "end": str(end)}
    got = done("clock", "between", given)
    days = str((end - start).days)
    asked = wordings("days between").draw(rng, side, **given)
    said = says(f"It is {got}.", days)
    return [user(roughly(rng, asked)), call("clock_between", **given), _result(got), said]


def later(rng: random.Random, side: Side) -> list[Message]:
    start, steps, number = _moment(rng).date(), rng.choice(("days", "weeks", "months")), rng.randint(2, 90)
    got = done("clock", "shift", {"start": str(start), steps: number})
    asked = wordings("date after").draw(rng, side, start=start, number=number, steps=steps)
    made = call("clock_shift", start=str(start), **{steps: number})
    return [user(roughly(rng, asked)), made, _result(got), says(f"That is {got}.", got)]


def small_talk(rng: random.Random, side: Side) -> list[Message]:
    asked, answer = box_talk.talk(rng, "hello", "thanks", "self", "feelings", "filler", "facts", "jokes")
    return [user(asked), says(answer)]


def lacking(rng: random.Random, side: Side) -> list[Message]:
    kind = rng.choice(("weather", "send_message", "search", "image", "set_timer"))
    values, _, _ = box_calls.KINDS[kind](rng, side)
    text = box_calls.LACKING[kind]
    asked = wordings(kind).draw(rng, side, **values)
    return [user(roughly(rng, asked)), says(text, "cannot" if "cannot" in text else "no")]


# What can be asked, by the device it needs ("" for none), and how often.
KINDS: tuple[tuple[str, Callable[[random.Random, Side], list[Message]], float], ...] = (
    ("calculator", sum_of, 5.0), ("convert", units, 2.0), ("clock", now, 1.0), ("clock", between, 1.0),
    ("clock", later, 1.0), ("", small_talk, 1.0), ("", lacking, 0.7),
)  # fmt: skip


def talk(rng: random.Random, side: Side = "train") -> Talk:
    """Return a conversation of a process that holds some devices."""
    app = "assistant" if rng.random() < 0.4 else ""
    held = rng.choice(HELD)
    instructions, tools = offered(app, held)
    names = ("calculator", "convert", "clock") if app else held
    kinds = [kind for kind in KINDS if not kind[0] or kind[0] in names]
    messages: list[Message] = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        _, make, _ = rng.choices(kinds, [weight for _, _, weight in kinds])[0]
        try:
            messages += make(rng, side)
        except DeviceError:  # a division by zero, or a unit that it does not know
            continue
    if not messages:
        return talk(rng, side)
    # As the kernel does (kernel/brief.py): whole schemas where they take a quarter of the window at most.
    if len(json.dumps(tools)) <= WHOLE:
        before = [{"role": "system", "content": instructions}] if instructions else []
        return Talk("devices", [*before, *messages], schemas=tools)
    told = {"role": "system", "content": brief.below(instructions, tools)}
    return Talk("devices", [told, *messages])


def _moment(rng: random.Random) -> datetime.datetime:
    """Return a moment of these years, to the minute."""
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return start + datetime.timedelta(minutes=rng.randint(0, 12 * 365 * 24 * 60))


def _result(text: str) -> Message:
    return {"role": "tool", "content": text}
