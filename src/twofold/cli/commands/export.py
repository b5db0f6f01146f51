"""`twofold export`: the two files that are a language model."""

from pathlib import Path
from typing import Annotated

import typer

from twofold.cli import models

SECTION = "Files"
EXAMPLE = ("twofold export RUN", "write the two files: model.gguf and run.c")


def command(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help=models.MODEL_HELP)] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="The folder to write them to.")
    ] = Path("two-files"),
    force: Annotated[bool, typer.Option("--force", help="Replace the two files if they exist.")] = False,
) -> None:
    """Write exactly two files, model.gguf and run.c, that talk on any machine with a C compiler.

    No Python, no library and no network is needed from there on. A Hugging Face folder becomes GGUF (q8_0).
    """
    import shlex

    from rich.text import Text

    from twofold import parameters
    from twofold.base.errors import UsageError
    from twofold.base.files import atomic_write
    from twofold.cli import terminal
    from twofold.run import library

    source = models.find(run)
    targets = {name: out / name for name in ("model.gguf", "run.c")}
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: --out names a folder.")
    if out.exists() and out.resolve() == source.resolve().parent:
        raise UsageError(f"The model is read from {out} itself: give --out another folder.")
    there = [str(path) for path in targets.values() if path.exists()]
    if there and not force:
        raise UsageError(f"{' and '.join(there)} already there: choose another --out, or --force to replace.")
    out.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        _copy(source, targets["model.gguf"])
    else:
        parameters.save_gguf(parameters.load(source), targets["model.gguf"], "Q8_0")
    with atomic_write(targets["run.c"]) as file:
        file.write(library.program().encode())

    console = terminal.console()
    meanings = {"model.gguf": "everything about the model", "run.c": "everything needed to run it"}
    for name, path in targets.items():
        size = terminal.size(path.stat().st_size)
        console.print(Text(terminal.clean(f"{out}/{name:<10}  {size:>9}  {meanings[name]}")), soft_wrap=True)
    console.print("\nThey need a C compiler once, and nothing else ever. To compile, then talk:")
    lines = (
        f"cd {shlex.quote(str(out))}",
        "cc -O3 -march=native run.c -o run -lm -lpthread",
        "./run model.gguf",
    )
    for line in lines:
        console.print(Text(terminal.clean(f"  {line}"), "cyan"), soft_wrap=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file of any size, atomically."""
    import shutil

    from twofold.base.files import atomic_write

    with open(source, "rb") as old, atomic_write(target) as new:
        shutil.copyfileobj(old, new, 1 << 20)
