"""What a model says, from its tokens: text in whole characters, thoughts, calls of tools, and where to stop.

Tokens go in one by one; pieces come out as soon as it is certain what they are. Held back is what may be the
beginning of a stop string or of a mark, a character that is not whole yet, and a call until it is closed.
Marks are tokens where the vocabulary has them, and text where it has not: what spells a mark in ordinary
tokens is then text. Forms of calls that are read: `<tool_call>` JSON `</tool_call>` (Hermes, Qwen, the models
made here), `[TOOL_CALLS]` JSON (Mistral), `<|python_tag|>` or nothing before a JSON object (Llama 3).

Not covered: calls that are not JSON; thoughts in other marks than `<think>`.
"""

import codecs
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import CONTROL

OPEN, CLOSE = "<think>", "</think>"
_CALLS = {"<tool_call>": "</tool_call>", "[TOOL_CALLS]": None, "<|python_tag|>": None}


def begins_a_call(tokenizer: Tokenizer) -> list[int]:
    """Return the tokens with which a model begins to call a tool: where none is on offer, none may come."""
    specials = tokenizer.vocabulary.specials(controls=True)
    return [specials[name] for name in _CALLS if name in specials]


@dataclass(frozen=True)
class Call:
    """A call of a tool: its name, and its arguments as JSON."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Piece:
    """A part of what is said. `notes`: of the tokens that it is made of, as they were given to `take`."""

    kind: Literal["text", "thought", "call"]
    text: str = ""
    notes: tuple[Any, ...] = ()
    call: Call | None = None


class Characters:
    """Whole characters from tokens; what is structure and not text (control tokens) says nothing."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def take(self, token: int) -> str:
        """Return the characters that are whole now."""
        if self._tokenizer.vocabulary.types[token] == CONTROL:
            return ""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def end(self) -> str:
        """Return U+FFFD when the last character never became whole."""
        return self._decoder.decode(b"", final=True)


class Speech:
    """Turns the tokens of one answer into pieces.

    stops: strings before which the text ends; `stopped` is the one it met. marks: whether thoughts are told
    from text. tools: whether calls are, too. thinking: the answer begins within thoughts. strip: leave out
    white space at the very start.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        stops: Collection[str] = (),
        marks: bool = True,
        tools: bool = False,
        thinking: bool = False,
        strip: bool = False,
    ) -> None:
        self.stopped: str | None = None
        self._characters = Characters(tokenizer)
        self._stops = [stop for stop in stops if stop]
        calls = {name: close for name, close in _CALLS.items() if tools}
        known = [*((OPEN, CLOSE) if marks else ()), *calls, *(close for close in calls.values() if close)]
        tokens = tokenizer.vocabulary.tokens
        places = {name: tokens.index(name) for name in known if name in tokens}
        self._tokens = {token: name for name, token in places.items()}
        self._spelled = [name for name in known if name not in places]
        self._tools = tools
        self._bare = tools and not any(name in (tokenizer.vocabulary.chat_template or "") for name in _CALLS)
        self._mode: Literal["text", "thought", "call"] = "thought" if thinking else "text"
        self._closer: str | None = None
        self._fresh = strip or thinking  # leave out white space until something else has come
        self._held, self._at = "", 0  # text that is not yet out, and how many characters went before it
        self._notes: list[tuple[int, Any]] = []

    def take(self, token: int, note: Any = None) -> list[Piece]:
        """Return the pieces that are certain once `token` has come."""
        if self.stopped is not None:
            return []
        if name := self._tokens.get(token):
            return self._flow() + self._mark(name)
        if note is not None:
            self._notes.append((self._at + len(self._held), note))
        self._held += self._characters.take(token)
        return self._flow()

    def end(self) -> list[Piece]:
        """Return what was held back: the answer is over."""
        if self.stopped is not None:
            return []
        self._held += self._characters.end()
        pieces = self._flow()
        if self._mode == "call":
            return pieces + self._called()
        if self._mode == "thought":
            return pieces + self._release(len(self._held.rstrip()))
        return pieces + self._release(len(self._held), last=True)

    def _flow(self) -> list[Piece]:
        """Return what can be let go of the text that is held."""
        pieces: list[Piece] = []
        while self.stopped is None:
            self._start()
            needles = self._needles()
            found = [(self._held.index(needle), needle) for needle in needles if needle in self._held]
            if not found:
                return pieces + self._release(len(self._held) - self._doubtful(needles))
            at, needle = min(found)
            after, self._held = self._held[at + len(needle) :], self._held[:at]
            if self._mode == "text" and needle in self._stops:
                self.stopped = needle
                return pieces + self._release(at)
            pieces += self._mark(needle)
            self._held, self._at = after, self._at + len(needle)
        return pieces

    def _start(self) -> None:
        """Leave out white space where something begins, and see whether it is a call without a mark."""
        if self._fresh:
            spaces = len(self._held) - len(self._held.lstrip())
            self._held, self._at = self._held[spaces:], self._at + spaces
            self._fresh = not self._held
            if self._bare and self._mode == "text" and self._held.startswith("{"):
                self._mode, self._closer = "call", None

    def _needles(self) -> list[str]:
        """Return the strings that would change what follows."""
        if self._mode == "call":
            return [self._closer] if self._closer in self._spelled and self._closer else []
        if self._mode == "thought":
            return [CLOSE] if CLOSE in self._spelled else []
        return [*self._stops, *(name for name in self._spelled if name == OPEN or name in _CALLS)]

    def _doubtful(self, needles: Sequence[str]) -> int:
        """Return how many characters at the end are not certain yet."""
        if self._mode == "call":
            return len(self._held)
        longest = max(
            (
                size
                for needle in needles
                for size in range(1, len(needle))
                if self._held.endswith(needle[:size])
            ),
            default=0,
        )
        if self._mode == "thought" or self._tools:  # it is left out before a mark
            before = self._held[: len(self._held) - longest]
            longest += len(before) - len(before.rstrip())
        return longest

    def _release(self, count: int, *, last: bool = False) -> list[Piece]:
        text, self._held = self._held[:count], self._held[count:]
        self._at += len(text)
        notes = [note for start, note in self._notes if start < self._at or last]
        if not text and not (last and notes):
            return []
        self._notes = [] if last else [one for one in self._notes if one[0] >= self._at]
        kind: Literal["text", "thought"] = "thought" if self._mode == "thought" else "text"
        return [Piece(kind, text, tuple(notes))]

    def _mark(self, name: str) -> list[Piece]:
        """Return what a mark makes certain, and go on behind it. White space around marks is left out."""
        if self._mode == "call":
            return self._called() if name == self._closer else []
        pieces = self._release(len(self._held.rstrip()))
        self._held, self._at, self._notes = "", self._at + len(self._held), []
        if self._mode == "thought":
            if name == CLOSE:
                self._mode, self._fresh = "text", True
        elif name == OPEN:
            self._mode, self._fresh = "thought", True
        elif name in _CALLS:
            self._mode, self._closer = "call", _CALLS[name]
        return pieces

    def _called(self) -> list[Piece]:
        """Return the calls that the held text spells; the text itself when it spells none."""
        text, self._held, self._at = self._held.strip(), "", self._at + len(self._held)
        notes, self._notes = tuple(note for _, note in self._notes), []
        self._mode, self._fresh = "text", True
        found = calls(text)
        if not found:
            return [Piece("text", text, notes)] if text else []
        return [Piece("call", notes=() if n else notes, call=call) for n, call in enumerate(found)]


def calls(text: str) -> list[Call]:
    """Return the calls that a JSON text is: an object with name and arguments, or a list of such; or []."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return []
    found = [_call(one) for one in (value if isinstance(value, list) else [value])]
    return [call for call in found if call] if all(found) else []


def _call(value: Any) -> Call | None:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return Call(value["name"], arguments)
