"""Begin a child process for a part of a task, and wait for its answer. It may at most what its parent may; a
capability for so many calls is not given on, as several children would multiply it."""

from twofold.kernel.device import DeviceError, Effect, Function
from twofold.kernel.flow import join
from twofold.kernel.policy import Call
from twofold.kernel.process import Program
from twofold.kernel.syscalls import Child, Process

MOST = 8  # generations of children: a model that gives everything on would never come to an end

FUNCTION = Function(
    name="spawn",
    description="Give a part of the task to a child process and get its answer.",
    parameters={
        "type": "object",
        "properties": {
            "task": {"type": "string"},
            "devices": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["task"],
    },
    effect=Effect.NONE,
    contents=("task",),
    trusted=True,
)


def call(process: Process, call: Call) -> Child:
    """Begin the child. `devices`: those of its parent's that it needs; default: none."""
    state, wanted = process.state, call.arguments.get("devices", [])
    if state.program.generation >= MOST:
        raise DeviceError(f"This process is a child of the {MOST}th generation, and gives nothing on.")
    held = [one for one in state.program.capabilities if one.device in wanted]
    if missing := [name for name in wanted if name not in {one.device for one in held}]:
        raise DeviceError(f"This process may not use {', '.join(missing)} itself.")
    if counted := sorted({one.device for one in held if one.budget is not None}):
        raise DeviceError(f"{', '.join(counted)} may be used so many times only, and cannot be given on.")
    program = Program(
        message=call.arguments["task"],
        instructions=state.program.instructions,
        model=state.program.model,
        capabilities=tuple(held),
        budget=state.limit.less(state.spent),
        priority=state.program.priority,
        deadline=state.program.deadline,
        app=state.program.app,
        folder=state.program.folder,
        files=state.program.files,
        shown=state.program.shown,
        generation=state.program.generation + 1,
    )
    return Child(process.spawn(program, call.id, join(call.labels.values())))
