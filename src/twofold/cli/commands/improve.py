"""`twofold improve`: a model learns a task from rewards that check themselves."""

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli import models

SECTION = "Train"
EXAMPLE = (
    "twofold improve runs/my-chat --on countdown --time 20m",
    "let a model try, check its answers by a program, and learn from that",
)


def command(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A .gguf file, a run folder or a run's name.")
    ] = None,
    on: Annotated[
        str | None, typer.Option("--on", metavar="TASK", help="What to learn; a wrong name lists all tasks.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="TIME", help="For the whole run: 90s, 20m, 1h30m; default: 20m."),
    ] = None,
    method: Annotated[
        str,
        typer.Option("--method", metavar="NAME", help="grpo: by advantage; expert: imitate what was right."),
    ] = "grpo",
    imitate: Annotated[
        int | None,
        typer.Option(
            "--imitate", metavar="N", min=1, help="First learn N examples by the task's own solver."
        ),
    ] = None,
    out: models.RunFolder = None,
    resume: models.Resume = None,
    seed: models.RunSeed = None,
    settings: models.Settings = None,
) -> None:
    """Improve a model at a task whose answers a program can check.

    It is tested before and after, on problems that it never trains on.
    Ctrl-C saves; --resume goes on.
    """
    from twofold.base.errors import UsageError

    given = {
        "MODEL": model, "--on": on, "--time": time, "--imitate": imitate, "--out": out, "--seed": seed,
        "--set": settings,
    }  # fmt: skip
    models.alone(resume, given)
    if resume is None and (model is None or on is None):
        raise UsageError(
            "Say which model and at what: `twofold improve MODEL --on TASK`, or go on with --resume RUN."
        )

    from twofold.base import config as configs
    from twofold.environments import TASKS

    if on is not None:
        TASKS.get(on)  # a name that does not exist is said before torch is loaded

    from twofold import train
    from twofold.cli import terminal

    console = terminal.error_console()
    if resume is not None:
        result = train.resume(resume, console=console)
    else:
        assert on is not None
        found = models.find(model)
        # A run folder's unrounded weights are better than its model.gguf.
        path = found.parent if (found.parent / "recipe.toml").is_file() else found
        config = configs.build(
            train.ImproveConfig,
            {"model": path, "task": on, "method": method, "time": time, "out": out, "seed": seed or 0,
             "imitate": imitate or 0},
        )  # fmt: skip
        result = train.improve(configs.override(config, settings or []), console=console)
    _tell(result.folder, result.model)


def _tell(folder: Path, model: Path) -> None:
    """Say where the files are and how to talk to the model."""
    from rich.text import Text

    from twofold.cli import terminal

    console = terminal.console()
    for path in (model, folder / "run.c", folder / "card.md"):
        console.print(Text(f"{path}  {terminal.size(path.stat().st_size)}", "bold"), soft_wrap=True)
    console.print(f"\nTalk to it, offline:\n  twofold chat {folder}", markup=False, soft_wrap=True)
