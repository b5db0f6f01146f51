"""The record of a run: one JSON object per line in `metrics.jsonl`, and the same record on the console.

Every key carries its unit: `loss_nats`, `bits_per_byte`, `tokens_per_s`, `elapsed_s`. A record that belongs
to a training step has the key `step`. A line is handed to the operating system as one write, so a process
that is killed leaves at most one torn last line, which readers drop. What a full disk does not take is kept
in memory and written as soon as there is room.

Format: JSON Lines, UTF-8; a number that is not finite is written as null, since JSON has no word for it.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from twofold.base.errors import BadFileError
from twofold.base.files import write_text


class RunLog:
    """An append-only log of records; a context manager that closes its file."""

    def __init__(
        self,
        path: str | Path,
        *,
        resume_step: int | None = None,
        console: Callable[[str], None] | None = None,
    ) -> None:
        """Open the log at `path`, anew unless `resume_step` is given.

        `resume_step`: keep the records up to and including that step and drop later ones, so that steps done
        twice (the run was killed after its last checkpoint) appear once. `console` gets each record as
        one line.
        """
        self.path = Path(path)
        self._console = console
        self._pending = b""  # what the disk did not take yet
        self.behind: OSError | None = None  # why
        kept: list[dict[str, Any]] = []
        if resume_step is not None and self.path.exists():
            kept = [record for record in read(self.path) if record.get("step", 0) <= resume_step]
        self._open(kept)

    def _open(self, records: list[dict[str, Any]]) -> None:
        write_text(self.path, "".join(_line(record) for record in records))
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed by close)
        self._size = self._file.tell()

    def write(self, **record: Any) -> None:
        """Append one record. Values: numbers, text, lists and dicts of these.

        Never fails for want of room: `behind` says what is wrong while the file lacks something.
        """
        self._pending += _line(record).encode()
        self.catch_up()
        if self._console is not None:
            self._console(spell(record))

    def catch_up(self) -> OSError | None:
        """Write what is missing; return why that did not work, or None."""
        self.behind = None
        try:
            written = self._file.write(self._pending)
            if written is None or written < len(self._pending):  # the disk took a part: none, or all
                self._file.write(self._pending[written or 0 :])
            self._size += len(self._pending)
            self._pending = b""
        except OSError as error:
            self.behind = error
            self._file.truncate(self._size)
        return self.behind

    def back_to(self, step: int) -> None:
        """Drop the records after `step`: the run has gone back to it."""
        self.catch_up()
        records = [record for record in read(self.path) if record.get("step", 0) <= step]
        self._file.close()
        self._open(records)

    def close(self) -> None:
        """Close the file; later writes are an error."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of a log in order. A torn last line is left out.

    Raises BadFileError when the file is missing or any other line is not a JSON object.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise BadFileError(f"Cannot read the run log {path}: {error.strerror}.") from error
    whole, _, _torn = raw.rpartition(b"\n")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(whole.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise BadFileError(f"{path}, line {number}: not JSON ({error}).") from error
        if not isinstance(record, dict):
            raise BadFileError(f"{path}, line {number}: expected an object, found {type(record).__name__}.")
        records.append(record)
    return records


def spell(record: Mapping[str, Any]) -> str:
    """Return a record as one readable line: `step 120 · loss_nats 3.214 · tokens_per_s 18,400`."""
    return " · ".join(f"{key} {_spell_value(value)}" for key, value in record.items())


def _spell_value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}" if math.isfinite(value) else str(value)
    return f"{value:.4g}"


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Return `value` with numbers that are not finite replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
