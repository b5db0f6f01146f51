"""Training runs as one sees them from outside: the folders of `runs/`, how far they are, what they recorded.

Only files are read (recipe.toml, metrics.jsonl), so this needs no torch and disturbs nobody.
"""

import datetime
import json
import time
import tomllib
from pathlib import Path
from typing import Any

from twofold.base.errors import UsageError
from twofold.base.names import unknown

METRICS = "metrics.jsonl"
QUIET_S = 120.0  # a run that wrote nothing for so long is taken to have ended or to stand still
_TAIL = 1 << 16  # bytes, in which the last records lie
_HEADLINES = ("loss_nats", "val_loss_nats", "bits_per_byte", "reward", "tokens_per_s")


def all_runs(folder: Path = Path("runs")) -> list[dict[str, Any]]:
    """Return each run: {name, kind, step, steps, updated, running, done, model, last}, the newest first.

    `steps` is None where the recipe does not plan them; `last` holds the latest of some figures.
    """
    found = [_about(path.parent) for path in folder.glob(f"*/{METRICS}")]
    return sorted(found, key=lambda run: str(run["updated"]), reverse=True)


def records(
    name: str, start: int = 0, most: int | None = None, folder: Path = Path("runs")
) -> tuple[list[dict[str, Any]], int, bool]:
    """Return the records of a run from a place on, the place to go on from, and whether to begin anew.

    `start`: 0, or the place that an earlier call gave. Begun anew: the run has gone back and dropped records,
    so these are all. `most`: thin the steps evenly to about so many; evaluations, samples and what else is
    rare stay. Raises UsageError when there is no such run.
    """
    known = {path.parent.name: path for path in folder.glob(f"*/{METRICS}")}
    if name not in known:
        raise UsageError(unknown("run", name, known))
    with open(known[name], "rb") as file:
        size = file.seek(0, 2)
        anew = start > size
        if 0 < start <= size:
            file.seek(start - 1)
            anew = file.read(1) != b"\n"
        start = 0 if anew else max(0, start)
        file.seek(start)
        whole, end, _ = file.read(size - start).rpartition(b"\n")
    found = [record for line in whole.split(b"\n") if (record := _record(line)) is not None]
    return _thinned(found, most), start + len(whole) + len(end), anew


def _about(run: Path) -> dict[str, Any]:
    metrics = run / METRICS
    stat = metrics.stat()
    try:
        recipe = tomllib.loads((run / "recipe.toml").read_text("utf-8"))
    except (OSError, ValueError):
        recipe = {}
    done = "result" in recipe or (run / "model.gguf").is_file()
    last: dict[str, Any] = {}
    step = 0
    for record in _tail(metrics, stat.st_size):
        step = record["step"] if type(record.get("step")) is int else step
        last |= {key: record[key] for key in _HEADLINES if key in record}
    model = _table(recipe, "settings").get("model")
    return {
        "name": run.name,
        "kind": str(recipe.get("kind", "")),
        "step": step,
        "steps": _table(recipe, "plan").get("steps"),
        "updated": datetime.datetime.fromtimestamp(stat.st_mtime, datetime.UTC).isoformat(timespec="seconds"),
        "running": not done and time.time() - stat.st_mtime < QUIET_S,
        "done": done,
        "model": model if isinstance(model, str) else "",
        "last": last,
    }


def _table(recipe: dict[str, Any], name: str) -> dict[str, Any]:
    table = recipe.get(name)
    return table if isinstance(table, dict) else {}


def _tail(path: Path, size: int) -> list[dict[str, Any]]:
    """Return the records in a file's last bytes."""
    with open(path, "rb") as file:
        file.seek(max(0, size - _TAIL))
        lines = file.read(_TAIL).split(b"\n")
    return [record for line in lines if (record := _record(line)) is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    """Return a line as a record, None for what is none: a torn line, the middle of one."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _thinned(found: list[dict[str, Any]], most: int | None) -> list[dict[str, Any]]:
    steps = [n for n, record in enumerate(found) if "loss_nats" in record or record.get("phase") == "reward"]
    if most is None or len(steps) <= max(2, most):
        return found
    most = max(2, most)
    kept = {steps[round(k * (len(steps) - 1) / (most - 1))] for k in range(most)}
    dropped = set(steps) - kept
    return [record for n, record in enumerate(found) if n not in dropped]
