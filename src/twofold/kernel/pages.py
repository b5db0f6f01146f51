"""Pages: what a process has read and said, piece by piece. Its memory is made of them; none is deleted."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twofold.kernel.flow import Label, join

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

    @property
    def told(self) -> str:
        """What the model reads of it: its text, or a stub when that is hidden. Before a result in which
        something is hidden stands its name, by which all of it can be passed on."""
        if self.hidden:
            return self.stub()
        return f"{self.id}: {self.text}" if self.kind == "result" and STUB.search(self.text) else self.text

    def shown(self) -> dict[str, Any]:
        """Return the message that the model reads."""
        message = self.message or {"role": self.kind}
        return {**message, "content": self.told}

    def record(self) -> dict[str, Any]:
        """Return it as JSON."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**found, "label": self.label.record()}

    @staticmethod
    def of(record: Mapping[str, Any]) -> "Page":
        """Return the page of a record."""
        return Page(**{**record, "label": Label.of(record["label"])})


def filled(page: Page, parts: Sequence[Page]) -> Page:
    """Return a page as its name passes it on: with its hidden parts in their places, and the label of all.

    page: what a call returned; where it has parts, its text is JSON. parts: those inside of it.
    """
    if not parts:
        return page
    stubs = {dataclasses.replace(part, hidden=True).stub(): part.text for part in parts}

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(item) for key, item in value.items()}
        if isinstance(value, list):
            return [put(item) for item in value]
        return unspelled(stubs[value]) if isinstance(value, str) and value in stubs else value

    text = json.dumps(put(json.loads(page.text)), ensure_ascii=False)
    return dataclasses.replace(page, text=text, label=join([page.label, *(part.label for part in parts)]))


def unspelled(text: str) -> Any:
    """Return what a page's text was before it was spelled: a number, a list, a record; or a text as it is."""
    try:
        found = json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(found, str) else found
