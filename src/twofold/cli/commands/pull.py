"""`twofold pull`: a model from the Hugging Face hub, or from a path, onto the shelf."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from twofold.pull import Plan

SECTION = "Models"
EXAMPLE = ("twofold pull OWNER/REPO:Q8_0", "fetch a model, its speed here told first")


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="owner/repo, owner/repo:Q4_K_M, owner/repo:FILE.gguf, the address of its page, or a path.",
        ),
    ],
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="q8_0, q4_k_m, f16, …: the file to take, or what safetensors become; default there: q8_0.",
        ),
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="What to call it; default: as its file.")
    ] = None,
    dry: Annotated[
        bool, typer.Option("--dry", help="Only say what would come and how fast it would run here.")
    ] = False,
) -> None:
    """Fetch a model and put it where `twofold chat NAME` finds it, after saying how fast it will run here.

    GGUF files come as they are; safetensors are converted. Every byte is checked against the hub's checksums.
    Stopped or killed, the same command goes on. HF_TOKEN opens gated models, HF_ENDPOINT names another hub.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as SpeedColumn
    from rich.text import Text

    from twofold import pull
    from twofold.cli import terminal

    console, notes = terminal.console(), terminal.error_console()
    with notes.status("Looking it up"):
        plan = pull.plan(name, type_, as_)
    for line in said(plan):
        notes.print(Text(terminal.clean(line)), soft_wrap=True)
    if dry:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), SpeedColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=notes, transient=True) as progress:
            task = progress.add_task("", total=None)

            def tell(what: str, done: int, total: int) -> None:
                progress.update(task, description=terminal.clean(what), completed=done, total=total)

            path = pull.carry_out(plan, tell)
    except KeyboardInterrupt:
        notes.print("What has come is kept: the same command goes on.")
        raise
    console.print(Text(f"{plan.name}: {terminal.size(path.stat().st_size)}, checked."), soft_wrap=True)
    console.print(f"twofold chat {plan.name}", style="cyan", markup=False, soft_wrap=True)


def said(plan: "Plan") -> list[str]:
    """Return what people want to know before they download a model, a sentence or two a line."""
    from twofold.cli import terminal

    if plan.there:
        return [f"{plan.name} is here already, the same file as at {plan.where}."]
    much = terminal.size(plan.download_bytes if plan.wanted else plan.file_bytes)
    lines = [
        f"{plan.name}: {much} from {plan.where}" + (f", licence {plan.license}." if plan.license else ".")
    ]
    if plan.converts:
        lines.append(f"It becomes a file of {terminal.size(plan.file_bytes)} in {plan.type}.")
    fast = f"about {plan.tokens_per_s:,.0f} tokens/s" if plan.tokens_per_s else "how fast cannot be measured"
    lines.append(f"Here: {fast}, about {terminal.size(plan.memory_bytes)} of memory.")
    if plan.tight:
        lines.append("That is more than is free now: close other programs before you run it.")
    return lines
