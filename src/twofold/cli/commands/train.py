"""`twofold train`: from text to two files that talk."""

from typing import TYPE_CHECKING, Annotated

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from twofold.train import Improved, Result

SECTION = "Train"
EXAMPLE = ("twofold train FOLDER --time 20m", "make a model from a folder of text in twenty minutes")


def command(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Text: files, folders (txt, md, html, pdf, jsonl; .gz, .zst) or a hub data set owner/name.",
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="TIME", help="For the whole run: 90s, 20m, 1h30m; default: 20m."),
    ] = None,
    flops: Annotated[
        float | None,
        typer.Option("--flops", metavar="N", help="Instead of a time: operations to spend, as 1e16."),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", min=1, max=48, help="The number of layers; all sizes follow."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="MODEL", help="Go on from this model, with its tokenizer and shape; else anew."
        ),
    ] = None,
    out: models.RunFolder = None,
    resume: models.Resume = None,
    val: Annotated[
        list[str] | None,
        typer.Option("--val", metavar="PATH", help="Held-out text; default: 2 % of the documents."),
    ] = None,
    vocab: Annotated[
        int | None, typer.Option("--vocab", metavar="N", help="Size of the vocabulary, a multiple of 64.")
    ] = None,
    seed: models.RunSeed = None,
    settings: models.Settings = None,
) -> None:
    """Train a model and leave two files that talk: model.gguf and run.c.

    The plan is printed before the first step. Ctrl-C saves; --resume goes on.
    """
    from twofold.base.errors import UsageError

    flags = {
        "PATH": paths, "--time": time, "--flops": flops, "--depth": depth, "--out": out, "--val": val,
        "--vocab": vocab, "--start": start, "--seed": seed, "--set": settings,
    }  # fmt: skip
    models.alone(resume, flags)
    if start is not None and (depth is not None or vocab is not None):
        raise UsageError(
            "--start takes the shape and the tokenizer of its model: leave out --depth and --vocab."
        )
    if resume is None and not paths:
        raise UsageError("Say what to read: `twofold train FOLDER`, or go on with a run: `--resume RUN`.")

    from twofold import train
    from twofold.base import config as configs
    from twofold.cli import terminal
    from twofold.train.dial import ShapeConfig

    console = terminal.error_console() if train.speaks() else None
    if resume is not None:
        result = train.resume(resume, console=console)
    else:
        try:
            shape = ShapeConfig(depth=depth, vocab=vocab)
            config = train.PretrainConfig(
                data=tuple(paths or ()), time=time, flops=flops, out=out, val=tuple(val or ()),
                seed=seed or 0, model=shape, start=None if start is None else models.start(start),
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(f"These options do not work: {error}") from error
        config = configs.override(config, settings or [])
        result = train.pretrain(config, console=console)
    if train.speaks():
        _tell(result)


def _tell(result: "Result | Improved") -> None:
    """Say where the two files are and how to talk to them."""
    from rich.text import Text

    from twofold.cli import terminal

    console = terminal.console()
    files = [result.model, result.folder / "run.c", result.folder / "card.md"]
    for path in files:
        console.print(Text(f"{path}  {terminal.size(path.stat().st_size)}", "bold"), soft_wrap=True)
    talk = "chat" if result.chats else 'complete "Once upon a time" -m'
    program = result.folder / "run"
    console.print(
        f"\nGo on with a text or talk, offline:\n  twofold {talk} {result.folder}\n"
        "or with nothing but a C compiler:\n"
        f"  cc -O3 -march=native {files[1]} -o {program} -lm -lpthread && {program} {result.model}",
        markup=False,
        soft_wrap=True,
    )
