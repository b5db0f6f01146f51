"""`twofold ps`: the processes of the LLM OS."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold ps", "the processes there are, and what they wait for")
_LAST = 10  # of those that are over


def command(
    everything: Annotated[bool, typer.Option("--all", "-a", help="Show all that are over, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List processes: how they are, what they have spent, and what they are to do."""
    import dataclasses
    import json

    from rich.table import Table
    from rich.text import Text

    from twofold.cli import processes, terminal

    system = processes.system()
    try:
        states = system.processes()
        over = [state.pid for state in states if state.exit]
        shown = [s for s in states if everything or as_json or not s.exit or s.pid in over[-_LAST:]]
        words = {state.pid: system.status(state) for state in shown}
    finally:
        system.close()
    if as_json:
        from twofold.kernel.process import quoted

        rows = [
            {"pid": s.pid, "parent": s.parent, "status": words[s.pid], "app": s.program.app, "begun": s.begun,
             "model": s.program.model, "task": s.program.message, "answer": quoted(s.answer, s)[0],
             "events": s.seq, "spent": dataclasses.asdict(s.spent)}
            for s in shown
        ]  # fmt: skip
        print(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("pid", "status", "age", "tokens", "calls"):
        left = title == "status"
        table.add_column(
            title, justify="left" if left else "right", no_wrap=True, overflow="ellipsis",
            max_width=30 if left else None,
        )  # fmt: skip
    table.add_column("task", no_wrap=True, overflow="ellipsis", ratio=1)
    for state in shown:
        styles = {"waiting for you": "yellow", "running": "green"}
        style = "dim" if state.exit else styles.get(words[state.pid], "")
        status = Text(terminal.clean(words[state.pid]), style)
        task = f"{state.program.app}: " if state.program.app else ""
        table.add_row(
            str(state.pid), status, processes.age(state.begun), f"{state.spent.tokens or 0:,}",
            str(state.spent.calls or 0), Text(task + processes.short(state.program.message)),
        )  # fmt: skip
    console = terminal.console()
    console.print(table if shown else 'There are no processes: twofold run "a task" begins one.')
    if len(shown) < len(states):
        console.print(f"[dim]{len(states) - len(shown)} older ones are over: --all lists them.[/]")
