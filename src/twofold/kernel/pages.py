"""Pages: what a process has read and said, piece by piece. Its memory is made of them; none is deleted."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twofold.kernel.flow import Label

STUB = re.compile(r"\[(v\d+): (?:hidden|text, [\d,]+ characters from [^\[\]]*; not shown)\]")
NAMES = re.compile(r"\$\{(v\d+)\}")  # of values, in a text


@dataclass(frozen=True, kw_only=True)
class Page:
    """A piece of a process's memory.

    id: "p" or, for what a system call returned, "v" and a number. kind: "instructions", "user", "assistant"
    or "result". source: what brought it, such as "user" or "files_read". pinned: it stays in the window.
    hidden: the process sees a stub, and may pass the text on by its id. message: as the chat template knows
    it, without its text. inside: the page in which its stub stands already; while it is hidden it needs no
    place of its own in the window.
    """

    id: str
    kind: str
    text: str
    label: Label
    source: str
    tokens: int
    pinned: bool = False
    hidden: bool = False
    message: Mapping[str, Any] | None = None
    inside: str = ""

    def stub(self) -> str:
        """Return what stands in the window in place of a hidden text; within another page, its name only: the
        field it stands in says what it is."""
        if self.inside:
            return f"[{self.id}: hidden]"
        return f"[{self.id}: text, {len(self.text):,} characters from {self.source}; not shown]"

    def shown(self) -> dict[str, Any]:
        """Return the message that the model reads: its text, or a stub when that is hidden."""
        message = self.message or {"role": self.kind}
        return {**message, "content": self.stub() if self.hidden else self.text}

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**found, "label": self.label.record()}

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Page":
        """Return the page of a record."""
        return Page(**{**record, "label": Label.of(record["label"])})
