"""An answer with a budget, in the terminal: what is going on meanwhile, the answer, how it was found."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from twofold.cli import streaming, terminal

if TYPE_CHECKING:
    from twofold.cli.models import Generation
    from twofold.run import Engine, Sampler
    from twofold.think import Budget, Found, Question, Thinker

_EVERY_S = 0.1  # the line on what is going on is written anew


@dataclass(frozen=True)
class Outcome:
    """What came of a budget: None if Ctrl-C came before there was anything."""

    found: "Found | None"
    interrupted: bool


def spend(
    engine: "Engine",
    question: "Question",
    budget: "Budget",
    sampler: "Sampler",
    chosen: "Generation",
    notes: Console,
) -> Outcome:
    """Return the answer that the budget finds; after Ctrl-C the best so far. Raises UsageError.

    At a terminal a line on `notes` says meanwhile how far that is.
    """
    from twofold.think import Thinker

    thinker = None
    try:
        thinker = Thinker(
            engine, question, budget, sampler=sampler, max_tokens=chosen.max_tokens, method=chosen.think_by
        )
        _run(thinker, notes)
    except KeyboardInterrupt:
        return Outcome(None if thinker is None else thinker.found(), True)
    return Outcome(thinker.found(), False)


def _run(thinker: "Thinker", notes: Console) -> None:
    status = notes.status("thinking", spinner_style="dim") if notes.is_terminal else None
    shown = time.monotonic()
    with status or nullcontext():
        for _ in thinker.run():
            if status is not None and time.monotonic() - shown > _EVERY_S:
                shown = time.monotonic()
                status.update(Text(f"thinking: {thinker.meter.spell()}", "dim"))


def show(
    outcome: Outcome,
    engine: "Engine",
    ids: Sequence[int],
    sampler: "Sampler",
    printer: streaming.Printer,
    notes: Console,
    *,
    strip: bool = False,
) -> str:
    """Print an answer through `printer`, and its thoughts, dimmed, on `notes`; return how it was found.

    `ids`: the prompt. The printer has the answer's steps afterwards and knows whether Ctrl-C stopped it.
    """
    found = outcome.found
    if found is None:
        printer.interrupted = True
        return "stopped by you before there was an answer"
    if found.thought:
        notes.print(Text(terminal.clean(found.thought), "dim italic"))
    before, said = [*ids, *found.ids[: found.thought_tokens]], found.ids[found.thought_tokens :]
    printer.run(iter(engine.steps(before, said, sampler)), colour=False, strip=strip or bool(found.thought))
    printer.interrupted |= outcome.interrupted
    return f"{found.how}{', stopped by you' if outcome.interrupted else ''}, seed {sampler.seed}"
