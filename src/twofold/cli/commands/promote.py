"""`twofold promote`: make a run's model the default, if it wins."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from twofold.measure.compare import Row
    from twofold.tokens.conversation import Conversation
    from twofold.tokens.pair import Pair

SECTION = "Train"
EXAMPLE = ("twofold promote RUN", "make a tuned model the default, if it is better than the present one")
KEEPS = ("own answers", "general text")  # what is not to get worse, and cannot win


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder or the name of a tuning run.")],
    margin: Annotated[
        float,
        typer.Option(
            "--margin", metavar="X", min=0, max=0.5, help="How much worse anything may be, as a share."
        ),
    ] = 0.02,
    threads: Annotated[
        int | None, typer.Option("--threads", "-t", metavar="N", help="CPU threads; default: all cores.")
    ] = None,
) -> None:
    """Make a run's model the default that chat, complete and probe open, if it wins.

    Both models answer the run's held-out conversations or pairs, read general text, and are asked the
    benchmarks at hand. The new one wins when it is better on some of the first beyond doubt (a paired test),
    and on nothing worse beyond doubt by more than the margin. The one before is kept: `twofold rollback`.
    """
    from rich.table import Table

    from twofold.base import files
    from twofold.base.errors import TwofoldError, UsageError
    from twofold.cli import models, terminal
    from twofold.measure import compare
    from twofold.run import default, load

    folder = models.find(run).parent
    candidate, present = folder / "model.gguf", default.path()
    if not (folder / "recipe.toml").is_file() or not candidate.is_file():
        raise UsageError(f"{run} is not the folder of a finished run.")
    if files.sha256(candidate) == files.sha256(present):
        raise UsageError(f"{folder.name} is the default already.")
    held_out = _held_out(folder)
    pairs = _pairs(folder)
    if not held_out and not pairs:
        raise UsageError(f"{folder} holds no held-out conversations: only tuned models are promoted.")
    if _recipe(folder).get("settings", {}).get("reward"):
        raise UsageError(f"{folder.name} is a reward model: it judges answers and gives none.")
    console = terminal.console()
    with terminal.error_console().status("Asking both models …"):
        engines = [
            load(path, threads=threads, context=_window(folder), sequences=4) for path in (present, candidate)
        ]
        rows = compare.compare(engines[0], engines[1], held_out, pairs=pairs, tasks=compare.TASKS)
    table = Table(*compare.HEADINGS, box=None, pad_edge=False, header_style="dim")
    for cells in compare.spelled(rows):
        table.add_row(*cells)
    console.print(table)
    reason = lost(rows, margin)
    if reason is not None:
        raise TwofoldError(
            f"{folder.name} does not win: {reason}. The default stays {models.default_name()}."
        )
    before = models.default_name()
    default.promote(candidate, folder.name, {"before": before, "rows": [row.record() for row in rows]})
    console.print(
        f"{folder.name} is the default now, instead of {before}, which is kept: twofold rollback.",
        markup=False,
    )


def lost(rows: "list[Row]", margin: float) -> str | None:
    """Return why a model does not win, as half a sentence; None when it wins."""
    from twofold.measure.compare import BITS

    worse = [row.name for row in rows if row.worse(margin)]
    if worse:
        return f"on {' and '.join(worse)} it is worse by more than {100 * margin:.3g} %"
    if not any(row.better for row in rows if row.unit == BITS and row.name not in KEEPS):
        return "on no kind of held-out conversations is it better beyond doubt"
    return None


def _held_out(folder: Path) -> "dict[str, list[Conversation]]":
    """Return the held-out conversations of a run by kind."""
    import json

    from twofold.tokens.conversation import check

    found = {}
    for path in sorted((folder / "corpus").glob("*/val.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found[path.parent.name] = [
            check(json.loads(line), path.parent.name, f"{path}, line {number}")
            for number, line in enumerate(lines, 1)
        ]
    return {name: some for name, some in found.items() if some}


def _pairs(folder: Path) -> "list[Pair]":
    """Return the held-out pairs of a preference run, none of others."""
    import json

    from twofold.tokens.pair import check_pair

    path = folder / "pairs" / "val.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [check_pair(json.loads(line), path.name, f"{path}, line {n}") for n, line in enumerate(lines, 1)]


def _window(folder: Path) -> int | None:
    """Return the length of the rows that a run learned from, None when it does not say."""
    context = _recipe(folder).get("plan", {}).get("context")
    return context if isinstance(context, int) else None


def _recipe(folder: Path) -> "dict[str, Any]":
    import tomllib

    return tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
