"""A conversation in the terminal with a model on another server, to which all that is said goes."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from twofold.base.errors import TwofoldError
from twofold.cli import streaming, terminal
from twofold.cli.conversation import Talk

if TYPE_CHECKING:
    from twofold.kernel.elsewhere import Kernel

SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "seed",
)  # what is handed on if said


@dataclass
class Said:
    """What came. `tokens`: as the other side counts them; what ended it: Ctrl-C, or its own `length`."""

    text: str = ""
    thought: str = ""
    tokens: int = 0
    interrupted: bool = False
    length: bool = False


class Elsewhere(Talk):
    """The messages so far, and the kernel that answers them."""

    def __init__(
        self, kernel: "Kernel", sampling: Mapping[str, Any], max_tokens: int | None, system: str | None = None
    ) -> None:
        """Start an empty conversation; nothing is sent before the first answer is wanted.

        sampling, max_tokens: what the user said; of the rest the other side has its own mind.
        """
        super().__init__(system)
        self.kernel, self._sampling, self._max_tokens = kernel, dict(sampling), max_tokens

    def answer(self, prompt: str, notes: Console) -> Said:
        """Stream the answer to `prompt` to standard output and return it.

        When nothing comes the conversation stays as it was. Raises ElsewhereError.
        """
        before, start = list(self.messages), time.perf_counter()
        self.messages.append({"role": "user", "content": prompt})
        self.other = None
        said, shown = Said(), _Shown()
        try:
            self._ask(self.messages, said, shown)
        except TwofoldError:
            self.messages = before
            raise
        finally:
            shown.end()
        seconds = time.perf_counter() - start
        count = f"{said.tokens:,} tokens, " if said.tokens else ""
        ending = ", stopped by you" if said.interrupted else ", cut at the limit" if said.length else ""
        notes.print(Text(terminal.clean(f"{count}{seconds:.1f} s, by {self.where}{ending}"), "dim"))
        thought = {"reasoning_content": said.thought} if said.thought else {}
        self.messages.append({"role": "assistant", **thought, "content": said.text})
        return said

    def again(self) -> str:
        """Return another answer to the last question; the conversation stays as it is."""
        said = Said()
        self._ask(self.question(), said, None)
        self.other = said.text.strip()
        return self.other

    @property
    def where(self) -> str:
        """The model and the host it runs on."""
        from urllib.parse import urlsplit

        return f"{self.kernel.model} at {urlsplit(self.kernel.url).netloc}"

    def welcome(self, name: str, notes: Console) -> None:
        """Say who answers, and that it is not this machine."""
        notes.print(Text.assemble(("twofold", "bold"), f" · {name} · {terminal.clean(self.where)}"))
        notes.print("[yellow]What you write here goes to that server, with the conversation so far.[/]")

    def obey_think(self, wanted: str) -> str:
        """Refuse."""
        raise self._without("/think")

    def show_probabilities(self, console: Console) -> None:
        """Refuse."""
        raise self._without("/probs")

    def _without(self, what: str) -> TwofoldError:
        from twofold.kernel.elsewhere import refused

        return refused(self.kernel, what)

    def _ask(self, messages: list[dict[str, Any]], said: Said, shown: "_Shown | None") -> None:
        """Fill `said` with the answer as it comes, until its end or Ctrl-C."""
        from twofold.kernel.elsewhere import Chat, End
        from twofold.kernel.kernels import Stream

        chat = Chat(messages=messages, sampling=self._sampling, max_tokens=self._max_tokens)
        stream = Stream(self.kernel, chat)

        async def read() -> None:
            try:
                await stream.begin()
                async for event in stream:
                    if isinstance(event, End):
                        said.tokens, said.length = event.tokens, event.length
                        break
                    if event.kind == "thought":
                        said.thought += event.text
                    else:
                        said.text += event.text
                    if shown is not None:
                        shown.add(event.kind, event.text)
            finally:
                stream.close()

        try:
            asyncio.run(read())
        except KeyboardInterrupt:
            said.interrupted = True


class _Shown:
    """What is seen of an answer: made safe, lines broken between words, thoughts dimmed, not piped."""

    def __init__(self) -> None:
        self._colour, self._kind = sys.stdout.isatty(), "text"
        self._write = terminal.Wrap(streaming.to_stdout, terminal.columns())

    def add(self, kind: str, text: str) -> None:
        """Show a piece."""
        if kind == "thought" and not self._colour:
            return
        if kind != self._kind:
            self._write("\n\n" if kind == "text" else "")
            self._write(streaming.DIM if kind == "thought" else streaming.PLAIN)
            self._kind = kind
        self._write(terminal.clean(text))

    def end(self) -> None:
        """End the line."""
        self._write.flush()
        with contextlib.suppress(BrokenPipeError):
            streaming.to_stdout((streaming.PLAIN if self._colour else "") + "\n")
