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
    think: models.Think = None,
    settings: models.Settings = None,
) -> None:
    """Go on with a text, token by token. No chat: the model continues it like a document.

    The text and its continuation go to standard output, notes to standard error.
    """
    from rich.text import Text

    from twofold.base.errors import UsageError
    from twofold.cli import streaming, terminal, thinking
    from twofold.think import Budget, ask

    budget = None if think is None else Budget.parse(think)
    given = {
        "max_tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "seed": seed, "threads": threads,
    }  # fmt: skip
    chosen = models.generation(models.Generation(max_tokens=256), settings, **given)
    if text == "-":
        text = sys.stdin.buffer.read().decode("utf-8", errors="replace")
    engine = models.open_engine(model, chosen, thinks=budget is not None)
    chosen = models.advised(chosen, engine, settings, given)
    ids = models.prompt_ids(engine.tokenizer, text)
    room = engine.context - len(ids)
    if room < 1:
        raise UsageError(
            f"The text is {len(ids):,} tokens long and the model sees {engine.context:,} at most."
        )
    colour = sys.stdout.isatty()
    dim, plain = (streaming.DIM, streaming.PLAIN) if colour else ("", "")
    stop, notes = engine.tokenizer.stop_ids, terminal.error_console()
    printer = streaming.Printer(engine.tokenizer, stop, streaming.to_stdout, terminal.columns())
    shown, sampler = dim + terminal.clean(text) + plain, models.sampler(chosen)
    if budget is None:
        printer.write(shown)
        steps = engine.generate(ids, max_tokens=min(chosen.max_tokens, room), sampler=sampler)
        printer.run(steps, colour=colour)
        how = f"{printer.speed()}, seed {chosen.seed}"
    else:
        question = ask(text, ids, lambda other: models.prompt_ids(engine.tokenizer, other))
        found = thinking.spend(engine, question, budget, sampler, chosen, notes)
        printer.write(shown)
        how = thinking.show(found, engine, ids, sampler, printer, notes)
    streaming.to_stdout("\n")
    if probs:
        streaming.print_probabilities(terminal.console(), engine.tokenizer, printer.steps)
    notes.print(Text(terminal.clean(how), "dim"))
    if printer.interrupted:
        raise KeyboardInterrupt
