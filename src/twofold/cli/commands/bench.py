"""`twofold bench`: how fast a model runs here, how fast it could, and what other models would do."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from rich.table import Table

    from twofold.measure.machine import Machine, Speed
    from twofold.measure.pace import Pace
    from twofold.measure.roofline import Line
    from twofold.measure.speed import Prediction, Rates

SECTION = "Look inside"
EXAMPLE = ("twofold bench", "how fast it runs here, how fast it could, and what larger models would do")

Progress = Callable[[str], object]


def command(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=models.MODEL_HELP)] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="SIZE", help="Predict only 15M, 110M, 0.5B, 1.1B, 3B, 7B, 13B or 70B."
        ),
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option("--type", metavar="TYPE", help="Predict only q4_0, q4_k_m, q8_0, f16 or another type."),
    ] = None,
    threads: models.Threads = None,
    quick: Annotated[bool, typer.Option("--quick", help="Under ten seconds, and less exact.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw the roofline into a file too.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as JSON and nothing else.")
    ] = False,
) -> None:
    """Measure this machine and a model on it, and predict other sizes before you download them.

    With --size or --type, and no MODEL, only the machine is measured and the prediction made.
    """
    import json

    from twofold.base.errors import UsageError
    from twofold.base.files import write_text
    from twofold.cli import terminal
    from twofold.measure import machine, roofline

    sizes, types = _asked(size, type_)
    if plot is not None and plot.suffix.lower() != ".svg":
        raise UsageError(f"The roofline is written as SVG: give --plot a name that ends in .svg, not {plot}.")
    if threads is not None and threads < 1:
        raise UsageError("Threads are 1 or more.")
    wanted = model is not None or plot is not None or not (size or type_)
    path = models.find(model) if wanted else None
    with terminal.error_console().status("Measuring") as status:
        measured = _measure(
            path,
            sizes,
            types,
            threads or machine.cores(),
            quick,
            lambda what: status.update(f"Measuring {what}"),
        )
    if plot is not None and measured.pace is not None:
        title = f"{measured.pace.name} on {measured.machine.processor}"
        lines = _lines(measured.machine, measured.pace)
        write_text(plot, roofline.svg(terminal.clean(title), lines, measured.pace.points))
    if as_json:
        print(json.dumps(_record(measured), indent=2))
        return
    _show(measured)
    if plot is not None:
        terminal.console().print(f"The roofline is in {terminal.clean(str(plot))}.", markup=False)


@dataclass(frozen=True)
class Measured:
    """All that a run of the command found; `pace` and `path` are None when no model was measured.

    `disturbed`: other programs were busy meanwhile.
    """

    machine: "Machine"
    path: Path | None
    pace: "Pace | None"
    rates: "Rates"
    predictions: "list[Prediction]"
    disturbed: bool


def _asked(size: str | None, type_: str | None) -> tuple[list[str], list[str]]:
    """Return the sizes and the file types to predict. Raises UsageError for an unknown one."""
    from twofold.measure import speed

    sizes = [size.upper()] if size else list(speed.SIZES)
    types = [type_.upper()] if type_ else list(speed.TYPES)
    for one in sizes:
        for kind in types:
            speed.tensor_types(speed.shape(one), kind)
    return sizes, types


def _measure(
    path: Path | None, sizes: list[str], types: list[str], threads: int, quick: bool, tell: Progress
) -> Measured:
    """Return the figures of the machine, of the model at `path`, and what follows for other sizes."""
    from twofold import parameters
    from twofold.measure import calibration, machine, pace, speed

    effort = calibration.QUICK if quick else calibration.Effort()
    moment, most_mb = (0.04, 256) if quick else (0.12, 512)
    tell("this machine")
    found: Pace | None = None
    if path is None:
        frame = machine.measure(threads, seconds=moment, most_mb=most_mb)
    else:
        with pace.as_gguf(path) as file:
            model = parameters.load(file)
            size = pace.work_of(model).weight_bytes
            frame = machine.measure(threads, sizes=[size], seconds=moment, most_mb=most_mb)
            budget_s = 0.2 if quick else 1.0
            found = pace.measure(file, model, frame, budget_s=budget_s, tries=effort.tries, progress=tell)
    bandwidth = frame.all.bandwidth_of
    rates = calibration.calibrate(threads, speed.needed_types(sizes, types), effort, tell)
    predictions = [
        speed.predict(size, type_, rates.rates, bandwidth, frame.available_bytes)
        for size in sizes
        for type_ in types
    ]
    disturbed = rates.disturbed or (found is not None and found.disturbed)
    return Measured(frame, path, found, rates.rates, predictions, disturbed)


def _lines(frame: "Machine", found: "Pace") -> "list[Line]":
    """Return the roofs of a model: where it lies, from memory, and for floats."""
    from twofold.measure.roofline import Line

    here, memory = frame.all.bandwidth_of(found.work.weight_bytes), frame.all.memory
    lines = [Line("int8", here, 2 * frame.all.int8), Line("float32", here, 2 * frame.all.float32)]
    return lines if here < 1.1 * memory else [*lines, Line("int8 from memory", memory, 2 * frame.all.int8)]


# --- for people


def _show(measured: Measured) -> None:
    from rich.text import Text

    from twofold.cli import roofline, terminal

    console = terminal.console()
    frame = measured.machine
    console.print(
        Text.assemble(
            ("This machine", "bold"),
            f"  {terminal.clean(frame.processor)}, {frame.cores} core{'s' * (frame.cores != 1)}, "
            f"{terminal.size(frame.available_bytes)} of {terminal.size(frame.memory_bytes)} memory free",
        )
    )
    console.print(_machine_table(measured))
    if measured.pace is not None:
        found = measured.pace
        read = terminal.size(found.work.weight_bytes)
        title = f"  {terminal.count(found.parameters)} parameters, reads {read} for a token"
        console.print(Text.assemble("\n", (terminal.clean(found.name), "bold"), title))
        console.print(_pace_table(found))
        console.print("\n[bold]Roofline[/]  operations per second by operations per byte")
        lines = _lines(frame, found)
        console.print(roofline.draw(lines, found.points, console.width, plain=console.options.ascii_only))
        names = " and ".join(line.name for line in lines[1:])
        console.print(f"[dim]Line: {lines[0].name}. Dotted: {names}.[/]")
    console.print("\n[bold]What other models would do here[/]  (predicted)")
    console.print(_prediction_table(measured.predictions))
    console.print(
        "[dim]Tokens per second, at short context; memory that is free now, with 2,048 positions.[/]"
    )
    if measured.disturbed:
        console.print("Other programs were busy meanwhile: without them this machine is faster.")


def _machine_table(measured: Measured) -> "Table":
    """Return bandwidths and peaks, of one thread and of all."""
    from twofold.cli import terminal

    frame = measured.machine
    sides = [frame.one] if frame.all.threads == 1 else [frame.one, frame.all]
    names = [f"{side.threads} thread{'s' * (side.threads != 1)}" for side in sides]
    table = _table(("", "left"), *((name, "right") for name in names), ("", "left"))
    memory = terminal.size(frame.all.bandwidth[-1][0])
    table.add_row(f"read {memory}, from memory", *(_rate(side.memory, "B/s") for side in sides), "")
    if measured.pace is not None:
        size = measured.pace.work.weight_bytes
        row = [_rate(side.bandwidth_of(size), "B/s") for side in sides]
        table.add_row(f"read {terminal.size(size)}, as this model", *row, "")
    table.add_row("multiply-adds, int8", *(_rate(side.int8, "/s") for side in sides), frame.int8_instruction)
    floats = [_rate(side.float32, "/s") for side in sides]
    table.add_row("multiply-adds, float32", *floats, frame.float32_instruction)
    return table


def _pace_table(found: "Pace") -> "Table":
    """Return the model's speeds and the share of the limit that each reaches."""
    from twofold.cli import roofline, terminal

    table = _table(("", "left"), ("", "left"), ("tokens/s", "right"), ("of the limit", "right"), ("", "left"))
    for point in found.points:
        waits = point.limit_operations_per_s < found.peak
        limit = point.limit_operations_per_s / (point.operations_per_byte if waits else 2)
        table.add_row(
            roofline.letter(point),
            point.name,
            _figure(point.tokens_per_s),
            terminal.percent(point.share),
            f"of {_rate(limit, 'B/s' if waits else '/s')} {'read' if waits else 'multiply-adds'}",
        )
    return table


def _prediction_table(predictions: "Sequence[Prediction]") -> "Table":
    """Return one row per size and type; the size is said once."""
    from twofold.cli import terminal

    table = _table(
        ("model", "left"),
        ("type", "left"),
        ("file", "right"),
        ("memory", "right"),
        ("decode", "right"),
        ("prefill", "right"),
    )
    last = ""
    for one in predictions:
        memory = (
            f"{terminal.size(one.left_bytes)} left" if one.fits else f"lacks {terminal.size(-one.left_bytes)}"
        )
        speeds = [
            _figure(value) if value else "–" for value in (one.decode_tokens_per_s, one.prefill_tokens_per_s)
        ]
        name = one.size if one.size != last else ""
        table.add_row(
            name, one.type, terminal.size(one.file_bytes), memory, *speeds, style=None if one.fits else "dim"
        )
        last = one.size
    return table


def _table(*columns: tuple[str, Literal["left", "right"]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title, side in columns:
        table.add_column(title, justify=side, no_wrap=True)
    return table


def _rate(value: float, unit: str) -> str:
    """Return a rate in powers of 1000: 28.1 GB/s, 473 G/s."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.{0 if value >= 100 * size else 1}f} {prefix}{unit}"
    return f"{value:.0f} {unit}"


def _figure(value: float) -> str:
    """Return a speed with three digits that count, or all before the point: 12,345, 45.6, 0.78."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


# --- for programs


def _record(measured: Measured) -> dict[str, Any]:
    """Return everything as plain data, with units in the keys."""
    frame, found = measured.machine, measured.pace
    model: dict[str, Any] | None = None
    if found is not None:
        model = {
            "path": str(measured.path),
            "name": found.name,
            "parameters": found.parameters,
            "weight_bytes_per_token": found.work.weight_bytes,
            "speeds": [{**asdict(point), "share_of_limit": point.share} for point in found.points],
        }
    return {
        "machine": {
            "processor": frame.processor,
            "cores": frame.cores,
            "memory_bytes": frame.memory_bytes,
            "available_bytes": frame.available_bytes,
            "int8_instruction": frame.int8_instruction,
            "float32_instruction": frame.float32_instruction,
            "one_thread": _speed_record(frame.one),
            "all_threads": _speed_record(frame.all),
        },
        "model": model,
        "predictions": [{**asdict(one), "fits": one.fits} for one in measured.predictions],
        "rates_s": asdict(measured.rates),
        "disturbed": measured.disturbed,
    }


def _speed_record(side: "Speed") -> dict[str, Any]:
    return {
        "threads": side.threads,
        "int8_multiply_adds_per_s": side.int8,
        "float32_multiply_adds_per_s": side.float32,
        "bandwidth": [{"bytes": size, "bytes_per_s": value} for size, value in side.bandwidth],
    }
