"""`twofold kill`: end a process; its journal stays."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold kill 7", "end a process; its journal stays")


def command(
    pids: Annotated[list[int], typer.Argument(metavar="PID…", help="Numbers of processes.")],
) -> None:
    """End a process and its children, between tokens, whoever runs it. Its journal stays."""
    from twofold.cli import processes

    processes.signal(pids, lambda system, pid: system.kill(pid))
