"""A calculator for what a model writes: exact, and safe on any text.

Reads whole numbers, decimals, + - * / (also × ÷ −) and brackets by the precedence everybody knows. Not
covered: powers, functions, names.
"""

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

LONGEST = 200  # characters
_LARGEST = 10**15
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_SPELLINGS = str.maketrans({"×": "*", "÷": "/", "−": "-", "–": "-"})


class SumError(ValueError):
    """A text is no sum that can be worked out; the message says why in a few words."""


def evaluate(text: str) -> tuple[Fraction, list[Fraction]]:
    """Return the value of a sum and the numbers that stand in it, in order. Raises SumError."""
    text = text.translate(_SPELLINGS).strip()
    if len(text) > LONGEST:
        raise SumError("the expression is too long")
    if not text or set(text) - set("0123456789.+-*/() "):
        raise SumError("the expression may hold numbers, + - * / and brackets only")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise SumError("the expression cannot be read") from None
    numbers: list[Fraction] = []
    return _value(tree.body, text, numbers), numbers


def _value(node: ast.expr, text: str, numbers: list[Fraction]) -> Fraction:
    if isinstance(node, ast.Constant):
        written = ast.get_source_segment(text, node) or ""
        try:
            numbers.append(Fraction(written))  # from the text: a float would not be exact
        except ValueError:
            raise SumError("the expression cannot be read") from None
        return numbers[-1]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, text, numbers)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _value(node.left, text, numbers), _value(node.right, text, numbers)
        try:
            value = _OPERATORS[type(node.op)](left, right)
        except ZeroDivisionError:
            raise SumError("division by zero") from None
        if abs(value.numerator) > _LARGEST or value.denominator > _LARGEST:
            raise SumError("the numbers become too large")
        return value
    raise SumError("the expression may hold numbers, + - * / and brackets only")


def spell(value: Fraction) -> str:
    """Return a value as a calculator shows it: whole, or with at most six decimals."""
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6f}".rstrip("0").rstrip(".")
