"""`twofold probe`: what comes next, and how sure the model is."""

from typing import Annotated

import typer

from twofold.cli import models

SECTION = "Talk"
EXAMPLE = ('twofold probe "cat sat on a"', "see the likeliest next words, with percentages")


def command(
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The text to continue; empty = the start of a document.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help=models.MODEL_HELP)
    ] = None,
    top: Annotated[
        int, typer.Option("--top", "-n", metavar="N", min=1, max=200, help="How many next tokens to show.")
    ] = 10,
    temperature: Annotated[
        float, typer.Option("--temp", metavar="X", min=0.01, help="Below 1 sharpens, above 1 flattens.")
    ] = 1.0,
    threads: models.Threads = None,
) -> None:
    """Show the likeliest next tokens after a text, as a table with bars.

    A language model does one thing: it gives every token of its vocabulary a probability of being next.
    """
    import numpy as np
    from rich.table import Table
    from rich.text import Text

    from twofold.base.errors import UsageError
    from twofold.cli import terminal

    engine = models.open_engine(model, models.Generation(threads=threads))
    ids = models.prompt_ids(engine.tokenizer, text)
    if len(ids) > engine.context:
        raise UsageError(
            f"The text is {len(ids):,} tokens long and the model sees {engine.context:,} at most."
        )
    tokens = np.asarray(ids, np.int32)
    places = np.arange(len(ids), dtype=np.int32)
    logits_V = engine.forward(tokens, np.zeros_like(tokens), places, places == len(ids) - 1)[0]
    scaled_V = logits_V.astype(np.float64) / temperature
    probability_V = np.exp(scaled_V - scaled_V.max())
    probability_V /= probability_V.sum()
    best = np.argsort(-probability_V, kind="stable")[:top]

    console = terminal.console()
    room = max(10, min(40, console.width - 42))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("", justify="right", style="dim")
    table.add_column("next token", no_wrap=True, max_width=24)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for rank, token in enumerate(best.tolist(), 1):
        share = float(probability_V[token])
        name = terminal.visible(engine.tokenizer.token_bytes(token))
        bar = _bar(share / float(probability_V[best[0]]), room)
        table.add_row(str(rank), Text(name, "bold"), terminal.percent(share), Text(bar, "cyan"))
    console.print(Text(terminal.clean(text) or "(start of a document)").append(" …", style="cyan"))
    console.print(table)
    rest = max(0.0, 1.0 - float(probability_V[best].sum()))
    entropy_bits = float(-(probability_V * np.log2(np.maximum(probability_V, 1e-300))).sum())
    console.print(
        f"[dim]{terminal.percent(rest)} on the other {len(probability_V) - len(best):,} tokens · "
        f"uncertainty {entropy_bits:.2f} bits[/]"
    )


def _bar(share: float, room: int) -> str:
    """Return a bar of `share` × `room` columns, drawn in eighths of a column."""
    eighths = round(share * room * 8)
    return "█" * (eighths // 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
