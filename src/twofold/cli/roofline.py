"""The roofline in a terminal: roofs as lines of dots, each model's speed as a letter."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from twofold.measure.roofline import Axes, Line
    from twofold.measure.speed import Point

ROWS = 13
_LABEL = 7  # columns left of the axis
_DOTS = (
    (0x01, 0x08),
    (0x02, 0x10),
    (0x04, 0x20),
    (0x40, 0x80),
)  # Unicode's numbers of the dots, by row and column


class Canvas:
    """Cells of a terminal, each two dots wide and four high (braille); letters lie over dots.

    `plain`: a cell with dots becomes a full stop, for terminals that have ASCII only.
    """

    def __init__(self, columns: int, rows: int, *, plain: bool = False) -> None:
        self.columns, self.rows, self._plain = columns, rows, plain
        self._dots: dict[tuple[int, int], int] = {}
        self._letters: dict[tuple[int, int], str] = {}

    def dot(self, x: float, y: float) -> None:
        """Set the dot at x, y, both from 0 (left, bottom) to 1; outside nothing happens."""
        if not (0 <= x <= 1 and 0 <= y <= 1):
            return
        column = min(int(x * self.columns * 2), self.columns * 2 - 1)
        row = min(int((1 - y) * self.rows * 4), self.rows * 4 - 1)
        place = (row // 4, column // 2)
        self._dots[place] = self._dots.get(place, 0) | _DOTS[row % 4][column % 2]

    def letter(self, x: float, y: float, letter: str) -> None:
        """Put a letter at x, y; where one is already, beside it."""
        row = max(0, min(int((1 - y) * self.rows), self.rows - 1))
        column = max(0, min(int(x * self.columns), self.columns - 1))
        while (row, column) in self._letters and column < self.columns - 1:
            column += 1
        self._letters[row, column] = letter

    def row(self, number: int) -> str:
        """Return a row of cells as text."""
        cells = []
        for place in ((number, column) for column in range(self.columns)):
            dots = self._dots.get(place, 0)
            shown = " " if not dots else "." if self._plain else chr(0x2800 + dots)
            cells.append(self._letters.get(place, shown))
        return "".join(cells)


def letter(point: "Point") -> str:
    """Return the letter of a point: the first of its name (D decode, B batch of 8, P prefill)."""
    return point.name[0].upper()


def draw(lines: Sequence["Line"], points: Sequence["Point"], width: int, *, plain: bool = False) -> "Text":
    """Return the roofline as text of at most `width` columns; `plain` uses ASCII only."""
    from rich.text import Text

    from twofold.measure import roofline

    plane = roofline.axes(lines, points)
    canvas = Canvas(max(20, min(width, 100) - _LABEL - 2), ROWS, plain=plain)
    for number, line in enumerate(lines):
        steps = canvas.columns * 2
        for step in range(0, steps, 1 if number == 0 else 3):  # the first is drawn full, the others dotted
            share = (step + 0.5) / steps
            canvas.dot(share, plane.y(line.at(plane.operations_per_byte(share))))
    for point in points:
        place = plane.x(point.operations_per_byte), plane.y(point.operations_per_s)
        canvas.letter(*place, letter(point))
    labels = {
        int((1 - plane.y(value)) * ROWS): roofline.short(value)
        for value in roofline.decades(plane.y0, plane.y1)
    }
    bar, corner, level = ("|", "+", "-") if plain else ("│", "└", "─")
    text = Text(no_wrap=True, overflow="crop")
    for number in range(ROWS):
        text.append(f"{labels.get(number, ''):>{_LABEL}} {bar}", "dim")
        for cell in canvas.row(number):
            text.append(cell, "bold" if cell.isalnum() else "cyan")
        text.append("\n")
    text.append(f"{'':>{_LABEL}} {corner}{level * canvas.columns}\n", "dim")
    text.append(_scale(plane, canvas.columns), "dim")
    return text


def _scale(plane: "Axes", columns: int) -> str:
    """Return the line of numbers below the axis."""
    from twofold.measure import roofline

    cells = [" "] * (columns + _LABEL + 2)
    for value in roofline.decades(plane.x0, plane.x1):
        name = roofline.short(value)
        start = _LABEL + 2 + int(plane.x(value) * columns) - len(name) // 2
        if start + len(name) <= len(cells):
            cells[start : start + len(name)] = name
    return "".join(cells).rstrip()
