"""`twofold chat`: talk to a model in the terminal, offline."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from twofold.cli.conversation import Talk
    from twofold.cli.labelling import Labeller
    from twofold.kernel.elsewhere import Kernel
    from twofold.run import Engine

SECTION = "Talk"
EXAMPLE = ("twofold chat", "talk to the small model in the box, offline")


def command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help=f"{models.MODEL_HELP} Or one of kernels.toml, or openai:MODEL, on its server.",
        ),
    ] = None,
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
    """Talk to a model in the terminal. Nothing leaves the machine, unless MODEL is one on another server.

    /fix, /compare, /better and /worse say what an answer should have been, or which of two is better: that is
    kept on this machine, and `twofold tune` learns from it.

    Without a terminal on standard input it answers one prompt (the one piped in, or a greeting) and leaves.
    """
    from twofold.cli import conversation, labelling
    from twofold.run import box
    from twofold.think import Budget

    given = {
        "max_tokens": tokens, "temperature": temperature, "top_p": top_p, "min_p": min_p, "seed": seed,
        "threads": threads,
    }  # fmt: skip
    if (kernel := models.elsewhere(model)) is not None:
        local = {"--think": think, "--judge": judge}
        chat = _elsewhere(
            kernel, settings, given, {name: value for name, value in local.items() if value}, system
        )
        _talk(chat, kernel.name, labelling.Labeller(None, f"{kernel.family}:{kernel.model}"), prompt)
        return
    budget = None if think is None else Budget.parse(think)
    chosen = models.generation(models.Generation(temperature=0.7), settings, **given)
    path = models.find(model)
    side_by_side = chosen.best_of if judge is not None else 1
    engine = models.open_engine(str(path), chosen, thinks=budget is not None, sequences=side_by_side)
    chosen = models.advised(chosen, engine, settings, given)

    def widen() -> "Engine":
        return models.open_engine(str(path), chosen, thinks=True)

    here = conversation.Conversation(engine, chosen, system, budget, widen)
    if judge is not None:
        here.judge = models.open_judge(judge, chosen)
    here.in_the_box = model in (None, "box") and path == box.path()
    name = models.default_name() if model is None else model
    _talk(here, name, labelling.Labeller(path, name), prompt)


def _elsewhere(
    kernel: "Kernel",
    settings: list[str] | None,
    given: dict[str, float | int | None],
    local: dict[str, str],
    system: str | None,
) -> "Talk":
    """Return a conversation with a model on another server. Raises TwofoldError for what only runs here."""
    from twofold.cli.elsewhere import SAMPLING, Elsewhere
    from twofold.kernel.elsewhere import refused

    said = models.said(settings, given)
    if wrong := [*local, *(name for name in said if name not in (*SAMPLING, "max_tokens"))]:
        raise refused(kernel, f"`{wrong[0]}`")
    most = said.pop("max_tokens", None)
    return Elsewhere(kernel, said, most, system)


def _talk(chat: "Talk", name: str, labeller: "Labeller", prompt: str | None) -> None:
    """Answer the prompt; without one talk with the person at the keyboard, or answer what is piped in."""
    from twofold.cli import conversation, terminal

    notes = terminal.error_console()
    if prompt is not None:
        conversation.one_shot(chat, prompt, notes)
    elif terminal.interactive():
        conversation.loop(chat, name, notes, labeller)
    else:
        piped = ""
        if sys.stdin is not None and not sys.stdin.closed:
            piped = sys.stdin.buffer.read().decode("utf-8", errors="replace").strip()
        notes.print("[dim]No terminal on standard input: one prompt, one answer.[/]")
        conversation.one_shot(chat, piped or conversation.GREETING, notes)
