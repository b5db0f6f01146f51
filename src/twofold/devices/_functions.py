"""The functions of the calculator: how many arguments each takes at least and at most, and what it does.

Functions of quantities (a mean, a root, rounding) keep their units; the others ask for plain numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from twofold.devices import _numbers as numbers
from twofold.devices import _units as units
from twofold.devices._numbers import CalculationError, Number
from twofold.devices._units import Quantity

Function = Callable[[Sequence[Quantity]], Quantity]


def floor(value: Number) -> Fraction:
    """Return the next whole number below."""
    return Fraction(value.__floor__())


def _plain(function: Callable[..., Number], name: str) -> Function:
    return lambda given: Quantity(function(*(one.number(name) for one in given)))


def _same(function: Callable[[Sequence[Number]], Number], name: str) -> Function:
    """Return a function over quantities of one kind, whose result is of that kind."""

    def of_one_kind(given: Sequence[Quantity]) -> Quantity:
        first = given[0]
        if any((one.dimension, one.scale) != (first.dimension, first.scale) for one in given):
            raise CalculationError(f"{name} needs quantities of one kind")
        return Quantity(function([one.value for one in given]), first.dimension, first.shown, first.scale)

    return of_one_kind


def _total(values: Sequence[Number]) -> Number:
    total: Number = Fraction(0)
    for value in values:
        total = numbers.combine("+", total, value)
    return total


def _mean(values: Sequence[Number]) -> Number:
    return numbers.combine("/", _total(values), Fraction(len(values)))


def _median(values: Sequence[Number]) -> Number:
    middle = sorted(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]
    return _mean(middle)


def _deviation(values: Sequence[Number]) -> Number:
    mean = _mean(values)
    squares = [numbers.power(numbers.combine("-", value, mean), Fraction(2)) for value in values]
    return numbers.root(numbers.combine("/", _total(squares), Fraction(len(values) - 1)))


def _round(given: Sequence[Quantity]) -> Quantity:
    places = numbers.whole(given[1].number("round"), "round") if len(given) > 1 else 0
    if abs(places) > 100:
        raise CalculationError("round takes at most 100 places")
    number, _ = units.amount(given[0])
    scale = Fraction(10) ** places
    grown = numbers.combine("*", number, scale)
    half = numbers.combine("+", numbers.size(grown), Fraction(1, 2))  # half away from zero, as people round
    result = floor(half) / scale * (-1 if grown < 0 else 1)
    one, _ = units.amount(Quantity(Fraction(1), given[0].dimension, given[0].shown))
    if given[0].scale:
        raise CalculationError("round needs a number that is no temperature")
    return Quantity(numbers.combine("/", result, one), given[0].dimension, given[0].shown)


def _choose(n: Number, k: Number) -> Number:
    top, below = numbers.whole(n, "choose"), numbers.whole(k, "choose")
    if not 0 <= below <= top <= 10_000:
        raise CalculationError("choose takes n and k with 0 ≤ k ≤ n ≤ 10,000")
    below = min(below, top - below)
    value = 1
    for i in range(below):
        value = value * (top - i) // (i + 1)
    return numbers.checked(Fraction(value))


def _whole_ones(function: Callable[..., int], name: str) -> Function:
    return lambda given: Quantity(
        numbers.checked(Fraction(function(*(numbers.whole(one.number(name), name) for one in given))))
    )


def _root(given: Sequence[Quantity]) -> Quantity:
    return units.root(given[0], numbers.whole(given[1].number("root"), "root"))


def _step(up: int) -> Callable[[Number], Number]:
    return lambda value: -floor(-value) if up else floor(value)


def _lcm(*values: int) -> int:
    found = 1
    for value in values:
        found = math.lcm(found, value)
        numbers.checked(Fraction(found))
    return found


_ten, _two, _ln = Fraction(10), Fraction(2), numbers.logarithm
FUNCTIONS: Mapping[str, tuple[int, int, Function]] = {
    "sqrt": (1, 1, lambda given: units.root(given[0], 2)),
    "cbrt": (1, 1, lambda given: units.root(given[0], 3)),
    "root": (2, 2, _root),
    "abs": (1, 1, _same(lambda values: numbers.size(values[0]), "abs")),
    "floor": (1, 1, _plain(_step(0), "floor")),
    "ceil": (1, 1, _plain(_step(1), "ceil")),
    "round": (1, 2, _round),
    "min": (1, 100, _same(min, "min")),
    "max": (1, 100, _same(max, "max")),
    "sum": (1, 100, _same(_total, "sum")),
    "mean": (1, 100, _same(_mean, "mean")),
    "average": (1, 100, _same(_mean, "average")),
    "median": (1, 100, _same(_median, "median")),
    "stdev": (2, 100, _plain(lambda *values: _deviation(values), "stdev")),
    "gcd": (2, 100, _whole_ones(math.gcd, "gcd")),
    "lcm": (2, 100, _whole_ones(_lcm, "lcm")),
    "factorial": (1, 1, _plain(numbers.factorial, "factorial")),
    "choose": (2, 2, _plain(_choose, "choose")),
    "ln": (1, 1, _plain(lambda value: _ln(value), "ln")),
    "log": (1, 2, _plain(lambda value, base=_ten: _ln(value, base), "log")),
    "log10": (1, 1, _plain(lambda value: _ln(value, _ten), "log10")),
    "log2": (1, 1, _plain(lambda value: _ln(value, _two), "log2")),
    "exp": (1, 1, _plain(numbers.exponential, "exp")),
    "sin": (1, 1, _plain(numbers.sine, "sin")),
    "cos": (1, 1, _plain(numbers.cosine, "cos")),
    "tan": (1, 1, _plain(numbers.tangent, "tan")),
    "asin": (1, 1, _plain(numbers.arcsine, "asin")),
    "acos": (1, 1, _plain(
        lambda value: numbers.combine("-", numbers.PI / 2, numbers.arcsine(value)), "acos")),
    "atan": (1, 1, _plain(numbers.arctangent, "atan")),
}  # fmt: skip
