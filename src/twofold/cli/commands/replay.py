"""`twofold replay`: go through a process again from its journal, and see that each step follows."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold replay 7", "go through a process again, without devices, and check each step")


def command(pid: Annotated[int, typer.Argument(metavar="PID", help="The process's number.")]) -> None:
    """Replay a process: no device is touched and no model asked; what they returned is in the journal.

    Each decision is made again and must be the one that was made; so it is seen whether another version of
    the kernel, or of the policy, would have done otherwise.
    """
    from rich.text import Text

    from twofold.base.errors import TwofoldError
    from twofold.cli import processes, terminal
    from twofold.kernel.replay import replayed

    system, console = processes.system_of(pid), terminal.console()
    try:
        if wrong := system.journal.verify(pid):
            raise TwofoldError(f"The journal was changed: {' '.join(wrong)}")
        count, otherwise = 0, 0
        for event, problem in replayed(system, pid):
            count += 1
            line = Text(f"{event.seq:>4} {event.kind:<8} ", "dim")
            console.print(line.append_text(processes.told(event) or Text("")), soft_wrap=True)
            if problem:
                otherwise += 1
                console.print(Text(f"     {problem}", "red"), soft_wrap=True)
    finally:
        system.close()
    if otherwise:
        raise TwofoldError(f"{otherwise} of {count} events would be others today.")
    console.print(f"[dim]{count} events, as they were written; each follows from those before.[/]")
