"""`twofold complete`: let a model go on with a text."""

import sys
from typing import Annotated

import typer

from twofold.cli import models

SECTION = "Talk"
EXAMPLE = ('twofold complete "Once upon a"', "let the model go on with a text, as a base model dreams")


def command(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text to go on with; '-' reads it from standard input.")
    ] = "",
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help=models.MODEL_HELP)
    ] = None,
    tokens: models.MaxTokens = None,
    temperature: models.Temperature = None,
    top_k: models.TopK = None,
    top_p: models.TopP = None,
    min_p: models.MinP = None,
    seed: models.Seed = None,
    threads: models.Threads = None,
    probs: Annotated[
        bool, typer.Option("--probs", help="Afterwards show each token's alternatives.")
    ] = False,
    settings: models.Settings = None,
) -> None:
    """Go on with a text, token by token. No chat: the model continues it like a document.

    The text and its continuation go to standard output, notes to standard error.
    """
    from rich.text import Text

    from twofold.base.errors import UsageError
    from twofold.cli import streaming, terminal

    chosen = models.generation(
        models.Generation(max_tokens=256),
        settings,
        max_tokens=tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        threads=threads,
    )
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    engine = models.open_engine(model, chosen)
    ids = models.prompt_ids(engine.tokenizer, text)
    room = engine.context - len(ids)
    if room < 1:
        raise UsageError(
            f"The text is {len(ids):,} tokens long and the model sees {engine.context:,} at most."
        )
    colour = sys.stdout.isatty()
    dim, plain = (streaming.DIM, streaming.PLAIN) if colour else ("", "")
    stop = engine.tokenizer.stop_ids
    printer = streaming.Printer(engine.tokenizer, stop, streaming.to_stdout, terminal.columns())
    printer.write(dim + terminal.clean(text) + plain)
    made = engine.generate(ids, max_tokens=min(chosen.max_tokens, room), sampler=models.sampler(chosen))
    printer.run(made, colour=colour)
    streaming.to_stdout("\n")
    if probs:
        streaming.print_probabilities(terminal.console(), engine.tokenizer, printer.steps)
    terminal.error_console().print(Text(f"{printer.speed()}, seed {chosen.seed}", "dim"))
    if printer.interrupted:
        raise KeyboardInterrupt
