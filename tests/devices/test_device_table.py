"""The table device: what it works out, what it leaves, what it refuses, and that it comes back as a table."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from twofold.devices import DEVICES, _tables
from twofold.kernel.device import Context, DeviceError

HERE = Context(pid=1, workspace=Path("none"), call="c")
ROUNDS = [
    {"name": "Seed", "raised": 2, "valuation": 10},
    {"name": "Series A", "raised": 8, "valuation": None},
    {"name": "Series B", "raised": 30, "valuation": 210},
]
BY_RATIO = "raised * mean(valuation / raised)"


def fill(table: Any, column: str, formula: str, **more: Any) -> Any:
    device = DEVICES.get("table").open({})
    return device.call("fill", {"table": table, "column": column, "formula": formula, **more}, HERE)


def test_what_is_missing_is_worked_out_by_a_mean_over_all_rows_and_marked() -> None:
    found = fill(ROUNDS, "valuation", BY_RATIO)
    assert [row["valuation"] for row in found.value] == [10, 48, 210]  # (10 / 2 + 210 / 30) / 2 = 6
    assert "| Series A | 8 | ≈ 48 |" in found.text
    assert "| Seed | 2 | 10 |" in found.text
    assert found.text.endswith(f"≈ worked out: valuation = {BY_RATIO}")


def test_a_new_column_and_names_with_blanks_signs_and_other_meanings() -> None:
    table = "item, unit price, sum, x\nnails, 0.05, 200, 3\nscrews, $0.08, 100, 1"
    found = fill(table, "in all", "unit price * Sum * x + max(x) + max(x, 2)")
    assert [row["in all"] for row in found.value] == [36, 13]


@pytest.mark.parametrize(
    ("formula", "values"),
    [
        ("a + b", [11, None, 33]),  # b is not known in the second row
        ("a - mean(a)", [-1, 0, 1]),
        ("sum(a * b) / sum(a) / 7", [2.38] * 3),  # each over the rows where all of it is known; rounded
        ("max(a) - min(a + mean(a))", [0, 0, 0]),  # one over rows inside of another
        ("median(b)", [20] * 3),
        ("a * 10%", [0.1, 0.2, 0.3]),
        ("7", [7] * 3),
    ],
)
def test_formulas(formula: str, values: list[float | None]) -> None:
    table = [{"a": 1, "b": 10}, {"a": 2, "b": "n/a"}, {"a": 3, "b": "30"}]
    assert [row["c"] for row in fill(table, "c", formula).value] == values


def test_it_says_the_same_as_plain_python_on_random_tables() -> None:
    rng = random.Random(7)
    for rows in (1, 2, 7, 150):  # beyond 100 rows numbers have forty digits
        table = [{"a": rng.randint(1, 99), "b": rng.choice([None, rng.randint(1, 999)])} for _ in range(rows)]
        table[0]["b"] = 5
        ratios = [row["b"] / row["a"] for row in table if row["b"] is not None]
        mean = sum(ratios) / len(ratios)
        found = fill(table, "b", "a * mean(b / a)", decimals=9).value
        for row, was in zip(found, table, strict=True):
            assert row["b"] == (was["b"] if was["b"] is not None else pytest.approx(was["a"] * mean))


@pytest.mark.parametrize(
    ("table", "formula", "told"),
    [
        (ROUNDS, "raised * ratio", "there is no column 'ratio'"),
        (ROUNDS, "raise * 2", "no column 'raise', only valuation, raised, name."),
        (ROUNDS, "valuation & raised", "'& raised' cannot be read"),
        (ROUNDS, "raised * mean(valuation / raised", "bracket is not closed"),
        (ROUNDS, "mean(valuation raised +)", "expected"),
        (ROUNDS, "raised / 0", "in row 2: division by zero"),
        (ROUNDS, "raised km", "without a unit"),
        (ROUNDS, "9^raised^99", "too large"),
        (ROUNDS, "name + 1", "name, row 1: 'Seed' is no number"),
        ([{"a": None}], "mean(a)", "too few rows"),
        ("no table", "1", "must be a list of records"),
        ([{"a": None}] * 9999, "+".join(["a"] * 200), "too long for 9,999 rows"),
        (ROUNDS, "", "there is no expression"),
    ],
)
def test_what_cannot_be_worked_out_is_told_in_a_sentence(table: Any, formula: str, told: str) -> None:
    column = "a" if "a" in str(table[0])[:3] or isinstance(table, str) else "valuation"
    with pytest.raises(DeviceError, match=r"^[^\n]+\.$") as error:
        fill(table, column, formula)
    assert told in str(error.value)
    assert "ʘ" not in str(error.value)


def test_what_it_returns_is_a_table_again_whatever_stands_in_it() -> None:
    odd = [{"a | b": "x|y", "n": 1, "m": ""}, {"a | b": "two\nlines | \\", "n": 2, "m": "-"}]
    text = fill(odd, "m", "n * 2").text
    again = _tables.rows(text)
    assert [row["m"] for row in again] == ["≈ 2", "≈ 4"]
    assert again[0]["a | b"] == "x|y"
    assert [row["k"] for row in fill(text, "k", "m + n").value] == [3, 6]


def test_a_column_needs_a_name() -> None:
    with pytest.raises(DeviceError, match="name of a column"):
        fill(ROUNDS, " ", "1")
    assert fill("a, \n1, 2", "b", "a + 1").value == [{"a": "1", "": "2", "b": 2}]


def test_rows_that_lack_a_column_and_cells_of_all_kinds() -> None:
    found = fill(json.dumps([{"a": 1}, {"b": [1, 2]}, {"a": 2.5, "b": True}]), "c", "a * 2")
    assert [row["c"] for row in found.value] == [2, None, 5]
    assert "| ? | [1, 2] | ? |" in found.text
