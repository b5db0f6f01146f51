"""Units: a table of names, and quantities that know what they measure.

Factors are exact where they are defined so (an inch is 0.0254 m since 1959); sources are the SI brochure
(9th edition, 2019) and NIST Special Publication 811. A quantity is kept in base units, with the units it was
written in, to be shown in them. Money of different kinds is never converted: rates change every day.

A row of the table: `*` when prefixes (kilo, milli …) may stand before it, symbols, `|`, words, `=`, and a
number of other units. Not covered: logarithmic units (decibel), calendars (devices/clock.py).
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from twofold.base.names import nearest
from twofold.devices import _numbers as numbers
from twofold.devices._numbers import CalculationError, Number

Dimension = tuple[tuple[str, int], ...]  # (base unit, exponent), sorted, without zeros

_BASE = ("m", "kg", "s", "A", "K", "mol", "cd", "bit", "USD", "EUR", "GBP", "JPY", "CHF")
_TABLE = """
*m | metre metres meter meters = 1 m
*g | gram grams gramme grammes = 1/1000 kg
*s sec secs | second seconds = 1 s
*A | ampere amperes amp amps = 1 A
*K | kelvin kelvins = 1 K
*mol | mole moles = 1 mol
*cd | candela candelas = 1 cd
*b bit | bits = 1 bit
$ USD | dollar dollars = 1 USD
€ EUR | euro euros = 1 EUR
£ GBP | sterling = 1 GBP
¥ JPY | yen = 1 JPY
CHF | franc francs = 1 CHF
in | inch inches = 0.0254 m
ft | foot feet = 0.3048 m
yd | yard yards = 0.9144 m
mi | mile miles = 1609.344 m
nmi | nautical_mile nautical_miles = 1852 m
au | astronomical_unit astronomical_units = 149597870700 m
ly | lightyear lightyears light_year light_years = 9460730472580800 m
*pc | parsec parsecs = 30856775814913673 m
| angstrom angstroms = 1/10000000000 m
| micron microns = 1/1000000 m
ha | hectare hectares = 10000 m^2
| acre acres = 4046.8564224 m^2
*l L | litre litres liter liters = 1/1000 m^3
gal | gallon gallons = 0.003785411784 m^3
qt | quart quarts = 0.000946352946 m^3
pt | pint pints = 0.000473176473 m^3
| cup cups = 0.0002365882365 m^3
floz fl_oz | fluid_ounce fluid_ounces = 0.0000295735295625 m^3
tbsp | tablespoon tablespoons = 0.00001478676478125 m^3
tsp | teaspoon teaspoons = 0.00000492892159375 m^3
| imperial_gallon imperial_gallons = 0.00454609 m^3
| imperial_pint imperial_pints = 0.00056826125 m^3
bbl | barrel barrels = 0.158987294928 m^3
*t | tonne tonnes = 1000 kg
lb lbs | pound pounds = 0.45359237 kg
oz | ounce ounces = 0.028349523125 kg
| stone stones = 6.35029318 kg
ton | tons short_ton short_tons = 907.18474 kg
| long_ton long_tons = 1016.0469088 kg
ct | carat carats = 0.0002 kg
min mins | minute minutes = 60 s
h hr hrs | hour hours = 3600 s
d | day days = 86400 s
wk | week weeks = 604800 s
| fortnight fortnights = 1209600 s
mo | month months = 2629800 s
yr a | year years = 31557600 s
| decade decades = 315576000 s
| century centuries = 3155760000 s
*Hz | hertz = 1 s^-1
rpm | revolutions_per_minute = 1/60 s^-1
*N | newton newtons = 1 kg m s^-2
lbf | pound_force = 4.4482216152605 kg m s^-2
*Pa | pascal pascals = 1 kg m^-1 s^-2
*bar | bars = 100000 kg m^-1 s^-2
atm | atmosphere atmospheres = 101325 kg m^-1 s^-2
psi | pounds_per_square_inch = 44482216152605/6451600000 kg m^-1 s^-2
mmHg torr | millimetres_of_mercury = 101325/760 kg m^-1 s^-2
*J | joule joules = 1 kg m^2 s^-2
*cal | calorie calories = 4.184 kg m^2 s^-2
*Wh | watthour watthours watt_hour watt_hours = 3600 kg m^2 s^-2
*eV | electronvolt electronvolts = 1.602176634e-19 kg m^2 s^-2
BTU Btu | british_thermal_unit = 1055.05585262 kg m^2 s^-2
*W | watt watts = 1 kg m^2 s^-3
hp | horsepower = 745.69987158227022 kg m^2 s^-3
*| coulomb coulombs = 1 A s
*Ah | amperehour amperehours = 3600 A s
*V | volt volts = 1 kg m^2 s^-3 A^-1
*Ω Ohm | ohm ohms = 1 kg m^2 s^-3 A^-2
*| farad farads = 1 kg^-1 m^-2 s^4 A^2
*H | henry henries = 1 kg m^2 s^-2 A^-2
*T | tesla teslas = 1 kg s^-2 A^-1
*Wb | weber webers = 1 kg m^2 s^-2 A^-1
*lm | lumen lumens = 1 cd
*lx | lux = 1 cd m^-2
kn kt | knot knots = 1852/3600 m s^-1
mph | miles_per_hour = 0.44704 m s^-1
kph kmh | = 5/18 m s^-1
*B | byte bytes octet octets = 8 bit
% | percent = 1/100
ppm | = 1/1000000
rad | radian radians = 1
"""
_SHORT = {
    "T": 12, "G": 9, "M": 6, "k": 3, "h": 2, "da": 1, "d": -1, "c": -2, "m": -3, "µ": -6, "μ": -6, "u": -6,
    "n": -9, "p": -12, "f": -15, "P": 15, "E": 18, "Z": 21, "Y": 24, "a": -18,
}  # fmt: skip
_LONG = {
    "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deca": 1, "deci": -1, "centi": -2, "milli": -3,
    "micro": -6, "nano": -9, "pico": -12, "femto": -15, "peta": 15, "exa": 18,
}  # fmt: skip
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "kibi": 10, "mebi": 20, "gibi": 30, "tebi": 40}
# Names of temperatures with their own zero: kelvin = value * factor + zero.
_SCALES = {
    **dict.fromkeys(("°C", "degC", "celsius", "centigrade", "C"), (Fraction(1), Fraction("273.15"))),
    **dict.fromkeys(("°F", "degF", "fahrenheit", "F"), (Fraction(5, 9), Fraction("459.67") * 5 / 9)),
}


@dataclass(frozen=True)
class Unit:
    """What one of a unit is in base units; `zero` is where a temperature's scale begins, in kelvin."""

    name: str
    factor: Number
    dimension: Dimension
    zero: Fraction | None = None


def _merged(left: Dimension, right: Dimension, times: int = 1) -> Dimension:
    found = dict(left)
    for base, exponent in right:
        found[base] = found.get(base, 0) + exponent * times
    return tuple(sorted((base, exponent) for base, exponent in found.items() if exponent))


@functools.cache
def _units() -> Mapping[str, Unit]:
    """Return all units by name, those with prefixes too; a name that is written out wins over a prefix."""
    written: dict[str, Unit] = {}
    prefixed: dict[str, Unit] = {}
    for row in _TABLE.strip().splitlines():
        names, _, definition = row.partition("=")
        symbols, _, words = names.removeprefix("*").partition("|")
        number, *bases = definition.split()
        dimension: Dimension = ()
        for base in bases:
            name, _, exponent = base.partition("^")
            assert name in _BASE
            dimension = _merged(dimension, ((name, int(exponent or 1)),))
        factor = Fraction(number)
        for kind, prefixes in ((symbols.split(), _SHORT), (words.split(), _LONG)):
            for name in kind:
                written[name] = Unit(name, factor, dimension)
                if row.startswith("*"):
                    for prefix, tens in prefixes.items():
                        prefixed[prefix + name] = Unit(
                            prefix + name, factor * Fraction(10) ** tens, dimension
                        )
                if dimension == (("bit", 1),):
                    for prefix, twos in _BINARY.items():
                        prefixed[prefix + name] = Unit(prefix + name, factor * 2**twos, dimension)
    degree = numbers.combine("/", numbers.PI, Fraction(180))
    written |= {name: Unit(name, degree, ()) for name in ("°", "deg", "degree", "degrees")}
    scales = {name: Unit(name, factor, (("K", 1),), zero) for name, (factor, zero) in _SCALES.items()}
    return {**prefixed, **written, **scales}


@functools.cache
def _folded() -> Mapping[str, Unit | None]:
    """Return units by their names in small letters; None where two would share one."""
    found: dict[str, Unit | None] = {}
    for name, unit in _units().items():
        key = name.casefold()
        same = found.get(key, unit)
        found[key] = unit if same and (same.factor, same.dimension) == (unit.factor, unit.dimension) else None
    return found


def find(name: str) -> Unit | None:
    """Return the unit of that name, `m2` for square metres too; None when there is none."""
    unit = _units().get(name) or _folded().get(name.casefold())
    if unit is None and name[-1:] in "23" and len(name) > 1:
        base = find(name[:-1])
        if base and base.zero is None:
            return Unit(name, numbers.power(base.factor, Fraction(int(name[-1]))),
                        _merged((), base.dimension, int(name[-1])))  # fmt: skip
    return unit


def named(name: str) -> Unit:
    """Return the unit of that name. Raises CalculationError that names the nearest."""
    unit = find(name)
    if unit is None:
        words = [known for known in _units() if len(known) > 2 or known in _TABLE]
        guess = nearest(name, words)
        raise CalculationError(
            f"there is no unit {name[:40]!r}" + (f"; did you mean {guess!r}" if guess else "")
        )
    return unit


@dataclass(frozen=True)
class Quantity:
    """A number in base units, what it measures, and the units it is shown in.

    `scale`: it is a temperature on a scale with a zero of its own, and can only be converted.
    """

    value: Number
    dimension: Dimension = ()
    shown: tuple[tuple[Unit, int], ...] = ()
    scale: bool = False

    def number(self, what: str) -> Number:
        """Return the value of a plain number. Raises CalculationError for one with a unit."""
        if self.dimension:
            raise CalculationError(f"{what} needs a number without a unit")
        return self.value


def of(value: Number, unit: Unit) -> Quantity:
    """Return so many of a unit."""
    base = numbers.combine("*", value, unit.factor)
    if unit.zero is not None:
        base = numbers.combine("+", base, unit.zero)
    return Quantity(base, unit.dimension, ((unit, 1),), unit.zero is not None)


def combine(sign: str, left: Quantity, right: Quantity) -> Quantity:
    """Return a sum, difference, product or quotient of quantities. Raises CalculationError."""
    value = numbers.combine(sign, left.value, right.value)
    if sign in "+-":
        if left.dimension != right.dimension:
            raise CalculationError(f"{measures(left)} and {measures(right)} cannot be added or subtracted")
        if left.scale and right.scale:
            if sign == "+":
                raise CalculationError("two temperatures cannot be added: write the difference in K")
            return Quantity(value, left.dimension, ((named("K"), 1),))
        shown = left.shown or right.shown
        return Quantity(value, left.dimension, shown, left.scale or right.scale)
    if left.scale or right.scale:
        raise CalculationError("a temperature in °C or °F can only be converted or moved by kelvins")
    times = 1 if sign == "*" else -1
    counts = dict(left.shown)
    for unit, exponent in right.shown:
        counts[unit] = counts.get(unit, 0) + exponent * times
    shown = tuple((unit, exponent) for unit, exponent in counts.items() if exponent)
    return Quantity(value, _merged(left.dimension, right.dimension, times), shown)


def power(base: Quantity, exponent: Quantity) -> Quantity:
    """Return a power. Raises CalculationError."""
    raised = exponent.number("an exponent")
    if not base.dimension:
        return Quantity(numbers.power(base.value, raised))
    if base.scale:
        raise CalculationError("a temperature in °C or °F can only be converted or moved by kelvins")
    times = numbers.whole(raised, "the exponent of a unit")
    if abs(times) > 20:
        raise CalculationError("the exponent of a unit is at most 20")
    shown = tuple((unit, power * times) for unit, power in base.shown)
    return Quantity(numbers.power(base.value, raised), _merged((), base.dimension, times), shown)


def root(base: Quantity, degree: int) -> Quantity:
    """Return a root, of a unit too where that is one (the side of a square)."""
    if any(exponent % degree for _, exponent in base.dimension):
        raise CalculationError(f"there is no root of {measures(base)}")
    dimension = tuple((name, exponent // degree) for name, exponent in base.dimension)
    even = all(exponent % degree == 0 for _, exponent in base.shown)
    shown = tuple((unit, exponent // degree) for unit, exponent in base.shown) if even else ()
    return Quantity(numbers.root(base.value, degree), dimension, shown)


def converted(quantity: Quantity, target: Quantity) -> Quantity:
    """Return a quantity shown in other units; `target`: one of them. Raises CalculationError."""
    if quantity.dimension != target.dimension:
        raise CalculationError(f"{measures(quantity)} cannot be converted into {measures(target)}")
    return Quantity(quantity.value, quantity.dimension, target.shown, target.scale)


def amount(quantity: Quantity) -> tuple[Number, str]:
    """Return the number of a quantity in its units, and those units as they are written ("" for none)."""
    dimension: Dimension = ()
    factor: Number = Fraction(1)
    for unit, exponent in quantity.shown:
        dimension = _merged(dimension, unit.dimension, exponent)
        factor = numbers.combine("*", factor, numbers.power(unit.factor, Fraction(exponent)))
    kinds = [unit.dimension for unit, _ in quantity.shown]
    if dimension != quantity.dimension or (len(kinds) > 1 and len(set(kinds)) < len(kinds)):
        return quantity.value, _written(quantity.dimension)
    value = quantity.value
    if len(quantity.shown) == 1 and quantity.shown[0][0].zero is not None and quantity.scale:
        value = numbers.combine("-", value, quantity.shown[0][0].zero)
    names = tuple((unit.name, exponent) for unit, exponent in quantity.shown)
    return numbers.combine("/", value, factor), _written(names)


def _written(units: tuple[tuple[str, int], ...]) -> str:
    """Return units as they are written: m/s^2."""
    above = [f"{name}^{exponent}" if exponent > 1 else name for name, exponent in units if exponent > 0]
    below = [f"{name}^{-exponent}" if exponent < -1 else name for name, exponent in units if exponent < 0]
    if not below:
        return " ".join(above)
    under = below[0] if len(below) == 1 else f"({' '.join(below)})"
    return f"{' '.join(above) or '1'}/{under}"


_KINDS = {
    "": "a plain number", "m": "a length", "kg": "a mass", "s": "a time", "m^2": "an area", "m^3": "a volume",
    "K": "a temperature", "m/s": "a speed", "bit": "an amount of data", "kg m^2/s^2": "an energy",
    "USD": "an amount in USD", "EUR": "an amount in EUR", "GBP": "an amount in GBP",
}  # fmt: skip


def measures(quantity: Quantity) -> str:
    """Return in words what a quantity measures."""
    text = _written(quantity.dimension)
    return _KINDS.get(text, f"a quantity in {text}")
