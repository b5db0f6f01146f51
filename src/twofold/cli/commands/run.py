"""`twofold run`: give a task to a process of the LLM OS, and watch it."""

from typing import Annotated, Any

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
    from dataclasses import replace

    from twofold.cli import processes
    from twofold.kernel.capabilities import Capability
    from twofold.kernel.process import Budget, Program

    if task is None:
        names = device if device is not None else ["calculator", "clock"]
        capabilities = tuple(Capability(device=name) for name in names)
        program = Program(message=app, capabilities=capabilities)
    else:
        from twofold import apps

        program = apps.find(app).program(task)
    given: dict[str, Any] = {"tokens": tokens, "seconds": seconds, "money": money}
    limits = {name: value for name, value in given.items() if value is not None}
    program = replace(
        program, priority=priority, stays=stay or program.stays, model=model or program.model,
        budget=replace(program.budget, **limits) if limits else program.budget or Budget(),
    )  # fmt: skip
    system = processes.system([capability.device for capability in program.capabilities])
    try:
        system.mind(program.model)
        pid = system.spawn(program)
    except BaseException:
        system.close()
        raise
    processes.attend(system, pid)
