"""What form an answer must have: a JSON Schema, any JSON, calls of tools, or none."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twofold.base.names import unknown
from twofold.run.constraints import Constraint
from twofold.serve.models import Served
from twofold.serve.refusals import Refusal

if TYPE_CHECKING:
    from twofold.run.constraints import Grammars

Tools = Sequence[Mapping[str, Any]]
Form = Callable[[], Constraint]


def form(
    served: Served,
    schema: Mapping[str, Any] | bool | None,
    tools: Tools,
    choice: str,
    *,
    parallel: bool = True,
) -> Form | None:
    """Return what makes the constraint of an answer, None when it may be anything.

    schema: the JSON Schema to follow where nothing is called, True for any object. choice: "auto",
    "required", or the name of the tool to call. parallel: whether several may be called at once. Raises
    UsageError or Refusal.
    """
    if not tools and schema is None:
        return None
    grammars: Grammars = served.grammars
    made: Form = grammars.json
    if tools:
        answer = {"type": "object"} if schema is True else schema if isinstance(schema, Mapping) else None
        made = functools.partial(grammars.tool_calls, tools, choice, parallel=parallel, answer=answer)
    elif isinstance(schema, Mapping):
        made = functools.partial(grammars.json_schema, schema)
    made()  # compiled here, in a thread of its own, and remembered: who is writing need not wait for it
    return made


def choose(tools: Tools, choice: str) -> Tools:
    """Return the tools that may be called. Raises Refusal for a choice that is not among them."""
    names = [tool["function"]["name"] for tool in tools]
    if choice == "none":
        return ()
    if choice == "required" and not tools:
        raise Refusal("invalid", "A call is required, and there are no `tools`.", where="tool_choice")
    if choice not in ("auto", "required") and choice not in names:
        raise Refusal("invalid", unknown("tool", choice, names), where="tool_choice")
    return tools
