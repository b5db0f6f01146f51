"""`twofold run`: give a task to a process of the LLM OS, and watch it."""

from typing import Annotated

import typer

SECTION = "Run processes"
EXAMPLE = ('twofold run "what is 17*23?"', "give a task to a process, which may call devices")


def command(
    app: Annotated[
        str, typer.Argument(metavar="[APP] TASK", help="An app's name and the task, or the task.")
    ],
    task: Annotated[str | None, typer.Argument(hidden=True, help="The task, after an app's name.")] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="As for chat, or a name of kernels.toml.")
    ] = "",
    device: Annotated[
        list[str] | None, typer.Option("--device", "-d", metavar="NAME", help="Without an app: may use it.")
    ] = None,
    tokens: Annotated[
        int | None, typer.Option("--tokens", "-n", metavar="N", help="Stop it after so many tokens.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", metavar="S", help="Stop it after so much work.")
    ] = None,
    money: Annotated[
        float | None, typer.Option("--money", metavar="X", help="Stop it when it has cost so much.")
    ] = None,
    priority: Annotated[int, typer.Option("--priority", metavar="N", help="The higher goes first.")] = 0,
    stay: Annotated[bool, typer.Option("--stay", help="Go on with a conversation after the answer.")] = False,
) -> None:
    """Give a task to a process, and show what it does as it does it.

    It may do what the app's permissions say, and asks before anything leaves this machine or changes it.
    Ctrl-C leaves the process where it is; `twofold resume` goes on with it, as it does after a crash.
    """
    from twofold.apps import starting
    from twofold.cli import processes

    program = starting.program(
        app if task is None else task, app="" if task is None else app, model=model, priority=priority,
        devices=starting.DEVICES if device is None else device, stays=stay,
        limits={"tokens": tokens, "seconds": seconds, "money": money},
    )  # fmt: skip
    system = processes.system([capability.device for capability in program.capabilities])
    try:
        system.mind(program.model)
        pid = system.spawn(program)
    except BaseException:
        system.close()
        raise
    processes.attend(system, pid)
