"""Tables as models write them: records, JSON, CSV or Markdown; and their cells as numbers.

Not covered: cells that span, quotes over several lines in Markdown.
"""

import csv
import datetime
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.kernel.device import DeviceError

MOST_ROWS = 10_000
LONGEST = 1_000_000  # characters of a table that is a text
_NUMBER = re.compile(r"[-+−]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+−]?\.\d+")
_SIZES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6, "b": 1e9, "bn": 1e9, "billion": 1e9,
          "t": 1e12, "trillion": 1e12, "": 1.0, "%": 1.0}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_BAR = re.compile(r"(?<!\\)\|")  # between cells in Markdown; \| is one in a cell
_UNKNOWN = ("", "?", "-", "–", "—", "n/a", "na", "none", "null", "nan", "unknown", "not given", "undisclosed")


def rows(table: str | Sequence[Any]) -> list[dict[str, Any]]:
    """Return a table as records. Raises DeviceError in one sentence."""
    found = _read(table) if isinstance(table, str) else table
    if not isinstance(found, list | tuple) or not found or not all(isinstance(row, Mapping) for row in found):
        raise DeviceError(
            'The table must be a list of records, such as [{"year": 2020, "value": 3}], CSV or Markdown.'
        )
    if len(found) > MOST_ROWS:
        raise DeviceError(f"The table has {len(found):,} rows: at most {MOST_ROWS:,}.")
    return [{str(key).strip(): value for key, value in row.items()} for row in found]


def _read(text: str) -> Any:
    text = text.strip()
    if len(text) > LONGEST:
        raise DeviceError(f"The table is too long: at most {LONGEST:,} characters.")
    if text[:1] in "[{":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            raise DeviceError("The table begins as JSON does and cannot be read as JSON.") from None
        if isinstance(found, dict):  # one list among other things, or columns
            lists = {key: value for key, value in found.items() if isinstance(value, list)}
            if len(lists) == 1 and all(isinstance(row, dict) for row in next(iter(lists.values()))):
                return next(iter(lists.values()))
            if lists and len({len(value) for value in lists.values()}) == 1:
                return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
        return found
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    with_bars = [line for line in lines if line.count("|") >= 1]
    if len(with_bars) >= 2 and len(with_bars) * 2 >= len(lines):
        cells = [[cell.strip().replace(r"\|", "|") for cell in _BAR.split(line)] for line in with_bars]
        cells = [row[not row[0] : len(row) - (not row[-1])] for row in cells]  # without bars at both ends
        cells = [row for row in cells if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    else:
        try:
            sign = ";" if text.count(";") > text.count(",") else "\t" if "\t" in text else ","
            cells = [
                row for row in csv.reader(io.StringIO(text), delimiter=sign, skipinitialspace=True) if row
            ]
        except csv.Error as error:
            raise DeviceError(f"The table cannot be read as CSV ({error}).") from None
    if len(cells) < 2:
        return []
    head = cells[0]
    return [dict(zip(head, [*row, *[""] * len(head)], strict=False)) for row in cells[1:]]


def number(value: Any) -> float | None:
    """Return a cell as a number: 3, "$1.5M", "12 %", "1,204"; None for one that is empty or unknown.

    Raises ValueError for anything else.
    """
    if value is None or isinstance(value, bool):
        return None if value is None else _not(value)
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e300 else _not(value)
    text = _word(value)
    if text in _UNKNOWN:
        return None
    match = _NUMBER.search(text)
    if match is None:
        return _not(value)
    before, after = text[: match.start()].strip(), text[match.end() :].strip().strip("*_ ")
    if (
        not re.fullmatch(r"(us)?[$€£¥]?|usd|eur|gbp", before)
        or re.sub(r"[$€£¥]|usd|eur", "", after).strip() not in _SIZES
    ):
        return _not(value)
    size = _SIZES[re.sub(r"[$€£¥]|usd|eur", "", after).strip()]
    digits = match[0].replace("−", "-")
    found = float(digits.replace(",", "").replace("_", "")) * size
    return found if abs(found) < 1e300 else _not(value)


def empty(value: Any) -> bool:
    """Return whether a cell says nothing, or that something is not known."""
    return value is None or _word(value) in _UNKNOWN


def barred(cell: str) -> str:
    """Return a cell as it stands between bars in Markdown, on one line."""
    return " ".join(cell.split()).replace("|", r"\|")


def _word(value: Any) -> str:
    return str(value).strip().lower().strip("*_`~≈ ").removeprefix("about").strip()


def _not(value: Any) -> float:
    raise ValueError(f"{str(value)[:40]!r} is no number")


def date(value: Any) -> datetime.date | None:
    """Return a cell as a day: 2021-03, 2021-03-15, Mar 2021, 15 March 2021, Q2 2021; None when it is none."""
    text = str(value).strip().strip("*_`").lower()
    if match := re.fullmatch(r"(\d{4})[-/.](\d{1,2})(?:[-/.](\d{1,2}))?(?:[t ].*)?", text):
        return _day(int(match[1]), int(match[2]), int(match[3] or 1))
    if match := re.fullmatch(r"(?:(\d{1,2})\.?\s+)?([a-z]{3,9})\.?,?\s+(\d{4})", text):
        return _named_day(match[3], match[2], match[1])
    if match := re.fullmatch(r"([a-z]{3,9})\.?\s+(\d{1,2}),?\s+(\d{4})", text):
        return _named_day(match[3], match[1], match[2])
    if match := re.fullmatch(r"(?:q([1-4])\s*/?\s*(\d{4})|(\d{4})\s*/?\s*q([1-4]))", text):
        return _day(int(match[2] or match[3]), int(match[1] or match[4]) * 3 - 2, 1)
    return None


def _named_day(year: str, month: str, day: str | None) -> datetime.date | None:
    number = next((n for n, name in enumerate(_MONTHS, 1) if month.startswith(name)), 0)
    return _day(int(year), number, int(day or 1))


def _day(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day) if year >= 1000 else None
    except ValueError:
        return None
