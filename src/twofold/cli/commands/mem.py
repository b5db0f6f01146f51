"""`twofold mem`: the memory of a process, as a map; what stays in its window, what leaves, and why."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from twofold.kernel.process import State
    from twofold.kernel.system import System

SECTION = "Run processes"
EXAMPLE = ("twofold mem 3", "what a process has in its window, what left it, and why")

Action = Literal["show", "why", "pin", "unpin", "evict", "load", "edit"]


def command(
    pid: Annotated[
        int, typer.Argument(metavar="PID", help="The number of the process; twofold ps lists them.")
    ],
    action: Annotated[
        Action, typer.Argument(metavar="ACTION", help="See above.", show_default=False)
    ] = "show",
    page: Annotated[
        str | None, typer.Argument(metavar="PAGE", help="Such as p12, v3, or a part of one, p12.2.")
    ] = None,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="For `edit`: what the page says from now on.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="List all that is out of the window, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show the memory of a process as a map, or change it.

    `show` draws what is in the window and lists its pages: where from, how far trusted (ring 0 to 3), how
    warm. With a PAGE it prints its whole text. `why` says what brought a page here, and what happened to it
    since. `pin` keeps one in the window, `unpin` lets it go, `evict` takes it out, `load` brings it back,
    `edit` changes what it says. Nothing is ever deleted: what leaves comes back when it is asked for.
    """
    import json

    from rich.text import Text

    from twofold.base.errors import UsageError
    from twofold.cli import memory_map, processes, terminal
    from twofold.kernel import memory

    system = processes.system()
    try:
        state = system.state(pid)
        if action == "show" and page is None:
            rows = memory.rows(state)
            if as_json:
                print(json.dumps([row.record() for row in rows], ensure_ascii=False, indent=2))
            else:
                memory_map.show(state, rows, terminal.console(), everything=everything)
            return
        if page is None:
            raise UsageError(f"Which page? twofold mem {pid} lists them.")
        if action == "show":
            print(terminal.clean(memory.text(state, page)))
        elif action == "why":
            for seq, sentence in memory.why(state, system.events(pid), page):
                terminal.console().print(Text.assemble((f"{seq:>6}  ", "dim"), terminal.clean(sentence)))
        else:
            _change(system, state, action, page, text)
            terminal.error_console().print(
                f"[dim]Done: twofold mem {pid} why {page} tells what happened to it.[/]"
            )
    finally:
        system.close()


def _change(system: "System", state: "State", action: Action, page: str, text: str | None) -> None:
    """Change the memory of a process."""
    from twofold.base.errors import UsageError
    from twofold.kernel import memory

    if action == "edit":
        if text is None:
            raise UsageError(f'Write what the page is to say: twofold mem {state.pid} edit {page} "TEXT".')
        change = memory.edit(state, page, text)
    elif action == "pin":
        change = memory.pin(state, page)
    elif action == "unpin":
        change = memory.unpin(state, page)
    elif action == "evict":
        change = memory.evict(state, page)
    else:
        change = memory.load(state, page)
    system.remember(state.pid, change)
