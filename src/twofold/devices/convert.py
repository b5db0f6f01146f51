"""Convert: an amount from one unit into another, exactly.

The form is the one that the model in the box was taught. The same units work inside the calculator. Money is
not converted, since its rates change and are not here.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from twofold.devices import _expressions, _forms
from twofold.devices import _numbers as numbers
from twofold.devices import _units as units
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned

DESCRIPTION = "Converts an amount of one unit into another."

_FUNCTION = Function(
    name="convert",
    description="Converts units.",
    parameters=_forms.object_of(
        {
            "amount": {"type": "number"},
            "source": _forms.text("its unit, such as km/h", longest=100),
            "target": _forms.text("the unit wanted, such as miles per hour", longest=100),
        },
        required=("amount", "source", "target"),
    ),
    effect=Effect.NONE,
    trusted=True,
)


class Convert:
    """The device. It holds nothing."""

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return (_FUNCTION,)

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return `{"value", "exact", "unit"}`, and the number alone as text."""
        _forms.check(_FUNCTION, function, arguments)
        try:
            amount = numbers.checked(Fraction(str(arguments["amount"])))
            source, target = _expressions.unit(arguments["source"]), _expressions.unit(arguments["target"])
            if source.scale:
                quantity = units.of(amount, source.shown[0][0])
            else:
                quantity = units.combine("*", units.Quantity(amount), source)
            number, unit = units.amount(units.converted(quantity, target))
        except (numbers.CalculationError, ValueError) as error:
            raise DeviceError(f"That cannot be converted: {error}.") from None
        shown = numbers.rounded(number)
        return Returned(value={"value": shown, "exact": numbers.exact(number), "unit": unit}, text=shown)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def open(settings: Mapping[str, Any]) -> Device:
    """Return the converter; it has no settings."""
    _forms.settings("convert", settings)
    return Convert()
