"""The calculator and the converter: right, exact, and unharmed by any text."""

import itertools
import random
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.base.errors import UsageError
from twofold.devices import _expressions, _numbers, _units, calculator, convert
from twofold.environments import word_problems
from twofold.kernel.device import Context, DeviceError

HERE = Context(pid=1, workspace=Path("none"), call="c")


def shown(expression: str, **more: Any) -> str:
    text = calculator.open({}).call("calculator", {"expression": expression, **more}, HERE).text
    assert text is not None
    return text


def converted(amount: float, source: str, target: str) -> str:
    arguments = {"amount": amount, "source": source, "target": target}
    text = convert.open({}).call("convert", arguments, HERE).text
    assert text is not None
    return text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(12 + 3) / 4", "3.75"), ("2 ^ 10", "1024"), ("2 ** 3 ** 2", "512"), ("-2 ^ 2", "-4"),
        ("2 ^ -2", "0.25"),
        ("0.1 + 0.2", "0.3"), ("1 / 3", "0.333333"), ("1,204 × 3", "3612"), ("max(1,200)", "200"),
        ("15% of 80", "12"), ("200 + 15%", "230"), ("200 - 5 %", "190"), ("17 % 5", "2"), ("-7 mod 3", "2"),
        ("7 // 2", "3"), ("sqrt(2)", "1.414214"), ("√16 + 1", "5"), ("sqrt(1/4)", "0.5"), ("8 ^ (1/3)", "2"),
        ("cbrt(-27)", "-3"), ("root(32, 5)", "2"), ("5!", "120"), ("log(1000)", "3"), ("log(8, 2)", "3"),
        ("ln(e)", "1"), ("exp(0)", "1"), ("sin(30°)", "0.5"), ("cos(pi)", "-1"), ("tan(45 deg)", "1"),
        ("asin(1) * 2 / pi", "1"), ("atan(1) * 4", "3.141593"), ("2 pi", "6.283185"), ("2(3 + 4)", "14"),
        ("3.5 million / 7", "500000"), ("mean(1, 2, 3, 4)", "2.5"), ("median(5, 1, 3)", "3"),
        ("stdev(2, 4, 4, 4, 5, 5, 7, 9)", "2.13809"), ("gcd(12, 18)", "6"), ("lcm(4, 6)", "12"),
        ("choose(52, 5)", "2598960"), ("round(2.5)", "3"), ("round(-2.5)", "-3"), ("floor(-1.5)", "-2"),
        ("ceil(1.2)", "2"), ("abs(-3)", "3"), ("0xff", "255"), ("1e3", "1000"), ("10 ^ -12", "1e-12"),
        ("0.00012345678", "0.000123457"), ("12 + 3 =", "15"), ("1_000 * 2", "2000"), ("0 ^ 0", "1"),
        ("2 x 3", "6"), ("(-1) ^ 1000001", "-1"),
    ],
)  # fmt: skip
def test_calculator_is_right(expression: str, value: str) -> None:
    assert shown(expression) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("90 km / 45 min in km/h", "120 km/h"), ("90 km / 2 h", "45 km/h"), ("1/2 km in m", "500 m"),
        ("5 ft 11 in in cm", "180.34 cm"), ("12 in in cm", "30.48 cm"), ("20 degC in degF", "68 degF"),
        ("300 K in °C", "26.85 °C"), ("20 °C + 5 K", "25 °C"), ("25 °C - 20 °C", "5 K"),
        ("5 km * 200 m", "1000000 m^2"),
        ("sqrt(9 m^2)", "3 m"), ("$5 million / 4", "1250000 $"), ("1 h 30 min in min", "90 min"),
        ("9.81 m/s^2 * 80 kg in N", "784.8 N"), ("1 kWh in MJ", "3.6 MJ"), ("1 GiB in MB", "1073.741824 MB"),
        ("3 weeks in days", "21 days"), ("500 W * 3 h in kWh", "1.5 kWh"), ("1 ft / 1 in", "12"),
        ("2 m2 in cm2", "20000 cm2"),
        ("round(2.6 km)", "3 km"), ("10 mph in km/h", "16.09344 km/h"), ("180° in rad", "3.141593 rad"),
        ("1 BTU in J", "1055.055853 J"), ("0.5 in %", "50 %"),
    ],
)  # fmt: skip
def test_calculator_knows_units(expression: str, value: str) -> None:
    assert shown(expression) == value


def test_calculator_says_exact_and_rounded() -> None:
    returned = calculator.open({}).call("calculator", {"expression": "10 / 3"}, HERE)
    assert returned.value == {"value": "3.333333", "exact": "10/3", "unit": ""}
    assert returned.text == "3.333333"  # the form that the model in the box was taught
    assert shown("10 / 3", exact=True) == "10/3 ≈ 3.333333"
    assert shown("sqrt(2)", exact=True, decimals=30) == "about 1.414213562373095048801688724210"[:-1]
    assert shown("1/3", decimals=2) == "0.33"
    assert calculator.open({}).call("calculator", {"expression": "sqrt(2)"}, HERE).value["exact"] is None


def test_calculator_agrees_with_the_one_the_box_was_taught_by() -> None:
    for problem in itertools.islice(word_problems.problems(5, "train"), 300):
        expression = problem.facts["sum"]
        assert shown(expression) == word_problems.calculator({"expression": expression})
    rng = random.Random(3)
    for _ in range(300):  # means of ratios, as in the talk's demo
        ratios = " + ".join(f"{rng.randint(1, 900)} / {rng.randint(1, 90)}" for _ in range(3))
        assert shown(f"({ratios}) / 3") == word_problems.calculator({"expression": f"({ratios}) / 3"})


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("", "no expression"), ("9^9^9", "too large"), ("2000!", "factorial"), ("1e9999", "too large"),
        ("10^99999 * 10", "too large"), ("1/0", "division by zero"), ("0^-1", "division by zero"),
        ("5 % 0", "zero"),
        ("tan(90°)", "no value"), ("sqrt(-1)", "not real"), ("ln(0)", "above zero"),
        ("(-8)^(1/3)", "not real"),
        ("5 m + 3 s", "a length and a time"), ("$5 + €3", "cannot be added"),
        ("12 EUR in USD", "cannot be converted"),
        ("20 °C + 5 °C", "in K"), ("20 °C * 2", "only be converted"), ("12 foos", "did you mean"),
        ("sqr(3)", "'sqrt'"),
        ("3 +", "expected"), ("((1)", "not closed"), ("3,5 + 1", "','"),
        ("__import__('os')", "cannot be read"),
        ("().__class__", "cannot be read"), ("(" * 100 + "1", "nested"), ("-" * 500 + "1", "nested"),
        ("choose(100000, 3)", "10,000"), ("round(1, 1000)", "100 places"), ("m^99", "at most 20"),
        ("log(5, 1)", "base"),
        ("min()", "arguments"), ("sin(1, 2)", "takes 1"), ("2^^3", "expected"), ("1 2", "not expected"),
    ],
)  # fmt: skip
def test_calculator_refuses_in_a_sentence(expression: str, says: str) -> None:
    with pytest.raises(DeviceError, match=r"That cannot be worked out: .*\.$") as caught:
        shown(expression)
    assert says in str(caught.value)


def test_a_text_without_an_end_is_not_read() -> None:
    with pytest.raises(DeviceError, match="too long: at most 1,000"):
        shown("1 + " * 400 + "1")


def test_a_name_too_much_in_the_settings_is_refused() -> None:
    with pytest.raises(UsageError, match=r"devices.toml, \[calculator\]"):
        calculator.open({"precision": 3})


@pytest.mark.parametrize(
    ("amount", "source", "target", "value"),
    [
        (12, "km", "miles", "7.456454"), (5, "kg", "pounds", "11.023113"), (20, "C", "F", "68"),
        (3, "hours", "days", "0.125"),
        (2.5, "litres", "gallons", "0.660430"), (100, "km/h", "m/s", "27.777778"),
        (-40, "celsius", "fahrenheit", "-40"),
        (1, "MB", "kB", "1000"), (1, "acre", "m^2", "4046.856422"),
    ],
)  # fmt: skip
def test_convert_is_right(amount: float, source: str, target: str, value: str) -> None:
    assert converted(amount, source, target) == value.rstrip("0") if "." in value else value


@pytest.mark.parametrize(
    ("source", "target", "says"), [("km", "kg", "a length"), ("km", "parsnips", "no unit"),
    ("", "km", "expected"),
                                   ("km", "km km in m", "cannot"), ("USD", "EUR", "cannot")]
)  # fmt: skip
def test_convert_refuses_in_a_sentence(source: str, target: str, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        converted(1, source, target)


# --- properties


def test_every_unit_converts_into_itself_and_back() -> None:
    seen = 0
    for name, unit in _units._units().items():
        one = _units.of(Fraction(7), unit)
        number, _ = _units.amount(one)
        assert abs(_numbers.decimal_of(number) - 7) < 1e-30, name
        seen += 1
    assert seen > 500


_TREES = st.recursive(
    st.fractions(min_value=-1000, max_value=1000, max_denominator=50),
    lambda inner: st.tuples(st.sampled_from("+-*/"), inner, inner),
    max_leaves=12,
)


def written(tree: Any) -> str:
    if isinstance(tree, Fraction):
        return f"({tree.numerator}/{tree.denominator})"
    return f"({written(tree[1])} {tree[0]} {written(tree[2])})"


def worked_out(tree: Any) -> Fraction:
    if isinstance(tree, Fraction):
        return tree
    left, right = worked_out(tree[1]), worked_out(tree[2])
    return {"+": left + right, "-": left - right, "*": left * right}.get(tree[0]) or (
        left / right if tree[0] == "/" else Fraction(0)
    )


@given(_TREES)
@settings(max_examples=150, deadline=None)
def test_calculator_agrees_with_fractions(tree: Any) -> None:
    try:
        expected = worked_out(tree)
    except ZeroDivisionError:
        with pytest.raises(_numbers.CalculationError, match="zero"):
            _expressions.evaluate(written(tree))
        return
    assert _expressions.evaluate(written(tree)).value == expected


@given(st.floats(-1e6, 1e6), st.sampled_from(["sin", "cos", "atan", "exp", "ln", "sqrt", "log10"]))
@settings(max_examples=150, deadline=None)
def test_functions_agree_with_floats(x: float, name: str) -> None:
    import math

    x = math.fmod(x, 50) if name == "exp" else abs(x) + 1e-6 if name in ("ln", "sqrt", "log10") else x
    value = _expressions.evaluate(f"{name}({x:.17f})").value
    expected = {"ln": math.log}.get(name) or getattr(math, name)
    assert float(value) == pytest.approx(expected(float(f"{x:.17f}")), rel=1e-9, abs=1e-9)


_PIECES = (
    "1", "9", "0.5", "1e9", "+", "-", "*", "/", "^", "**", "(", ")", "%", "!", ",", " in ", "km", "°C",
    "s", "sqrt(",
    "max(", "pi", "$", "€", "million", "log(", " of ", "factorial(", "choose(", "²", "½", "x", "//",
    "mod", "99999999",
)  # fmt: skip


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join) | st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_no_text_harms_the_calculator(text: str) -> None:
    try:
        number, _ = _units.amount(_expressions.evaluate(text))
    except _numbers.CalculationError as error:
        assert str(error)
    else:
        assert len(_numbers.rounded(number)) < 5_000


def test_the_worst_expressions_take_no_time() -> None:
    # Not how fast this machine is, but that nothing grows beyond all bounds: each of these would be hours.
    for text in ("9^9^9^9", "99999999^99999999", "1400!^1400", "2^0.5^" * 30 + "2", "choose(10000,5000)^3",
                 "7^-99999999", "(1+1e-30)^1e30", "sin(10^15)", "exp(99999)",
                 "1.0000001^99999999"):  # fmt: skip
        began = time.process_time()
        try:
            _units.amount(_expressions.evaluate(text))
        except _numbers.CalculationError:
            continue
        finally:
            spent = time.process_time() - began
        assert spent < 60, text
