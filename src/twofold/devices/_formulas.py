"""Formulas over the columns of a table: what the calculator reads, with columns as names.

A column is its value in the row; a function of many numbers (mean, sum, min, max, median) that is given one
term with a column takes that over all rows in which it is known: raised * mean(valuation / raised).
"""

import re
from collections.abc import Callable, Mapping, Sequence

from twofold.devices._expressions import Reader, Token, spelled
from twofold.devices._functions import FUNCTIONS
from twofold.devices._numbers import CalculationError, Number
from twofold.devices._units import Quantity

_MANY = 100  # arguments, of functions that can be taken over rows
_MARK = "ʘ"  # with a number, in place of a column's name: a letter that no unit and no word has


class Unknown(Exception):  # noqa: N818 (not an error)
    """A cell that a formula needs in this row is empty."""


class Formula(Reader):
    """A formula over columns; `of` works it out for a row.

    names: of all columns. rows: how many there are. column: gives the cells of one, None where one is not
    known; it is asked for those that the formula names. Raises CalculationError.
    """

    def __init__(
        self, text: str, names: Sequence[str], rows: int, column: Callable[[str], Sequence[Number | None]]
    ) -> None:
        known = sorted(filter(None, names), key=len, reverse=True)
        self._names = {f"{_MARK}{n}": name for n, name in enumerate(known)}
        self._rows, self._row = rows, 0
        self._taken: dict[int, tuple[Quantity, int]] = {}  # over all rows, by where it begins; where it ends
        try:
            super().__init__(spelled(_marked(text, self._names)))
        except CalculationError as error:
            raise self._plain(error) from None
        used = {token.text for token in self._tokens} & set(self._names)
        self._columns = {mark: column(self._names[mark]) for mark in used}

    def __len__(self) -> int:
        """How many pieces it has: what a row costs."""
        return len(self._tokens)

    def of(self, row: int) -> Number:
        """Return its value in a row. Raises Unknown, or CalculationError."""
        self._row, self._at, self._depth = row, 0, 0
        try:
            return self.whole().number("a column")
        except CalculationError as error:
            raise self._plain(error) from None

    def _plain(self, error: CalculationError) -> CalculationError:
        """Return an error with the names of columns in place of their marks."""

        def name(found: re.Match[str]) -> str:
            return self._names.get(found[1], found[0])

        return CalculationError(re.sub(rf" ?({_MARK}\d+) ?", name, str(error)))

    def _meaningless(self, name: str) -> str:
        return f"there is no column {name!r}, only {', '.join(self._names.values())}"

    def _primary(self) -> Quantity:
        column = self._columns.get(self._next.text)
        if column is None:
            return super()._primary()
        self._at += 1
        value = column[self._row]
        if value is None:
            raise Unknown
        return Quantity(value)

    def _call(self, name: str) -> Quantity:
        start, row, depth = self._at, self._row, self._depth
        if start in self._taken:
            value, self._at = self._taken[start]
            return value
        end = self._closing()
        inner = self._tokens[start + 1 : end]
        if FUNCTIONS[name][1] < _MANY or not self._term(inner):
            return super()._call(name)
        found = []
        for place in range(self._rows):
            self._row, self._at = place, start + 1
            try:
                found.append(self._sum())
            except Unknown:
                self._depth = depth
                continue
            if self._at != end:
                raise CalculationError(f"{self._next.text!r} is not expected there")
        if len(found) < FUNCTIONS[name][0]:
            raise CalculationError(f"there are too few rows with all that {name} needs")
        self._row, self._at = row, end + 1
        value = FUNCTIONS[name][2](found)
        self._taken[start] = value, end + 1
        return value

    def _term(self, inner: Sequence[Token]) -> bool:
        """Return whether what stands in a bracket is one term with a column."""
        depth = 0
        for token in inner:
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if token.text == "," and not depth:
                return False
        return any(token.text in self._columns for token in inner)

    def _closing(self) -> int:
        """Return where the bracket that opens here is closed. Raises CalculationError."""
        depth = 0
        for place in range(self._at, len(self._tokens)):
            depth += {"(": 1, ")": -1}.get(self._tokens[place].text, 0)
            if not depth:
                return place
        raise CalculationError("a bracket is not closed")


def _marked(text: str, names: Mapping[str, str]) -> str:
    """Return a formula with marks for the names of columns, which may have blanks or mean something else.

    names: by their marks, the longest first.
    """
    if not names:
        return text
    marks = {name.casefold(): mark for mark, name in names.items()}
    forms = [
        re.escape(name) + (r"(?!\s*\()" if name.casefold() in FUNCTIONS else "") for name in names.values()
    ]
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(forms)})(?!\w)", re.IGNORECASE)
    return pattern.sub(lambda found: f" {marks[found[0].casefold()]} ", text)
