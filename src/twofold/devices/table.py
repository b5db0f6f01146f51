"""Table: works out what is missing in a column by a formula over the others, as a spreadsheet does.

A table is one value: what extract found, or a CSV file, goes in by its name, and comes out as one, for
plot_table, for a report, for a formula more. So a model works with a hundred figures that it never sees, and
need not name one. What was worked out is marked with ≈, and the formula stands below the table.

Not covered: sorting, joining, grouping: the Python device does these.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from twofold.devices import _expressions, _forms, _tables
from twofold.devices import _numbers as numbers
from twofold.devices._formulas import Formula, Unknown
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned

DESCRIPTION = "Works out missing cells of a table by a formula over its columns."
_EXACT = 100  # rows; of more, forty digits are kept of each number
_MOST_STEPS = 1_000_000  # rows times pieces of the formula: some seconds
_LARGEST = 10**300  # that a cell can hold
_UNKNOWN = "?"  # what an empty cell looks like

_FUNCTION = Function(
    name="fill",
    description="Works out the empty cells of a column.",
    parameters=_forms.object_of(
        {
            "table": {
                "type": ["array", "string"], "maxItems": _tables.MOST_ROWS, "maxLength": _tables.LONGEST,
                "description": "records, CSV, or a table in Markdown",
            },
            "column": _forms.text("with empty cells, or a new one", longest=200),
            "formula": _forms.text(
                "over columns, such as price * mean(cost / price), where mean is over all rows",
                longest=_expressions.LONGEST,
            ),
            "decimals": {
                "type": "integer", "minimum": 0, "maximum": 30, "description": "at most; 2 unless said",
            },
        },
        required=("table", "column", "formula"),
    ),
    effect=Effect.NONE,
    trusted=True,
)  # fmt: skip


class Table:
    """The device. It holds nothing."""

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return (_FUNCTION,)

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return the table as records, worked out figures as numbers; as text in Markdown, with ≈ before
        these. Raises DeviceError."""
        _forms.check(_FUNCTION, function, arguments)
        rows, column = _tables.rows(arguments["table"]), arguments["column"].strip()
        if not column:
            raise DeviceError("'column' must be the name of a column.")
        names = list(dict.fromkeys([*(key for row in rows for key in row), column]))
        found = _worked_out(rows, names, column, arguments)
        value = [
            row | {column: float(found[n]) if n in found else row.get(column)} for n, row in enumerate(rows)
        ]
        cells = [
            [f"≈ {found[n]}" if name == column and n in found else _told(row.get(name)) for name in names]
            for n, row in enumerate(rows)
        ]
        lines = [names, ["---"] * len(names), *cells]
        text = "\n".join(f"| {' | '.join(map(_tables.barred, line))} |" for line in lines)
        if found:
            text += f"\n\n≈ worked out: {column} = {' '.join(arguments['formula'].split())}"
        return Returned(value=value, text=text)

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def _worked_out(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], column: str, arguments: Mapping[str, Any]
) -> dict[int, str]:
    """Return what empty cells of a column become, by row; not those for which something else is missing."""

    def cells(name: str) -> list[numbers.Number | None]:
        return [_number(name, n, row.get(name), len(rows) <= _EXACT) for n, row in enumerate(rows, 1)]

    found: dict[int, str] = {}
    where = ""
    try:
        formula = Formula(arguments["formula"], names, len(rows), cells)
        if len(rows) * len(formula) > _MOST_STEPS:
            raise DeviceError(f"The formula is too long for {len(rows):,} rows.")
        for n, row in enumerate(rows):
            if _tables.empty(row.get(column)):
                where = f" in row {n + 1}"
                try:
                    value = formula.of(n)
                except Unknown:
                    continue
                if numbers.size(value) >= _LARGEST:
                    raise numbers.CalculationError("the number becomes too large")
                found[n] = numbers.rounded(value, arguments.get("decimals", 2))
    except numbers.CalculationError as error:
        raise DeviceError(f"The formula cannot be worked out{where}: {error}.") from None
    return found


def _number(column: str, row: int, value: Any, exact: bool) -> numbers.Number | None:
    """Return a cell as a number, None where it is empty. Raises DeviceError."""
    try:
        number = _tables.number(value)
    except ValueError as error:
        raise DeviceError(f"{column}, row {row}: {error}.") from None
    if number is None:
        return None
    return Fraction(str(number)) if exact else numbers.decimal_of(Fraction(str(number)))


def _told(value: Any) -> str:
    """Return a cell as it is shown."""
    if value is None or value == "":
        return _UNKNOWN
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device; it has no settings."""
    _forms.settings("table", settings)
    return Table()
