"""Printing tokens as they are made: whole characters only, controls made safe, thinking dimmed."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold.cli import terminal
from twofold.tokens.speech import CLOSE, OPEN, Characters

if TYPE_CHECKING:
    from twofold.run import Step
    from twofold.tokens import Tokenizer

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Printer:
    """Prints a stream of steps and remembers what was printed.

    `columns`: how wide the screen is, where lines are to break between words; None leaves them as they are.
    After `run`: `text` (what the model said, without specials), `steps` (every step), `seconds`,
    `interrupted` (Ctrl-C stopped it).
    """

    def __init__(
        self,
        tokenizer: "Tokenizer",
        stop_ids: Iterable[int],
        write: Callable[[str], object],
        columns: int | None = None,
    ) -> None:
        self.text = ""
        self.steps: list[Step] = []
        self.seconds = 0.0
        self.interrupted = False
        self.stopped = False
        self._tokenizer = tokenizer
        self._stop = frozenset(stop_ids)
        self.write = terminal.Wrap(write, columns)

    def run(self, steps: Iterator["Step"], *, colour: bool, strip: bool = False) -> None:
        """Print the steps until the model stops, the steps end, or Ctrl-C.

        `colour`: dim the model's thinking. `strip`: leave out white space at the very start.
        """
        characters = Characters(self._tokenizer)
        start = time.perf_counter()
        try:
            for step in steps:
                self.steps.append(step)
                if step.id in self._stop:
                    self.stopped = True
                    break
                self._show(step.id, characters, colour=colour, strip=strip)
        except KeyboardInterrupt:
            self.interrupted = True
        self._say(characters.end())
        self.write.flush()
        if colour:
            self.write(PLAIN)
        self.seconds = time.perf_counter() - start

    def _show(self, token: int, characters: Characters, *, colour: bool, strip: bool) -> None:
        name = self._tokenizer.vocabulary.tokens[token]
        if colour and name in (OPEN, CLOSE):
            self.write(DIM if name == OPEN else PLAIN)
        piece = characters.take(token)
        self._say(piece.lstrip() if strip and not self.text else piece)

    def _say(self, piece: str) -> None:
        self.text += piece
        self.write(terminal.clean(piece))

    def speed(self) -> str:
        """Return one line on how fast it went: "48 tokens, 1,250 tokens/s"."""
        rate = len(self.steps) / self.seconds if self.seconds else 0.0
        return f"{len(self.steps):,} tokens, {rate:,.0f} tokens/s"


def to_stdout(text: str) -> None:
    """Write to standard output at once, so that a token is seen when it is made."""
    sys.stdout.write(text)
    sys.stdout.flush()


def print_probabilities(console: Console, tokenizer: "Tokenizer", steps: Iterable["Step"]) -> None:
    """Print one row per step: the token, how likely it was, and what else could have come."""

    def name(token: int) -> str:
        return terminal.visible(tokenizer.token_bytes(token))

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("token", no_wrap=True, max_width=24)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("what else it could have been", no_wrap=True, overflow="ellipsis")
    for step in steps:
        others = [(token, share) for token, share in step.alternatives if token != step.id][:4]
        other = "  ".join(f"{name(token)} {terminal.percent(share)}" for token, share in others)
        style = "green" if step.probability >= 0.5 else "yellow" if step.probability >= 0.1 else "red"
        table.add_row(
            Text(name(step.id), "bold"), Text(terminal.percent(step.probability), style), Text(other, "dim")
        )
    console.print(table)
