"""Calculator: exact sums, powers, roots and common functions, with units; it never runs what it reads.

Its name and its first argument are those that the model in the box was taught
(environments/word_problems.py), and it answers as that one does: the number alone, whole or with six
decimals. The exact value stands beside it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.devices import _expressions, _forms
from twofold.devices import _numbers as numbers
from twofold.devices import _units as units
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned

DESCRIPTION = "Works out sums, powers, roots and common functions exactly, with percentages and units."
_MOST_DECIMALS = 30

_FUNCTION = Function(
    name="calculator",
    description="Works out a sum.",
    parameters=_forms.object_of(
        {
            "expression": _forms.text(
                "such as (12 + 3) / 4, 15% of 80, sqrt(2) ^ 3 or 90 km / 45 min in km/h",
                longest=_expressions.LONGEST,
            ),
            "exact": {"type": "boolean", "description": "show fractions too, such as 10/3"},
            "decimals": {
                "type": "integer", "minimum": 0, "maximum": _MOST_DECIMALS,
                "description": "at most; 6 unless said",
            },
        },
        required=("expression",),
    ),
    effect=Effect.NONE,
    trusted=True,
)  # fmt: skip


class Calculator:
    """The device. It holds nothing."""

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return (_FUNCTION,)

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return `{"value", "exact", "unit"}`: rounded, exact (null where it cannot be), the unit or ""."""
        _forms.check(_FUNCTION, function, arguments)
        decimals = arguments.get("decimals", 6)
        try:
            number, unit = units.amount(_expressions.evaluate(arguments["expression"]))
        except numbers.CalculationError as error:
            raise DeviceError(f"That cannot be worked out: {error}.") from None
        shown, exact = numbers.rounded(number, decimals), numbers.exact(number)
        if arguments.get("exact") and exact != shown:
            text = f"{exact} ≈ {shown}" if exact else f"about {shown}"
        else:
            text = shown
        value = {"value": shown, "exact": exact, "unit": unit}
        return Returned(value=value, text=f"{text} {unit}".strip())

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def open(settings: Mapping[str, Any]) -> Device:
    """Return the calculator; it has no settings."""
    _forms.settings("calculator", settings)
    return Calculator()
