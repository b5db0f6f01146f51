"""`twofold fork`: go on from any moment of a process another way."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ('twofold fork 7 --say "and in dollars?"', "go on from any moment of a process another way")


def command(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The process's number.")],
    at: Annotated[
        int | None, typer.Option("--at", metavar="N", help="From after this event; twofold logs counts them.")
    ] = None,
    say: Annotated[str | None, typer.Option("--say", metavar="TEXT", help="Say this to the fork.")] = None,
    answer: Annotated[
        str | None,
        typer.Option("--answer", metavar="CALL=VALUE", help="Let this call return another value: c2.1=42."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Only make it; twofold resume runs it.")] = False,
) -> None:
    """Fork a process: the new one shares its past up to an event by reference, and goes on by itself."""
    import json

    from rich.text import Text

    from twofold.base.errors import UsageError
    from twofold.cli import processes, terminal

    changed = None
    if answer is not None:
        call, equals, value = answer.partition("=")
        if not equals:
            raise UsageError("--answer takes CALL=VALUE, such as c2.1=42; twofold logs --json shows calls.")
        try:
            changed = call, json.loads(value)
        except ValueError:
            changed = call, value
    system = processes.system_of(pid)
    try:
        if not wait:
            system.mind(system.state(pid).program.model)
        child = system.fork(pid, at, say, changed)
    except BaseException:
        system.close()
        raise
    terminal.error_console().print(Text(f"process {child}, forked from {pid}", "dim"))
    if wait:
        system.close()
        terminal.console().print(str(child))
    else:
        processes.attend(system, child)
