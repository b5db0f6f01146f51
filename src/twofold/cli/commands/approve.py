"""`twofold approve`: answer what processes ask, wherever they run."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold approve 7", "see what a process asks, exactly what will flow where, and answer")


def command(
    pid: Annotated[
        int | None, typer.Argument(metavar="[PID]", help="The process; default: all that ask.")
    ] = None,
    answer: Annotated[
        str | None, typer.Argument(metavar="[ANSWER]", help="once, process, always, no; or another answer.")
    ] = None,
) -> None:
    """Show what a process asks and answer it; without a terminal, or an answer, only show it."""
    from twofold.cli import processes, terminal

    system, console = processes.system(), terminal.console()
    try:
        states = [system.state(pid)] if pid is not None else system.processes()
        asking = [state for state in states if state.asks and not state.exit]
        if not asking:
            console.print("Nothing is asked.")
        for state in asking:
            if state.asks and answer is not None:
                processes.give(system, state.pid, state.asks, answer)
            elif terminal.interactive():
                processes.reply(system, state, console)
            else:
                processes.show_question(state, console)
                continue
            if not system.journal.holder(state.pid):
                console.print(f"[dim]Nobody runs it now: twofold resume {state.pid}[/]")
    finally:
        system.close()
