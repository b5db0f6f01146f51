"""`twofold pause`: stop a process until it is resumed."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold pause 7", "stop a process until it is resumed")


def command(
    pids: Annotated[list[int], typer.Argument(metavar="PID…", help="Numbers of processes.")],
) -> None:
    """Stop a process, between tokens, until `twofold resume`, whoever runs it."""
    from twofold.cli import processes

    processes.signal(pids, lambda system, pid: system.pause(pid))
