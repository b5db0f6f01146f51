"""Bring back what was said or read earlier, and left the window since."""

from twofold.kernel.device import Effect, Function, Returned
from twofold.kernel.flow import NOTHING
from twofold.kernel.policy import Call
from twofold.kernel.syscalls import Process

FUNCTION = Function(
    name="recall",
    description="Bring back what was said earlier and is not shown: by what it is about, or its name.",
    parameters={
        "type": "object",
        "properties": {"question": {"type": "string"}},
        "required": ["question"],
    },
    effect=Effect.NONE,
    trusted=True,
)


def call(process: Process, call: Call) -> Returned:
    """Put the parts that have most to do with the question beside the page of this call."""
    question = call.arguments["question"]
    found = process.recall(question)
    if not found:
        return Returned(value=[], text="Nothing that is not shown has to do with it.", label=NOTHING)
    page = f"v{1 + sum(page.kind == 'result' for page in process.state.pages)}"
    asked = f"recall({question!r})"
    back = {"back": {part.id: page for part in found}, "why": {"back": {part.id: asked for part in found}}}
    process.write("memory", back)
    names = ", ".join(part.id for part in found)
    return Returned(value=[part.id for part in found], text=f"Shown here again: {names}.", label=NOTHING)
