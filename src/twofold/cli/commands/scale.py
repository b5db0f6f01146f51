"""`twofold scale`: a ladder of small runs, this machine's scaling law, and a forecast put to the test."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from rich.table import Table

    from twofold.measure.ladder import Ladder

SECTION = "Train"
EXAMPLE = ("twofold scale FOLDER --time 25m", "fit this machine's scaling law, for better plans")


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH", help="Text: files, folders or a hub data set, as for twofold train."),
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", metavar="TIME", help="For all runs together; default: 25m.")
    ] = None,
    flops: Annotated[
        float | None,
        typer.Option(
            "--flops", metavar="N", help="Instead of a time: operations of the largest run but one."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Where it goes; default: runs/ladder.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="FOLDER", help="Go on with a ladder, or show it again.")
    ] = None,
    val: Annotated[
        list[str] | None,
        typer.Option("--val", metavar="PATH", help="Held-out text; default: 1 % of the documents."),
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Show the ladder that is kept, and train none.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep/--no-keep", help="Keep it as this machine's own, for train and plan.")
    ] = True,
    settings: models.Settings = None,
) -> None:
    """Train a ladder of small models, fit the law of their losses, and test it on a larger one.

    Afterwards `twofold train --time` and `twofold plan --gpu here` plan by
    it. Ctrl-C stops; the same command or --resume goes on.
    """
    from twofold.base.errors import UsageError
    from twofold.cli import terminal
    from twofold.measure import ladder as ladders

    if sum((bool(paths), resume is not None, show)) != 1:
        raise UsageError("Say what to read (`twofold scale FOLDER`), or give --resume FOLDER, or --show.")
    if show:
        place = ladders.place()
        if not place.is_file():
            raise UsageError("No ladder is kept on this machine yet: `twofold scale FOLDER` makes one.")
        _show(ladders.parse(place.read_text(encoding="utf-8"), str(place)))
        return
    found, folder = _climb(paths or [], time, flops, out, resume, val or [], settings or [])
    from twofold.measure import ladder_plots

    drawn = ladder_plots.write(found, folder)
    _show(found)
    console = terminal.console()
    kept = [ladders.keep(found)] if keep else []
    for path in [folder / "ladder.json", *drawn, *kept]:
        console.print(terminal.clean(str(path)), style="bold", markup=False, soft_wrap=True)
    if keep:
        console.print("\nFrom now on `twofold train --time` and `twofold plan --gpu here` plan by it.")


def _climb(
    paths: list[str], time: str | None, flops: float | None, out: Path | None, resume: Path | None,
    val: list[str], settings: list[str],
) -> "tuple[Ladder, Path]":  # fmt: skip
    """Return the finished ladder and its folder."""
    import dataclasses

    from twofold.base import config as configs
    from twofold.base.errors import UsageError
    from twofold.cli import terminal
    from twofold.train import ladder as training

    console = terminal.error_console()
    if resume is not None:
        if time or flops or out or val or settings:
            raise UsageError("--resume takes the ladder's own settings; give nothing else.")
        config, _ = training.read(resume)
    else:
        config = training.LadderConfig(data=tuple(paths), val=tuple(val), flops=flops)
        config = dataclasses.replace(config, time=time or config.time, out=out or config.out)
        config = configs.override(config, settings)
    try:
        return training.scale(config, console=console), config.out
    except KeyboardInterrupt:
        console.print(f"Stopped; finished runs are kept. Go on with: twofold scale --resume {config.out}")
        raise


def _show(ladder: "Ladder") -> None:
    """Show the law, the forecast and what came of it, and both pictures."""
    from rich.text import Text

    from twofold.cli import curves, terminal
    from twofold.measure import ladder as ladders
    from twofold.measure import ladder_plots

    console = terminal.console()
    console.print(
        Text.assemble(
            (terminal.clean(ladder.name), "bold"),
            f"  {len(ladder.runs)} runs on {terminal.clean(ladder.device)}, vocabulary {ladder.vocabulary:,}",
        )
    )
    console.print(_law(ladder))
    short = len(ladder.runs) - len(ladders.fitted(ladder.runs))
    if short:
        console.print(
            f"[dim]Not fitted to {short} run{'s' * (short != 1)} of less than {ladders.SHORT} tokens per "
            "weight.[/]"
        )
    pictures = (
        ("Loss against compute", "bits per byte by operations", ladder_plots.curves),
        ("Loss against size at equal compute", "bits per byte by weights", ladder_plots.isoflops),
    )
    for title, axes, make in pictures:
        lines = make(ladder, ladder.fit.law)
        console.print(f"\n[bold]{title}[/]  {axes}; * held out")
        console.print(curves.draw(lines, console.width, plain=console.options.ascii_only))
        names = [f"{curves.letter(i)} {curve.name}" for i, curve in enumerate(lines) if curve.runs]
        console.print(f"[dim]{', '.join(names)}[/]")
    run, error = ladder.held_out, ladder.error
    if run is not None and error is not None and ladder.foretold is not None:
        middle, low, high = ladder.foretold
        inside = "inside" if low <= run.bits_per_byte <= high else "OUTSIDE"
        console.print(
            f"\n[bold]Foretold[/] {middle:.4f} bits per byte ({low:.4f} to {high:.4f}) for the held-out run "
            f"of {run.weights / 1e6:.2f}M weights and {run.tokens / 1e6:.2f}M tokens, which the fit had not "
            "seen. "
            f"[bold]It became {run.bits_per_byte:.4f}[/]: {100 * error:+.2f} % off, {inside} the interval."
        )


def _law(ladder: "Ladder") -> "Table":
    """Return the law's numbers with their intervals."""
    from rich.table import Table

    law, fit = ladder.fit.law, ladder.fit
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("bits per byte = E + A/N^α + B/D^β", "fitted", "95 %"):
        table.add_column(title, justify="left" if title.startswith("bits") else "right", no_wrap=True)
    meanings = {
        "E": "E, the floor", "A": "A", "alpha": "α, what size gains", "B": "B, D in bytes of text",
        "beta": "β, what text gains",
    }  # fmt: skip
    for name, meaning in meanings.items():
        low, high = fit.interval(name)
        table.add_row(meaning, f"{getattr(law, name):.3g}", f"{low:.3g} to {high:.3g}")
    return table
