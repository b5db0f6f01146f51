"""Numbers for the calculator: fractions as long as they are exact, forty digits when they cannot be.

A number is a `Fraction`, which is exact, or a `Decimal` of forty digits: a root that is no fraction, a sine,
a power too large to write out. Every operation is bounded before it begins, so no short text can ask for an
hour of work (`9^9^9`) or a gigabyte (`10^10^9`).

Not covered: complex numbers, intervals. Source of the series: Abramowitz & Stegun 4.3.65 and 4.4.42.
"""

import decimal
import math
from decimal import Decimal
from fractions import Fraction

Number = Fraction | Decimal

MOST_DIGITS = 4_000  # of an exact number
_MOST_BITS = int(MOST_DIGITS * math.log2(10))
_MOST_FACTORIAL = 1_400  # its factorial has 3,800 digits
_MOST_ROOT = 64  # roots beyond are not looked for among the fractions
_SHOWN = 6  # decimals
_CONTEXT = decimal.Context(
    prec=40, Emax=99_999, Emin=-99_999,
    traps=[decimal.Overflow, decimal.InvalidOperation, decimal.DivisionByZero],
)  # fmt: skip
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899")
E = Decimal("2.71828182845904523536028747135266249775724709369995957496696762772407663035354759")


class CalculationError(ValueError):
    """A text cannot be worked out; the message says why in a few words."""


def checked(value: Fraction) -> Fraction:
    """Return an exact number. Raises CalculationError when it is too long."""
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MOST_BITS:
        raise CalculationError(f"the numbers become too large: more than {MOST_DIGITS:,} digits")
    return value


def decimal_of(value: Number) -> Decimal:
    """Return a number with forty digits."""
    if isinstance(value, Decimal):
        return value
    return _CONTEXT.divide(Decimal(value.numerator), Decimal(value.denominator))


def size(value: Number) -> Number:
    """Return a number without its sign."""
    return -value if value < 0 else value


def combine(sign: str, left: Number, right: Number) -> Number:
    """Return a sum, difference, product or quotient. Raises CalculationError."""
    if sign == "/" and not right:
        raise CalculationError("division by zero")
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        if sign == "+":
            return checked(left + right)
        if sign == "-":
            return checked(left - right)
        return checked(left * right if sign == "*" else left / right)
    operation = {
        "+": _CONTEXT.add, "-": _CONTEXT.subtract, "*": _CONTEXT.multiply, "/": _CONTEXT.divide,
    }[sign]  # fmt: skip
    return _bounded(operation, left, right)


def _bounded(operation, *values: Number) -> Decimal:  # type: ignore[no-untyped-def]
    try:
        result: Decimal = operation(*(decimal_of(value) for value in values))
    except decimal.Overflow:
        raise CalculationError("the number becomes too large") from None
    except decimal.DecimalException:
        raise CalculationError("that has no value among the real numbers") from None
    return result


def power(base: Number, exponent: Number) -> Number:
    """Return a power; exact where it is a fraction that can be written out."""
    if not base and exponent < 0:
        raise CalculationError("division by zero")
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        if exponent.denominator > 1:
            exact = _root(base, exponent.denominator)
            if exact is None:
                return _bounded(_CONTEXT.power, base, exponent)
            base, exponent = exact, Fraction(exponent.numerator)
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits == 1 or bits * abs(exponent.numerator) <= _MOST_BITS:
            return base**exponent.numerator if bits > 1 else _of_unit(base, exponent.numerator)
    return _bounded(_CONTEXT.power, base, exponent)


def _of_unit(base: Fraction, exponent: int) -> Fraction:
    """Return a power of 0, 1 or -1, whatever the exponent."""
    if exponent == 0 or base == 1:
        return Fraction(1)
    return base if base == 0 or exponent % 2 else Fraction(1)


def root(value: Number, degree: int = 2) -> Number:
    """Return a root; the real one of a negative number when the degree is odd."""
    if not 1 <= degree <= 1_000:
        raise CalculationError("the degree of a root must be between 1 and 1,000")
    if value < 0:
        if degree % 2 == 0:
            raise CalculationError("the root of a negative number is not real")
        return -root(-value, degree)
    exact = _root(value, degree) if isinstance(value, Fraction) else None
    return exact if exact is not None else _bounded(_CONTEXT.power, value, Fraction(1, degree))


def _root(value: Fraction, degree: int) -> Fraction | None:
    """Return the root of a number that is not negative, when it is a fraction."""
    if value < 0:
        raise CalculationError("the root of a negative number is not real")
    if degree > _MOST_ROOT:
        return None
    top, bottom = _whole_root(value.numerator, degree), _whole_root(value.denominator, degree)
    found = Fraction(top, bottom)
    return found if found**degree == value else None


def _whole_root(value: int, degree: int) -> int:
    """Return the greatest whole number whose power is at most `value` (Newton's method)."""
    if degree == 2:
        return math.isqrt(value)
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def whole(value: Number, what: str) -> int:
    """Return a number that must be whole. Raises CalculationError."""
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise CalculationError(f"{what} needs a whole number")
    return value.numerator


def factorial(value: Number) -> Fraction:
    """Return the factorial of a whole number."""
    number = whole(value, "a factorial")
    if not 0 <= number <= _MOST_FACTORIAL:
        raise CalculationError(f"a factorial needs a number from 0 to {_MOST_FACTORIAL:,}")
    return Fraction(math.factorial(number))


def logarithm(value: Number, base: Number | None = None) -> Number:
    """Return the logarithm, natural without a base; exact where it is whole."""
    if value <= 0 or (base is not None and (base <= 0 or base == 1)):
        raise CalculationError("a logarithm needs numbers above zero, and a base other than 1")
    if base is None:
        return Fraction(0) if value == 1 else _bounded(_CONTEXT.ln, value)
    found = _bounded(_CONTEXT.divide, _bounded(_CONTEXT.ln, value), _bounded(_CONTEXT.ln, base))
    near = Fraction(round(found)) if abs(found) < _MOST_BITS else None
    return near if near is not None and power(base, near) == value else found


def exponential(value: Number) -> Number:
    """Return e to a power."""
    return Fraction(1) if value == 0 else _bounded(_CONTEXT.exp, value)


def sine(value: Number) -> Number:
    """Return the sine of an angle in radians."""
    x = decimal_of(value)
    if abs(x) > 10**15:
        raise CalculationError("the angle is too large")
    with decimal.localcontext(_CONTEXT) as context:
        context.prec = 60
        x = x % (2 * PI)
        term = total = x
        for n in range(2, 80, 2):
            term = -term * x * x / (n * (n + 1))
            total += term
    return _settled(total)


def cosine(value: Number) -> Number:
    """Return the cosine of an angle in radians."""
    with decimal.localcontext(_CONTEXT) as context:
        context.prec = 60
        return sine(decimal_of(value) + PI / 2)


def tangent(value: Number) -> Number:
    """Return the tangent of an angle in radians. Raises CalculationError where there is none."""
    below = cosine(value)
    if not below:
        raise CalculationError("the tangent has no value there")
    return combine("/", sine(value), below)


def arctangent(value: Number) -> Number:
    """Return the angle in radians whose tangent this is."""
    x = decimal_of(value)
    with decimal.localcontext(_CONTEXT) as context:
        context.prec = 60
        if abs(x) > 1:
            return _settled((PI / 2).copy_sign(x) - decimal_of(arctangent(1 / x)))
        for _ in range(4):  # atan x = 2 atan(x / (1 + sqrt(1 + x²))): the series then converges quickly
            x = x / (1 + (1 + x * x).sqrt())
        total = sum((-1) ** n * x ** (2 * n + 1) / (2 * n + 1) for n in range(26))
        return _settled(16 * total)


def arcsine(value: Number) -> Number:
    """Return the angle in radians whose sine this is."""
    if size(value) > 1:
        raise CalculationError("asin and acos need a number from -1 to 1")
    if size(value) == 1:
        return _settled((PI / 2).copy_sign(decimal_of(value)))
    rest = combine("-", Fraction(1), combine("*", value, value))
    return arctangent(combine("/", value, root(rest)))


def _settled(value: Decimal | int) -> Number:
    """Return the result of a series without the noise of its last digits; exact when it is 0, 1/2 or 1."""
    value = Decimal(value)
    near = value.quantize(Decimal(1).scaleb(-36), context=decimal.Context(prec=60))
    if near * 2 == (near * 2).to_integral_value() and abs(near) <= 1:
        return Fraction(near)
    return _CONTEXT.plus(value)


def exact(value: Number) -> str | None:
    """Return an exact number as it is written: 12, 0.125 or 10/3; None for one of forty digits."""
    if isinstance(value, Decimal):
        return None
    if value.denominator == 1:
        return str(value.numerator)
    return _terminating(value) or str(value)


def _terminating(value: Fraction) -> str | None:
    """Return the decimals of a fraction that has at most thirty of them."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return None
    places = next((n for n in range(1, 31) if 10**n % value.denominator == 0), None)
    if places is None:
        return None
    digits = str(abs(value.numerator) * (10**places // value.denominator)).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def rounded(value: Number, decimals: int = _SHOWN) -> str:
    """Return a number as a calculator shows it: whole, or with at most `decimals` decimals.

    A number too small for that has as many digits that count; one above 10^21 that is not exact is written
    with a power of ten.
    """
    if isinstance(value, Fraction) and value.denominator == 1:
        return str(value.numerator)
    number = decimal_of(value)
    if number and abs(number) < Decimal(1).scaleb(-decimals // 2):
        text = f"{decimal.Context(prec=decimals or 1).plus(number):{'f' if number.adjusted() > -10 else 'e'}}"
        return _bare(text)
    if abs(number) >= Decimal(10) ** 21:
        return _bare(f"{decimal.Context(prec=12).plus(number):e}")
    return _bare(f"{number:.{decimals}f}")


def _bare(text: str) -> str:
    """Return a written number without zeros at the end of its decimals."""
    digits, sign, tens = text.partition("e")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return ("0" if digits == "-0" else digits) + sign + tens.removeprefix("+")
