"""What a person sees of a run: a bar in a terminal, a line now and then where there is none."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from twofold.train.evaluation import Scored
from twofold.train.stopping import terminable

if TYPE_CHECKING:
    from twofold.train.loop import Run

LINE_EVERY_S = 20.0


class Screen:
    """Shows a run's progress on `console`; with None it shows nothing."""

    def __init__(self, console: Console | None) -> None:
        self.console = console or Console(quiet=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._loss_nats: float | None = None
        self._seconds_per_token = 0.0
        self._score: Scored | None = None
        self._line_s = 0.0

    def say(self, sentence: str, style: str = "") -> None:
        """Print one sentence: on a terminal broken between words, in a log as one line."""
        self.console.print(Text(sentence, style), soft_wrap=not self.console.is_terminal)

    @contextlib.contextmanager
    def resumable(self, folder: Path) -> Iterator[None]:
        """Say how to go on when Ctrl-C or SIGTERM ends the block."""
        try:
            with terminable():
                yield
        except KeyboardInterrupt:
            self.say(
                f"Stopped; what was done is saved. Go on with: twofold train --resume {folder}", "yellow"
            )
            raise

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Show that something takes a while, while the block lasts."""
        if not self.console.is_terminal:
            yield
            return
        with self.console.status(f"{what} …"):
            yield

    @contextlib.contextmanager
    def running(self, run: "Run") -> Iterator[None]:
        """Show the progress of `run` while the block lasts."""
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=self.console, transient=True) as self._progress:
            self._task = self._progress.add_task("", total=run.schedule.steps, completed=run.step)
            yield
        self._progress = None

    def step(self, run: "Run", loss_nats: float, tokens: int, seconds: float) -> None:
        """Show a step that took `seconds` for `tokens`."""
        keep = 0.9 if self._loss_nats is not None else 0.0
        self._loss_nats = keep * (self._loss_nats or 0.0) + (1 - keep) * loss_nats
        self._seconds_per_token = keep * self._seconds_per_token + (1 - keep) * seconds / tokens
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=run.step, total=run.schedule.steps, description=self._spell(run)
            )
        elif time.monotonic() - self._line_s > LINE_EVERY_S:
            self._line_s = time.monotonic()
            self.say(f"step {run.step:,}/{run.schedule.steps:,} · {self._spell(run)}")

    def _spell(self, run: "Run") -> str:
        pace = 1 / max(self._seconds_per_token, 1e-12)
        left_s = (run.schedule.steps - run.step) * run.elapsed_s / max(1, run.step)
        value = f" · {self._score.short()}" if self._score else ""
        return (
            f"loss {self._loss_nats:.3f}{value} · {pace:,.0f} tokens/s · "
            f"{100 * run._utilisation(pace):.0f} % of peak · {duration(left_s)} left"
        )

    def evaluated(self, run: "Run", score: Scored) -> None:
        """Show a score on the held-out text."""
        self._score = score
        self.say(f"step {run.step:,}: {score.spell()}")

    def sampled(self, run: "Run", samples: Sequence[dict[str, str]]) -> None:
        """Show what the model wrote."""
        for entry in samples[:1]:
            text = " ".join((entry["prompt"] + entry["text"]).replace("<|endoftext|>", "").split())
            self.say(f"step {run.step:,}: {_printable(text[:160])}", "dim")

    def decided(self, steps: int) -> None:
        """Show that the run will end at another step than planned."""
        self.say(
            f"The machine's pace has changed: to end in time, the run now has {steps:,} steps.", "yellow"
        )


def duration(seconds: float) -> str:
    """Return a time as people say it: 48 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)
