"""What a person sees of `improve`: a line that lives while it works, and a line that stays for each test."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn

from twofold.measure.attempts import Scores
from twofold.train.display import LINE_EVERY_S, Screen, duration
from twofold.train.stopping import terminable

if TYPE_CHECKING:
    from twofold.train.rounds import Rounds


class Watch(Screen):
    """Shows an `improve` run on a console; with None it shows nothing."""

    def __init__(self, console: Console | None) -> None:
        super().__init__(console)
        self._line_s = time.monotonic()
        self._live: Progress | None = None
        self._row: TaskID | None = None
        self._text = ""
        self._reward: float | None = None

    @contextlib.contextmanager
    def resumable(self, folder: Path) -> Iterator[None]:
        """Say how to go on when Ctrl-C or SIGTERM ends the block."""
        try:
            with terminable():
                yield
        except KeyboardInterrupt:
            self.say(
                f"Stopped; what was done is saved. Go on with: twofold improve --resume {folder}", "yellow"
            )
            raise

    @contextlib.contextmanager
    def running(self, run: Any = None) -> Iterator[None]:
        """Show the living line while the block lasts."""
        if not self.console.is_terminal:
            yield
            return
        columns = SpinnerColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=self.console, transient=True) as self._live:
            self._row = self._live.add_task("")
            yield
        self._live = None

    def _show(self, text: str, *, line: bool = True) -> None:
        self._text = text
        if self._live is not None and self._row is not None:
            self._live.update(self._row, description=text)
        elif line and time.monotonic() - self._line_s > LINE_EVERY_S:
            self._line_s = time.monotonic()
            self.say(text)

    def attempts(self, done: int, of: int) -> None:
        """Show how many attempts of a round or test are done."""
        if self._live is not None and self._row is not None:
            self._live.update(self._row, description=f"{self._text} · {done:,}/{of:,} attempts")

    def written(self, done: int, of: int) -> None:
        """Show how many examples are written."""
        self._show(f"writing examples: {done:,}/{of:,}")

    def imitated(self, run: "Rounds", loss_nats: float) -> None:
        """Show a step of imitation."""
        steps = run.plan.imitation_steps
        self._show(f"imitation {run.step:,}/{steps:,} · loss {loss_nats:.3f} · {duration(run.elapsed_s)}")

    def tried(self, run: "Rounds", figures: Mapping[str, Any]) -> None:
        """Show a round."""
        reward = figures["reward"]
        self._reward = reward if self._reward is None else 0.8 * self._reward + 0.2 * reward
        rounds = f"/{run.plan.rounds:,}" if run.plan.rounds else ""
        left = ""
        if run.plan.budget_s is not None:
            left = f" · {duration(max(0.0, run.plan.budget_s - run.elapsed_s))} left"
        self._show(
            f"round {run.round:,}{rounds} · reward {self._reward:.3f} · "
            f"{100 * figures['telling_groups']:.0f} % of groups tell · {run.pace_s:.1f} s a round{left}"
        )

    def tested(self, run: "Rounds", found: Mapping[str, Scores]) -> None:
        """Show a test on unseen problems."""
        steps = run.plan.imitation_steps
        where = f"round {run.round:,}" if run.step > steps else f"after {run.step:,} steps of imitation"
        where = "at the start" if run.step == 0 else where
        one = next(iter(found.values()))
        parts = [f"{mode} {score.spell()}" for mode, score in found.items()]
        self.say(f"{where}: {', '.join(parts)} on {one.attempts:,} unseen problems")
