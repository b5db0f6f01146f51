"""`twofold list`: the models that have a name on this machine."""

from typing import Annotated

import typer

SECTION = "Models"
EXAMPLE = ("twofold list", "the models that have a name here, and their speed")


def command(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON and nothing else.")
    ] = False,
) -> None:
    """List the models that have a name here, with the speed that this machine is likely to run them at."""
    import json

    from rich.table import Table
    from rich.text import Text

    from twofold.cli import terminal
    from twofold.kernel import kernels
    from twofold.pull import shelf
    from twofold.run import pulled

    with terminal.error_console().status("Looking"):
        found = shelf.everything()
    if as_json:
        print(json.dumps([one.record() for one in found], indent=2, ensure_ascii=False))
        return
    console = terminal.console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("name", "kind", "parameters", "type", "file", "window", "tokens/s"):
        table.add_column(
            title, justify="left" if title in ("name", "kind", "type") else "right", no_wrap=True
        )
    table.columns[0].overflow = "fold"
    for one in found:
        name = Text(terminal.clean(one.name), "bold" if one.default else "")
        if one.problem:
            table.add_row(name, one.kind, Text("cannot be opened: twofold show says why", "red"))
            continue
        speed = f"{one.predicted_tokens_per_s:,.0f}" if one.predicted_tokens_per_s else "–"
        table.add_row(
            name, one.kind, terminal.count(one.parameters), one.file_type, terminal.size(one.bytes),
            f"{one.context:,}", speed,
        )  # fmt: skip
    console.print(table)
    console.print("[dim]Bold: the default. Speeds are forecasts; twofold bench NAME measures.[/]")
    for kernel in kernels.known().values():
        told = f"{kernel.name}: {kernel.model} at {kernel.url} ({kernel.family}), through twofold serve"
        console.print(Text(terminal.clean(told)), soft_wrap=True)
    for left, size in pulled.unfinished().items():
        told = f"{left}: {terminal.size(size)} have come; pull it again to go on, or twofold remove {left}."
        console.print(Text(terminal.clean(told), "yellow"), soft_wrap=True)
