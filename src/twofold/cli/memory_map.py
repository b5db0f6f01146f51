"""The memory of a process, drawn in the terminal: a map of the window, and a table of its pages."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold.cli import terminal
from twofold.kernel.ram import ram_of

if TYPE_CHECKING:
    from twofold.kernel.memory import Row
    from twofold.kernel.process import State

COLOURS = {"instructions": "magenta", "user": "cyan", "assistant": "green", "result": "yellow"}
_RINGS = ("system", "developer", "user", "tool")
_HEAT = " ▁▂▃▄▅▆▇█"
_WIDTH, _LINES = 64, 5  # cells of the map in a line, and lines
_LAST_OUT = 8  # of what is out, so many are listed without --all


def show(state: "State", rows: Sequence["Row"], console: Console, *, everything: bool = False) -> None:
    """Print the memory of a process."""
    room = ram_of(state).room
    here = [row for row in rows if row.place != "out"]
    out = [row for row in rows if row.place == "out"]
    filled = sum(row.tokens for row in here)
    title = f"process {state.pid} · about {filled:,} tokens in the window"
    if room:
        title += f" of {room:,} ({terminal.percent(min(1.0, filled / room))})"
    if out:
        title += f" · {len(out):,} parts with {sum(row.tokens for row in out):,} are out"
    console.print(Text(title, "bold"))
    console.print(_map(here, room))
    kinds = dict.fromkeys(row.kind for row in rows)
    legend = [piece for kind in kinds for piece in (("█ ", COLOURS.get(kind, "")), (f"{kind}   ", "dim"))]
    console.print(Text.assemble(*legend, ("░ ", "dim"), ("free", "dim")), end="\n\n")
    listed = here + (out if everything else out[-_LAST_OUT:])
    console.print(_table(sorted(listed, key=rows.index)))
    if len(out) > _LAST_OUT and not everything:
        console.print(f"[dim]{len(out) - _LAST_OUT:,} more parts are out: --all lists them.[/]")


def _map(here: Sequence["Row"], room: int) -> Text:
    """Return the window as cells, each as many tokens as another; what is pinned is drawn solid, the rest by
    how warm it is."""
    total = max(room, sum(row.tokens for row in here), 1)
    lines = min(_LINES, max(1, total // 256))
    cells = _WIDTH * lines
    drawn = Text()
    done = cell = 0
    for row in here:
        done += row.tokens
        upto = round(done * cells / total)
        warm = "█" if row.pinned or row.heat >= 0.5 else "▓" if row.heat >= 0.1 else "▒"
        drawn.append(warm * (upto - cell), COLOURS.get(row.kind, ""))
        cell = max(cell, upto)
    drawn.append("░" * (cells - cell), "dim")
    broken = Text("\n").join(drawn[n : n + _WIDTH] for n in range(0, cells, _WIDTH))
    return broken


def _table(rows: Sequence["Row"]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for title in ("page", "kind", "ring", "from", "tokens", "heat", "where"):
        table.add_column(title, justify="right" if title == "tokens" else "left", no_wrap=True)
    table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        style = "dim" if row.place == "out" else ""
        where = Text(row.place, style)
        if row.pinned:
            where.append(" pinned", "bold")
        sources = ", ".join(row.sources)
        table.add_row(
            Text(row.id, style), Text(row.kind, style or COLOURS.get(row.kind, "")),
            Text(_RINGS[row.ring], style or ("red" if row.ring == 3 else "")),
            Text(terminal.clean(sources if len(sources) <= 24 else sources[:23] + "…"), style),
            Text(f"{row.tokens:,}", style), Text(_HEAT[min(8, round(row.heat * 8))], "red"), where,
            Text(" ".join(terminal.clean(row.text).split())[:200], style),
        )  # fmt: skip
    return table
