"""A ladder: many small runs of one kind, the law fitted to them, and how well it foretold a larger one.

`twofold scale` trains the runs and keeps the result here; `twofold train` and `twofold plan` ask for it. It
belongs to one machine (its speed) and one text (its losses). Losses are bits per byte of held-out text, and
text is counted in bytes, so that models with another vocabulary compare.

Kept in `$XDG_DATA_HOME/twofold/ladder.json` (else ~/.local/share): making it anew takes half an hour, so it
is not in the cache. JSON, a few kilobytes.

Not covered: several ladders of one machine; the last one counts.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from twofold.base import home
from twofold.base.errors import BadFileError
from twofold.base.files import write_text
from twofold.measure import scaling
from twofold.measure.machine import processor
from twofold.measure.scaling import Fit

VERSION = 1
SHORT = 3.0  # tokens per weight; shorter runs tell of their start, and the law is not fitted to them
OTHER_TEXT = 0.10  # half of the interval, as a share, when the text is another than the ladder's


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One finished run. `weights` take part in products; `text_bytes` were read; `train_s` for all steps."""

    depth: int
    width: int
    weights: int
    parameters: int
    tokens: int
    text_bytes: float
    flops: float
    bits_per_byte: float
    train_s: float
    held_out: bool = False

    @property
    def short(self) -> bool:
        """Whether the run ended too early to tell of anything but its start."""
        return self.tokens < SHORT * self.weights

    @property
    def flops_per_s(self) -> float:
        """The operations per second that this size reaches here."""
        return self.flops / max(self.train_s, 1e-9)


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The runs, the law fitted to all of them, and what the smaller ones foretold of the held-out one.

    `text`: the SHA-256 of each file that was read. `foretold`: bits per byte of the held-out run, with lower
    and upper bounds, by the law fitted without it; None when nothing was held out.
    """

    name: str
    device: str
    compute: str
    vocabulary: int
    bytes_per_token: float
    text: tuple[str, ...]
    runs: tuple[Rung, ...]
    fit: Fit
    foretold: tuple[float, float, float] | None

    @property
    def held_out(self) -> Rung | None:
        """The run that was foretold."""
        return next((run for run in self.runs if run.held_out), None)

    @property
    def error(self) -> float | None:
        """How far off the forecast was, as a share of what happened: −0.01 is 1 % too hopeful."""
        run = self.held_out
        return None if run is None or self.foretold is None else self.foretold[0] / run.bits_per_byte - 1

    def flops_per_s(self, weights: float) -> float:
        """Return the operations per second that a model of this size reaches here, between the rungs' own."""
        found: dict[int, list[float]] = {}
        for run in self.runs:
            found.setdefault(run.weights, []).append(run.flops_per_s)
        sizes = sorted(found)
        speeds = [math.log(float(np.median(found[size]))) for size in sizes]
        return math.exp(float(np.interp(math.log(weights), [math.log(size) for size in sizes], speeds)))

    def expected(
        self, weights: float, text_bytes: float, unique_bytes: float, text: Sequence[str] = ()
    ) -> tuple[float, float, float]:
        """Return the bits per byte to expect, and the bounds it lies between in 95 of 100 runs.

        `unique_bytes`: of text, when it is read more than once. `text`: its files' SHA-256; when they are not
        the ladder's, the bounds are wider.
        """
        useful = scaling.effective_tokens(text_bytes, unique_bytes)
        middle, low, high = self.fit.predict(weights, useful)
        if not set(text) & set(self.text):
            other = OTHER_TEXT * middle
            low, high = middle - math.hypot(middle - low, other), middle + math.hypot(high - middle, other)
        return middle, low, high

    def dump(self) -> str:
        """Return the ladder as JSON; `parse` reads it back."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        runs = [asdict(run) for run in self.runs]
        record = {"twofold_ladder": VERSION, **plain, "runs": runs, "fit": self.fit.record()}
        return json.dumps(record, indent=1)


def of_runs(runs: Sequence[Rung], *, bootstraps: int = 400, **about: Any) -> Ladder:
    """Return the ladder of these runs: fitted without the held-out one, judged by it, then fitted to all.

    Runs of less than three tokens per weight are shown but not fitted to: their losses lie above any law
    that holds for longer ones. (The replication of Chinchilla's law, arXiv:2404.10102, leaves out those below
    0.45.)
    `about`: the rest of the ladder's fields. Raises UsageError when the runs are too few.
    """
    below = [run for run in runs if not run.held_out]
    above = [run for run in runs if run.held_out]
    foretold = None
    if above:
        first = _fit(below, bootstraps)
        foretold = first.predict(above[0].weights, above[0].text_bytes)
    return Ladder(runs=tuple(runs), fit=_fit(runs, bootstraps), foretold=foretold, **about)


def fitted(runs: Sequence[Rung]) -> Sequence[Rung]:
    """Return the runs that a law is fitted to: those that are not short, or all where those are too few."""
    long = [run for run in runs if not run.short]
    return long if len(long) > scaling.LEAST_RUNS else runs


def _fit(runs: Sequence[Rung], bootstraps: int) -> Fit:
    used = fitted(runs)
    columns = zip(*((run.weights, run.text_bytes, run.bits_per_byte) for run in used), strict=True)
    weights, text_bytes, losses = (list(column) for column in columns)
    return scaling.fit(weights, text_bytes, losses, bootstraps=bootstraps)


def parse(text: str, where: str) -> Ladder:
    """Return the ladder in a JSON text. Raises BadFileError, naming `where`."""
    try:
        raw = json.loads(text)
        if raw.pop("twofold_ladder") != VERSION:
            raise ValueError("written by another version of twofold")
        runs = tuple(Rung(**run) for run in raw.pop("runs"))
        fit = scaling.of_record(raw.pop("fit"), where)
        foretold, files = raw.pop("foretold"), tuple(raw.pop("text"))
        return Ladder(runs=runs, fit=fit, foretold=foretold and tuple(foretold), text=files, **raw)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadFileError(f"{where} is not a ladder that can be read ({error}); train it anew.") from error


def place() -> Path:
    """Return the file in which this machine's ladder is kept."""
    return home.data_folder() / "ladder.json"


def keep(ladder: Ladder) -> Path:
    """Write the ladder as this machine's own; return the file."""
    write_text(place(), ladder.dump())
    return place()


def kept(device: str) -> Ladder | None:
    """Return the ladder that was made on this device, None when there is none or it is of another machine."""
    path = place()
    try:
        ladder = parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, BadFileError, UnicodeDecodeError):
        return None  # the built-in rules do, and a new ladder replaces it
    return ladder if ladder.device == device else None


def device_name(kind: str, cuda_name: str = "") -> str:
    """Return what a ladder of this machine is kept under: the processor, or the GPU's name."""
    return cuda_name if kind == "cuda" else processor()
