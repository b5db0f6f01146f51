"""`twofold logs`: what happened to a process, event by event."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ("twofold logs 7", "what happened to a process, event by event")


def command(
    pid: Annotated[int, typer.Argument(metavar="PID", help="The process's number.")],
    since: Annotated[int, typer.Option("--since", metavar="N", help="Only events after this one.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the process is over.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the events whole, a line of JSON each.")
    ] = False,
) -> None:
    """Print a process's journal, after checking that it is as it was written."""
    import json
    import time

    from rich.text import Text

    from twofold.base.errors import BadFileError
    from twofold.cli import processes, terminal

    system, console = processes.system(), terminal.console()
    try:
        if wrong := system.journal.verify(pid):
            raise BadFileError(f"The journal was changed: {' '.join(wrong)}")
        while True:
            for event in system.events(pid, since):
                since = event.seq
                if as_json:
                    record = {"seq": event.seq, "at": event.at, "kind": event.kind, "body": event.body}
                    print(json.dumps(record, ensure_ascii=False), flush=True)
                else:
                    when = time.strftime("%H:%M:%S", time.localtime(event.at))
                    line = Text(f"{event.seq:>4} {when} {event.kind:<8} ", "dim")
                    console.print(line.append_text(processes.told(event) or Text("")), soft_wrap=True)
            if not follow or system.state(pid).exit:
                return
            time.sleep(0.1)
    finally:
        system.close()
