"""`twofold show`: what a model is, where it came from, and how it would do here."""

from typing import Annotated

import typer

from twofold.cli import models

SECTION = "Models"
EXAMPLE = ("twofold show NAME", "where a model came from, and how it would do here")


def command(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=models.MODEL_HELP)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON and nothing else.")
    ] = False,
) -> None:
    """Show where a model came from, its licence, what it needs, and how fast it is likely to run here.

    `twofold inspect` looks inside, `twofold bench` measures.
    """
    import json

    from rich.table import Table
    from rich.text import Text

    from twofold.cli import terminal
    from twofold.pull import shelf
    from twofold.run import catalogue

    path = models.find(model)
    name = next((name for name, there in catalogue.known().items() if there == path), path.stem)
    one = shelf.about(name if model is not None else models.default_name(), path)
    if as_json:
        print(json.dumps(one.record(), indent=2, ensure_ascii=False))
        return
    speed = f"about {one.predicted_tokens_per_s:,.0f} tokens/s" if one.predicted_tokens_per_s else "–"
    source = one.source
    came = f"{source.get('repo') or source.get('path') or ''} {source.get('file') or ''}".strip()
    seen = min(shelf.CONTEXT, one.context)
    facts = {
        "name": one.name + (" (the default)" if one.default else ""),
        "file": f"{one.path}, {terminal.size(one.bytes)}",
        "model": f"{one.architecture}, {terminal.count(one.parameters)} parameters in {one.file_type}",
        "window": f"{one.context:,} tokens",
        "here": f"{speed}, about {terminal.size(one.memory_bytes)} of memory with {seen:,} tokens",
        "licence": one.license or str(source.get("license") or "") or "not said",
        "from": came,
        "commit": str(source.get("commit") or ""),
        "sha256": str(source.get("sha256") or ""),
        "pulled": str(source.get("pulled") or ""),
    }
    if one.problem:
        facts = {"name": one.name, "file": facts["file"], "problem": one.problem, "from": came}
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if value:
            table.add_row(key, Text(terminal.clean(value)))
    terminal.console().print(table)
