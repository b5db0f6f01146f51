"""Expressions as people write them, worked out while they are read; nothing is evaluated as code.

    expression  = sum [("in" | "to" | "->") units]
    sum         = product {("+" | "-") product}            a number and a percentage: 200 + 15% is 230
    product     = signed {("*" | "/" | "per" | "of" | "mod" | "//") signed}
    signed      = ["-"] joined
    joined      = power {unit | name | bracket | number with a unit}      5 km, 2 pi, 3 (4 + 1), 1 h 30 min
    power       = postfix ["^" signed]
    postfix     = primary {"!" | "%"}

A unit joins its number before * and /, so 90 km / 2 h is 45 km/h; a fraction written without spaces is one
number before a unit: 1/2 km. Not covered: variables, complex numbers, equations.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from twofold.base.names import nearest
from twofold.devices import _numbers as numbers
from twofold.devices import _units as units
from twofold.devices._functions import FUNCTIONS, floor
from twofold.devices._numbers import CalculationError, Number
from twofold.devices._units import Quantity

LONGEST = 1_000  # characters
_DEEPEST = 40  # brackets in brackets
_SPELLINGS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "²": "^2", "³": "^3", "→": "->",
     "\u00a0": " ", "\u202f": " ", "π": " pi ", "[": "(", "]": ")", "º": "°"}
)  # fmt: skip
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>0x[0-9a-fA-F]+ | 0b[01]+
      | (?:\d{1,3}(?:,\d{3})+(?![\d,])(?:\.\d+)? | \d[\d_]*(?:\.\d*)? | \.\d+) (?:[eE][+-]?\d+)?)
    | (?P<name>°[CF]? | [$€£¥] | [^\W\d_]+(?:_[^\W\d_]+)*\d*)
    | (?P<sign>\*\* | // | -> | [-+*/^()%!,√])
    )""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"\s*(\d{1,9})/(\d{1,9})(?=\s+[^\W\d_])")
_WORDS = {"plus": "+", "minus": "-", "times": "*", "x": "*", "per": "/", "of": "*", "mod": "mod", "over": "/",
          "**": "^"}  # fmt: skip
_INTO = ("in", "to", "as", "into", "->")
_MONEY = ("$", "€", "£", "¥")
_CONSTANTS: Mapping[str, Number] = {
    "pi": numbers.PI, "e": numbers.E, "tau": numbers.PI * 2, "phi": (1 + numbers.decimal_of(
        numbers.root(Fraction(5)))) / 2, "dozen": Fraction(12), "hundred": Fraction(100),
    "thousand": Fraction(1000), "million": Fraction(10**6), "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}  # fmt: skip


@dataclass(frozen=True)
class Token:
    """A piece of an expression: its kind (number, name, sign, end), its text, where it stands."""

    kind: str
    text: str
    at: int


def evaluate(text: str) -> Quantity:
    """Return the value of an expression. Raises CalculationError with a few words."""
    return Reader(spelled(text)).whole()


def spelled(text: str) -> str:
    """Return an expression in the one spelling that is read. Raises CalculationError."""
    if len(text) > LONGEST:
        raise CalculationError(f"the expression is too long: at most {LONGEST:,} characters")
    text = text.strip().removesuffix("=").translate(_SPELLINGS)
    if not text.strip():
        raise CalculationError("there is no expression")
    return text


def unit(text: str) -> Quantity:
    """Return one of the units that a text names, such as km/h. Raises CalculationError."""
    if len(text) > LONGEST:
        raise CalculationError("the unit is too long")
    reader = Reader(text.strip().translate(_SPELLINGS))
    found = reader.units()
    reader.ended()
    return found


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    calls: list[bool] = []  # for each open bracket: is it a function's, where commas stand between arguments?
    at = 0
    while text[at:].strip():
        part = _FRACTION.match(text, at)
        if part and (not found or found[-1].text in ("(", "+", "-", ",")):
            found.append(Token("fraction", f"{part[1]}/{part[2]}", at))
            at = part.end()
            continue
        match = _TOKEN.match(text, at)
        if not match or not match.lastgroup:
            raise CalculationError(f"{text[at:].strip()[:12]!r} cannot be read")
        kind, piece = match.lastgroup, match[match.lastgroup]
        if kind == "number" and "," in piece and any(calls):
            piece = piece.partition(",")[0]  # max(1,200): an argument ends here
            match = re.compile(r"\s*" + piece).match(text, at) or match
        if kind == "name" and piece.casefold() in _WORDS and not (piece == "x" and not found):
            kind, piece = "sign", _WORDS[piece.casefold()]
        if piece == "(":
            calls.append(bool(found) and found[-1].text.casefold() in FUNCTIONS)
        if piece == ")" and calls:
            calls.pop()
        found.append(Token(kind, _WORDS.get(piece, piece), at))
        at = match.end()
    return [*found, Token("end", "", len(text))]


class Reader:
    """Reads one expression, in one spelling, from left to right."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = self._depth = 0

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _after(self, count: int = 1) -> Token:
        return self._tokens[min(self._at + count, len(self._tokens) - 1)]

    def _take(self, *texts: str) -> str | None:
        """Return the next piece and go on, if it is one of these."""
        if self._next.kind != "end" and self._next.text in texts:
            self._at += 1
            return self._tokens[self._at - 1].text
        return None

    def whole(self) -> Quantity:
        """Return the value of the expression, in the units it asks for."""
        value = self._sum()
        if self._take(*_INTO):
            value = units.converted(value, self.units())
        self.ended()
        return value

    def ended(self) -> None:
        """Raise CalculationError when something is left."""
        if self._next.kind != "end":
            raise CalculationError(f"{self._next.text!r} is not expected there")

    def units(self) -> Quantity:
        """Return one of the units that follow: a product of units."""
        value: Quantity | None = None
        while value is None or self._next.text in ("*", "/") or self._next.kind == "name":
            sign = self._take("*", "/") or "*"
            name = self._next.text
            if self._next.kind != "name" and name != "%":
                raise CalculationError(f"a unit is expected instead of {name or 'the end'!r}")
            self._at += 1
            one = units.of(Fraction(1), units.named(name))
            if self._take("^"):
                one = units.power(one, self._signed())
            value = one if value is None else units.combine(sign, value, one)
        return value

    def _sum(self) -> Quantity:
        value = self._product()
        while sign := self._take("+", "-"):
            if self._percentage():
                share = numbers.combine("/", self._number(), Fraction(100))
                self._at += 1  # the percent sign
                part = units.combine("*", value, Quantity(share))
                value = units.combine(sign, value, Quantity(part.value, value.dimension, value.shown))
            else:
                value = units.combine(sign, value, self._product())
        return value

    def _percentage(self) -> bool:
        """Return whether a number with a percent sign follows, and nothing that it is multiplied by."""
        return (
            self._next.kind == "number"
            and self._after(1).text == "%"
            and (self._after(2).kind == "end" or self._after(2).text in (")", "+", "-", ",", *_INTO))
        )

    def _product(self) -> Quantity:
        value = self._signed()
        while sign := self._take("*", "/", "//", "mod", "%"):
            right = self._signed()
            if sign in ("*", "/"):
                value = units.combine(sign, value, right)
                continue
            quotient = units.combine("/", value, right)
            if quotient.dimension:
                raise CalculationError("a remainder needs two quantities of one kind")
            count = Quantity(floor(quotient.value))
            value = count if sign == "//" else units.combine("-", value, units.combine("*", right, count))
        return value

    def _signed(self) -> Quantity:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CalculationError("the expression is nested too deeply")
        try:
            if self._take("-"):
                value = self._signed()
                return Quantity(-value.value, value.dimension, value.shown, value.scale)
            if self._take("+"):
                return self._signed()
            if self._take("√"):
                return units.root(self._power(), 2)
            return self._joined()
        finally:
            self._depth -= 1

    def _joined(self) -> Quantity:
        bare = self._next.kind in ("number", "fraction")
        if self._next.text in _MONEY and self._after().kind == "number":
            self._at += 1
            money = units.named(self._tokens[self._at - 1].text)
            value = units.combine("*", self._power(), units.of(Fraction(1), money))
        else:
            value = self._power()
        while True:
            if self._next.kind == "name" and not self._converts():
                if bare and (scale := units.find(self._next.text)) and scale.zero is not None:
                    self._at += 1
                    return units.of(value.number("a temperature"), scale)
                value = units.combine("*", value, self._power())
            elif self._next.text == "(":
                value = units.combine("*", value, self._power())
            elif self._next.kind == "number" and value.dimension and self._after().kind == "name":
                value = units.combine("+", value, self._joined())
            else:
                return value
            bare = False

    def _converts(self) -> bool:
        """Return whether the next name says into which unit, rather than being one (`in`: inch)."""
        if self._next.text not in _INTO:
            return False
        after = self._after()
        return (
            self._next.text != "in" or (after.kind == "name" and after.text not in _INTO) or after.text == "%"
        )

    def _power(self) -> Quantity:
        value = self._postfix()
        if self._take("^"):
            return units.power(value, self._signed_power())
        return value

    def _signed_power(self) -> Quantity:
        """Return an exponent: signed, and without a unit that would join it."""
        if self._take("-"):
            value = self._signed_power()
            return Quantity(-value.value, value.dimension, value.shown)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise CalculationError("the expression is nested too deeply")
        value = self._power()
        self._depth -= 1
        return value

    def _postfix(self) -> Quantity:
        value = self._primary()
        while True:
            if self._take("!"):
                value = Quantity(numbers.factorial(value.number("a factorial")))
            elif self._next.text == "%" and self._ends_after_percent():
                self._at += 1
                value = units.combine("/", value, Quantity(Fraction(100)))
            else:
                return value

    def _ends_after_percent(self) -> bool:
        """Return whether the percent sign is one, and not the remainder of a division."""
        after = self._after()
        return (after.kind in ("end", "sign") and after.text != "(") or after.text in _INTO

    def _number(self) -> Number:
        text = self._next.text
        self._at += 1
        if text[:2] in ("0x", "0b"):
            return Fraction(int(text, 0))
        mantissa, _, tens = text.lower().replace(",", "").replace("_", "").partition("e")
        if len(tens) > 5 or abs(int(tens or 0)) > numbers.MOST_DIGITS:
            raise CalculationError("the number is too large")
        return numbers.checked(Fraction(mantissa + ("0" if mantissa.endswith(".") else "")) *
                               Fraction(10) ** int(tens or 0))  # fmt: skip

    def _primary(self) -> Quantity:
        token = self._next
        if token.kind == "number":
            return Quantity(self._number())
        if token.kind == "fraction":
            self._at += 1
            top, _, bottom = token.text.partition("/")
            return Quantity(numbers.combine("/", Fraction(int(top)), Fraction(int(bottom))))
        if self._take("("):
            value = self._sum()
            self._close()
            return value
        if token.kind != "name":
            raise CalculationError(f"a number is expected instead of {token.text or 'the end'!r}")
        self._at += 1
        if self._next.text == "(" and token.text.casefold() in FUNCTIONS:
            return self._call(token.text.casefold())
        constant = _CONSTANTS.get(token.text) or _CONSTANTS.get(token.text.casefold())
        if constant is not None and (token.text != "E"):
            return Quantity(constant)
        if units.find(token.text):
            return units.of(Fraction(1), units.named(token.text))
        guess = nearest(token.text, [*FUNCTIONS, *_CONSTANTS]) if self._next.text == "(" else None
        if guess:
            raise CalculationError(f"there is no function {token.text!r}; did you mean {guess!r}")
        raise CalculationError(self._meaningless(token.text))

    def _meaningless(self, name: str) -> str:
        """Return what is told of a name that means nothing."""
        return str(units.named(name))

    def _close(self) -> None:
        if not self._take(")"):
            raise CalculationError("a bracket is not closed")

    def _call(self, name: str) -> Quantity:
        self._at += 1
        given: list[Quantity] = []
        while not self._take(")"):
            if given and not self._take(","):
                raise CalculationError(f"the bracket of {name} is not closed")
            given.append(self._sum())
        least, most, function = FUNCTIONS[name]
        if not least <= len(given) <= most:
            count = (
                str(least) if least == most else f"{least} to {most}" if most < 100 else f"{least} or more"
            )
            raise CalculationError(f"{name} takes {count} arguments, not {len(given)}")
        return function(given)
