"""`twofold chat`: talk to a model in the terminal, offline."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from twofold.run import Engine

SECTION = "Talk"
EXAMPLE = ("twofold chat", "talk to the small model in the box, offline")


def command(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=models.MODEL_HELP)] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="Answer this one prompt and leave.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", help="Instructions the model sees first.")
    ] = None,
    tokens: models.MaxTokens = None,
    temperature: models.Temperature = None,
    top_p: models.TopP = None,
    min_p: models.MinP = None,
    seed: models.Seed = None,
    threads: models.Threads = None,
    think: models.Think = None,
    judge: Annotated[
        str | None,
        typer.Option("--judge", metavar="REWARD", help="A reward model: it chooses among `--set best_of=8`."),
    ] = None,
    settings: models.Settings = None,
) -> None:
    """Talk to a model in the terminal. Nothing leaves the machine.

    /fix, /compare, /better and /worse say what an answer should have been, or which of two is better: that is
    kept on this machine, and `twofold tune` learns from it.

    Without a terminal on standard input it answers one prompt (the one piped in, or a greeting) and leaves.
    """
    from twofold.cli import conversation, labelling, terminal
    from twofold.run import box
    from twofold.think import Budget

    budget = None if think is None else Budget.parse(think)
    chosen = models.generation(
        models.Generation(temperature=0.7),
        settings,
        max_tokens=tokens,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        threads=threads,
    )
    notes = terminal.error_console()
    path = models.find(model)
    side_by_side = chosen.best_of if judge is not None else 1
    engine = models.open_engine(str(path), chosen, thinks=budget is not None, sequences=side_by_side)

    def widen() -> "Engine":
        return models.open_engine(str(path), chosen, thinks=True)

    chat = conversation.Conversation(engine, chosen, system, budget, widen)
    if judge is not None:
        chat.judge = models.open_judge(judge, chosen)
    if prompt is not None:
        conversation.one_shot(chat, prompt, notes)
    elif terminal.interactive():
        name = models.default_name() if model is None else model
        in_the_box = model in (None, "box") and path == box.path()
        conversation.loop(chat, name, notes, labelling.Labeller(path, name), in_the_box=in_the_box)
    else:
        piped = ""
        if sys.stdin is not None and not sys.stdin.closed:
            piped = sys.stdin.buffer.read().decode("utf-8", errors="replace").strip()
        notes.print("[dim]No terminal on standard input: one prompt, one answer.[/]")
        conversation.one_shot(chat, piped or conversation.GREETING, notes)
