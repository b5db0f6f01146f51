"""Labelling in the chat: /fix, /compare, /better, /worse, /why."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold.base import files
from twofold.base.errors import UsageError
from twofold.cli import terminal

if TYPE_CHECKING:
    from twofold.cli.conversation import Talk

COMMANDS = ("/fix", "/compare", "/better", "/worse", "/why")


class Labeller:
    """Turns what the user types about an answer into labels."""

    def __init__(self, model: Path | None, name: str) -> None:
        """Label answers of the model in the file `model`, called `name`; None: it is on another server."""
        from twofold.kernel.labels import Labels

        self.labels = Labels()
        self._model, self._name = model, name
        self._about: dict[str, str] | None = None
        self._last: str | None = None

    def obey(self, command: str, text: str, chat: "Talk", notes: Console) -> None:
        """Do what a command says. Raises UsageError when it makes no sense here."""
        if command == "/why":
            if self._last is None:
                raise UsageError("There is no label yet to give a reason for.")
            self.labels.why(self._last, text)
            notes.print("[dim]Noted.[/]")
            return
        question = chat.question()
        answer = chat.messages[-1]["content"]
        if command == "/fix":
            self._last = self.labels.fix(question, answer, text, self.about())
            chat.replace_answer(text)
            self._thank(notes, "twofold tune learns it")
        elif command == "/compare" or chat.other is None:
            notes.print("[dim]The model answers once more …[/]")
            _beside(answer, chat.again(), notes)
            notes.print("[dim]/better: the left one is better. /worse: the right one is.[/]")
        elif command == "/better":
            self._last = self.labels.compare(question, chat.other, answer, self.about())
            chat.other = None
            self._thank(notes, "the left one stays")
        else:
            other = chat.other
            self._last = self.labels.compare(question, answer, other, self.about())
            chat.replace_answer(other)
            self._thank(notes, "the conversation goes on with the right one")

    def about(self) -> dict[str, str]:
        """Return which model answered: its name and the hash of its file."""
        if self._about is None:
            digest = files.sha256(self._model) if self._model and self._model.is_file() else ""
            self._about = {"name": self._name, "sha256": digest}
        return self._about

    def _thank(self, notes: Console, what: str) -> None:
        total = sum(self.labels.counts().values())
        count = "1 label" if total == 1 else f"{total:,} labels"
        notes.print(f"[dim]Kept; {what}. {count} so far; /why TEXT adds a reason.[/]")


def _beside(left: str, right: str, notes: Console) -> None:
    """Show two answers side by side."""
    table = Table("the last answer", "another", box=None, expand=True, header_style="dim", pad_edge=False)
    for column in table.columns:
        column.ratio = 1
    table.columns[0].style, table.columns[1].style = "default", "cyan"
    table.add_row(Text(terminal.clean(left)), Text(terminal.clean(right)))
    notes.print(table)
