"""`twofold resume`: go on with a process that was paused, left or killed with its program."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold resume 7", "go on with a process, after a pause as after a crash")


def command(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The process's number; twofold ps lists them.")],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="Say this to it first.")] = None,
) -> None:
    """Go on with a process from its journal, which is checked first.

    What it had called and what had not returned is called again if that can do no harm; else it asks you.
    """
    from rich.text import Text

    from twofold.cli import processes, terminal

    system = processes.system_of(pid)
    try:
        if text is not None:
            system.tell(pid, text)
        mine = system.resume(pid)
    except BaseException:
        system.close()
        raise
    if not mine:
        system.close()
        terminal.console().print(Text(f"Process {pid} goes on in the program that runs it."))
        return
    processes.attend(system, pid)
