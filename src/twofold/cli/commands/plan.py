"""`twofold plan`: what a training run would take on any hardware: size, loss, days, dollars, layout."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from rich.table import Table

    from twofold.measure.budget import Answer, Wish, Yardstick
    from twofold.measure.hardware import Device

SECTION = "Train"
EXAMPLE = ("twofold plan --dollars 100 --gpu h100", "what a budget buys: size, loss, days, memory, layout")

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*([kmbt]?)", re.IGNORECASE)
_POWERS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_TIMES = {"s": 1 / 86400, "m": 1 / 1440, "h": 1 / 24, "d": 1.0}


def command(
    params: Annotated[
        str | None, typer.Option("--params", metavar="N", help="Size in weights: 70e9, 70B, 500M.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="N", help="Length in tokens: 2e12, 2T, 40B.")
    ] = None,
    flops: Annotated[
        str | None, typer.Option("--flops", metavar="N", help="Operations to spend: 1e21.")
    ] = None,
    dollars: Annotated[
        str | None, typer.Option("--dollars", metavar="N", help="Money to spend: 100, 2M.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="Time to spend: 12d, 36h, 1d12h, 20m.")
    ] = None,
    loss: Annotated[float | None, typer.Option("--loss", metavar="X", help="A loss to reach.")] = None,
    gpu: Annotated[
        str, typer.Option("--gpu", metavar="NAME", help="Device: a name of --list, or here: this machine.")
    ] = "h100",
    devices: Annotated[
        int | None, typer.Option("--devices", metavar="N", help="How many; default: as few as do it in time.")
    ] = None,
    hardware: Annotated[
        Path | None, typer.Option("--hardware", metavar="FILE.toml", help="More devices, or other figures.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the devices and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON and nothing else.")] = False,
    settings: models.Settings = None,
) -> None:
    """Plan a training run: what a budget buys, or what a model takes, and what it would take instead.

    Give a budget (--flops, --dollars, --time), a --loss to reach, or
    --params and --tokens; the rest follows. Losses are those of Chinchilla's
    runs; with --gpu here, of this machine's own ladder when there is one.
    --set takes price (dollars an hour), context, utilisation, batch_tokens.
    """
    import dataclasses
    import json

    from twofold.base import config as configs
    from twofold.measure import budget
    from twofold.measure import hardware as table

    if list_:
        _show_devices(table.devices(hardware))
        return
    wish = budget.Wish(
        weights=_number("--params", params), tokens=_number("--tokens", tokens),
        flops=_number("--flops", flops), dollars=_number("--dollars", dollars), days=_days(time), loss=loss,
        devices=devices, context=512 if gpu == table.HERE else 4096,
    )  # fmt: skip
    wish = configs.override(wish, settings or [])
    device, law = _device(gpu, hardware)
    if wish.price is not None:
        device = dataclasses.replace(device, dollars_per_hour=wish.price)
    found = budget.answer(wish, device, law)
    others = budget.instead(wish, found, law)
    if as_json:
        record = {"plan": _record(found, law), "instead": {name: _record(one, law) for name, one in others}}
        print(json.dumps(record, indent=2))
        return
    _show(wish, found, others, law)


def _device(name: str, extra: Path | None) -> "tuple[Device, Yardstick]":
    """Return the device and the law to plan by."""
    from twofold.measure import budget, ladder
    from twofold.measure import hardware as table
    from twofold.measure.machine import processor

    if name.strip().lower() != table.HERE:
        return table.find(name, extra), budget.chinchilla()
    kept = ladder.kept(processor())
    return table.here(kept, extra), budget.chinchilla() if kept is None else budget.of_ladder(kept)


def _number(option: str, text: str | None) -> float | None:
    """Return the number in 70e9, 70B or 500M. Raises UsageError."""
    from twofold.base.errors import UsageError

    if text is None:
        return None
    match = _NUMBER.fullmatch(text.strip().replace(",", "").replace("_", "").lstrip("$"))
    if match is None:
        raise UsageError(f"{option} takes a number such as 70e9, 70B or 2T, not {text!r}.")
    return float(match[1]) * _POWERS[match[2].lower()]


def _days(text: str | None) -> float | None:
    """Return the days in a time such as 12d, 36h or 1d12h. Raises UsageError."""
    from twofold.base.errors import UsageError

    if text is None:
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([dhms])", text.strip().lower())
    if not parts or re.sub(r"\d+(\.\d+)?\s*[dhms]\s*", "", text.strip().lower()):
        raise UsageError(f"--time takes a time such as 12d, 36h or 1d12h, not {text!r}.")
    return sum(float(number) * _TIMES[unit] for number, unit in parts)


# --- for people


def _show(wish: "Wish", found: "Answer", others: "list[tuple[str, Answer]]", law: "Yardstick") -> None:
    from rich.table import Table

    from twofold.cli import terminal

    console = terminal.console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, value in _rows(wish, found, law):
        table.add_row(name, value)
    console.print(table)
    console.print("\n[bold]Instead[/]")
    console.print(_others([("this plan", found), *others]))
    floor = f"not even an endless run goes below {law.fit.law.E:.3g}"
    console.print(f"[dim]Loss in {law.unit}, by {law.name}; {floor}.[/]", highlight=False)
    low, high = law.range
    if not low <= found.weights <= high:
        console.print(
            f"[dim]The law is of {_big(low)} to {_big(high)} weights: beyond them it is a guess.[/]"
        )


def _rows(wish: "Wish", found: "Answer", law: "Yardstick") -> list[tuple[str, str]]:
    """Return the plan as pairs of a name and a value for people."""
    from twofold.cli import terminal
    from twofold.measure import layout

    device, shape = found.device, layout.shape(found.weights)
    peak = f"{device.bf16_tflops:,.0f}" if device.bf16_tflops >= 10 else f"{device.bf16_tflops:.2g}"
    each = f"{100 * found.utilisation:.0f} % of {peak} TFLOP/s" + (" each" if found.devices > 1 else "")
    hours = f"{found.device_hours:,.0f}" if found.device_hours >= 100 else f"{found.device_hours:.3g}"
    middle, low, high = found.loss
    rows = [
        ("model", f"{_big(found.weights)} weights; usual shape {shape.layers} layers × {shape.width:,}"),
        (
            "reads",
            f"{_big(found.tokens)} tokens, {found.tokens / found.weights:.3g} for each weight; batches of "
            f"{_big(found.batch_tokens)}",
        ),
        ("computes", f"{found.flops:.3g} operations"),
        ("devices", f"{found.devices:,} × {terminal.clean(device.title)}, {each}"),
        ("time", f"{_time(found.seconds)} ({hours} device-hours)"),
    ]
    if device.dollars_per_hour:
        rows.append(("cost", f"{_money(found.dollars)} at ${device.dollars_per_hour:.2f} an hour each"))
    rows.append(("loss", f"{middle:.3f} {law.unit} ({low:.2f} to {high:.2f})"))
    if found.layout is None:
        least = layout.least_devices(found.weights, device, wish.context)
        many = (
            f"it takes {least:,} of them" if least > found.devices else "the batch is too small for so many"
        )
        return [*rows, ("memory", f"[red]no layout fits: {many}[/]")]
    memory, lay = found.layout.memory, found.layout
    parts = {
        "weights": memory.weights, "gradients": memory.gradients, "optimiser": memory.optimiser,
        "activations": memory.activations,
    }  # fmt: skip
    told = ", ".join(f"{name} {terminal.size(size)}" for name, size in parts.items())
    rows.append(
        ("memory", f"{terminal.size(memory.total)} of {terminal.size(device.memory)} on each: {told}")
    )
    if found.devices > 1:
        rows.append(("layout", lay.spelled))
    rows.append(("a step", f"{lay.rows} sequence{'s' * (lay.rows != 1)} of {wish.context:,} at a time, "
                 f"{lay.micro} time{'s' * (lay.micro != 1)}, on each"))  # fmt: skip
    return rows


def _others(answers: "list[tuple[str, Answer]]") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    priced = any(one.dollars for _, one in answers)
    table.add_column("")
    for title in ("weights", "tokens", "devices", "time", *(["cost"] if priced else []), "loss"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, one in answers:
        cost = [_money(one.dollars)] if priced else []
        figures = (_big(one.weights), _big(one.tokens), f"{one.devices:,}", _time(one.seconds), *cost)
        table.add_row(name, *figures, f"{one.loss[0]:.3f}")
    return table


def _show_devices(devices: "dict[str, Device]") -> None:
    from rich.table import Table

    from twofold.cli import terminal

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("name", "TFLOP/s", "memory", "bandwidth", "in one", "$/hour"):
        table.add_column(title, justify="left" if title == "name" else "right", no_wrap=True)
    for name, device in devices.items():
        table.add_row(
            terminal.clean(name), f"{device.bf16_tflops:,.0f}", f"{device.memory_gb:,.0f} GB",
            f"{device.bandwidth_gb_s:,.0f} GB/s", str(device.per_node), f"{device.dollars_per_hour:.2f}",
        )  # fmt: skip
    console = terminal.console()
    console.print(table)
    console.print("\n[dim]TFLOP/s: dense bfloat16. Sources are in measure/hardware.toml.[/]")
    for name, device in devices.items():
        console.print(f"[dim]{terminal.clean(name)}: {terminal.clean(device.source)}[/]")


def _big(number: float) -> str:
    """Return a large number in short with three digits: 70B, 1.4T, 8.39M."""
    for power, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= 0.9995 * power:
            digits = 0 if number >= 99.95 * power else 1 if number >= 9.995 * power else 2
            text = f"{number / power:.{digits}f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + unit
    return f"{number:.0f}"


def _money(dollars: float) -> str:
    """Return dollars in short: $0.42, $73, $12,400, $2.45M."""
    if dollars >= 999_950:
        return f"${_big(dollars)}"
    return f"${dollars:,.2f}" if dollars < 10 else f"${dollars:,.0f}"


def _time(seconds: float) -> str:
    """Return a time with two or three digits that count: 48 s, 12 min, 3.04 h, 12.3 days."""
    for size, unit in ((86400 * 2, "days"), (5400, "h"), (120, "min")):
        if seconds >= size:
            value = seconds / {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{value:,.0f} {unit}" if value >= 100 or unit == "min" else f"{value:.3g} {unit}"
    return f"{seconds:.0f} s"


# --- for programs


def _record(found: "Answer", law: "Yardstick") -> dict[str, Any]:
    """Return a plan as plain data, with units in the keys."""
    from dataclasses import asdict

    middle, low, high = found.loss
    return {
        "device": found.device.name,
        "devices": found.devices,
        "weights": found.weights,
        "tokens": found.tokens,
        "flops": found.flops,
        "utilisation": found.utilisation,
        "seconds": found.seconds,
        "device_hours": found.device_hours,
        "dollars": found.dollars,
        "loss": {"unit": law.unit, "expected": middle, "low": low, "high": high, "law": law.name},
        "batch_tokens": found.batch_tokens,
        "layout": None if found.layout is None else asdict(found.layout),
    }
