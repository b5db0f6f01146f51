"""Ask: a question to the user. The process waits until it is answered, for days if need be.

The waiting is the kernel's (`Context.ask_user`): the question stands in the journal and the answer too, so it
outlives a crash and a restart. What the user says is the user's own word: ring USER.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.devices import _forms
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import USER

DESCRIPTION = "Asks the user a question and waits for the answer."
_LONGEST = 2_000

_FUNCTION = Function(
    name="user",
    description="Asks the user a question.",
    parameters=_forms.object_of(
        {
            "question": _forms.text("one question, in a sentence or two", longest=_LONGEST),
            "choices": {
                "type": "array", "items": {"type": "string"}, "maxItems": 10,
                "description": "answers to choose from; anything may be answered unless there are some",
            },
        },
        required=("question",),
    ),
    effect=Effect.READ,
    contents=("question", "choices"),
)  # fmt: skip


class Ask:
    """The device. It holds nothing: who waits for whom is in the journal."""

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return (_FUNCTION,)

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return what the user answers; one of the choices where there are any."""
        _forms.check(_FUNCTION, function, arguments)
        choices = arguments.get("choices")
        if not arguments["question"].strip():
            raise DeviceError("The question is empty.")
        if choices is not None and (
            not choices or any(not isinstance(one, str) or not 0 < len(one) <= 200 for one in choices)
        ):
            raise DeviceError("'choices' must be texts of at most 200 characters, and at least one.")
        answer = context.ask_user(arguments["question"], choices)
        return Returned(value=answer, text=answer, label=USER)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device; it has no settings."""
    _forms.settings("ask", settings)
    return Ask()
