"""From messages to one text: chat templates, in a sandbox, and the guard that keeps a user's text a text.

A chat template is a Jinja program that travels with the model. It is foreign code, so it runs in Jinja's
immutable sandbox; its surroundings equal those of transformers (blocks trimmed, `tojson`,
`raise_exception`, `strftime_now`, loop controls, the `generation` tag), so that both render the same text.

The guard: special tokens are told from text by how they are spelled, and a message may spell one. Before
rendering, each character in a message (or tool) that could begin or end a control token is replaced by a
private-use character that occurs nowhere else; after rendering special tokens are cut out, and only then
are the characters put back. So a control token comes from the template or not at all. One exception: in an
assistant's message the tokens that a model itself writes (`specials.SPOKEN`) stay tokens. Not covered:
templates that build control tokens from parts of a message (a role is trusted: `<|` + role + `|>` is how
some templates work).
"""

import datetime
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from twofold.base.errors import BadFileError, UsageError
from twofold.tokens.specials import SPOKEN

Message = Mapping[str, Any]
_LARGEST = 1 << 20  # characters, items or exponent that an arithmetic expression of a template may make
_PRIVATE = range(0xE000, 0xF900)
_TRUSTED_KEYS = ("role", "type")  # templates compare these; they are words of the protocol, not text


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the model says; for rendering it is nothing."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own form

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """The sandbox, which also refuses products and powers that would eat the memory."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        lengths = [1 if isinstance(x, (int, float)) else len(x) for x in (left, right)]
        times = [x for x in (left, right) if isinstance(x, (int, float))]
        if operator == "**" and any(abs(x) > 64 for x in times):
            raise jinja2.exceptions.SecurityError("a power in the template is too large")
        if operator == "*" and len(times) == 1 and max(lengths) * times[0] > _LARGEST:
            raise jinja2.exceptions.SecurityError("a repetition in the template is too long")
        return super().call_binop(context, operator, left, right)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    if ensure_ascii:  # but not the guard's characters
        text = re.sub(r"[^\x00-\x7f\ue000-\uf8ff]+", lambda m: json.dumps(m[0])[1:-1], text)
    return text


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


@functools.lru_cache(maxsize=8)
def compile_template(source: str) -> jinja2.Template:
    """Return the template. Raises BadFileError when it is not valid Jinja."""
    sandbox = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    sandbox.filters["tojson"] = _tojson
    sandbox.globals["raise_exception"] = _raise_exception
    sandbox.globals["strftime_now"] = _strftime_now
    try:
        return sandbox.from_string(source)
    except (jinja2.exceptions.TemplateError, RecursionError, ValueError, OverflowError) as error:
        raise BadFileError(f"The model's chat template is not valid Jinja: {error}.") from None


def render(source: str, messages: Sequence[Message], names: Mapping[str, str], **values: Any) -> str:
    """Return the text of a conversation by the template `source`.

    `names`: bos_token and the like, as the template knows them. `values`: tools, add_generation_prompt and
    what else the template asks for. Raises UsageError when the template refuses the messages.
    """
    template = compile_template(source)
    check(messages)
    try:
        return template.render(messages=messages, **{**names, **values})
    except RecursionError:
        raise UsageError("The model's chat template does not end: it calls itself for ever.") from None
    except Exception as error:  # a template is foreign code: it may raise anything
        raise UsageError(f"The model's chat template cannot take these messages: {error}") from None


def check(messages: Sequence[Message]) -> None:
    """Raise UsageError unless each message has a role and text (or parts, or calls of tools)."""
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(f"Message {number} has no role: give each message a `role` and its `content`.")
        content = message.get("content")
        if content is not None and not isinstance(content, (str, list, tuple)):
            raise UsageError(f"The content of message {number} must be text, not {type(content).__name__}.")
        if content is None and not any(message.get(key) for key in ("tool_calls", "reasoning_content")):
            raise UsageError(f"Message {number} has no content.")


class Guard:
    """Hides from the tokenizer what is spelled like a control token in messages; see this module's head."""

    def __init__(self, controls: Iterable[str], template: str, values: Any) -> None:
        controls = [text for text in controls if text]
        edges = sorted({c for text in controls for c in (text[0], text[-1]) if not c.isalnum()})
        # A token that begins and ends like a word is hidden only where it is whole: templates compare words.
        words = [text for text in controls if text[0].isalnum() and text[-1].isalnum()]
        letters = sorted({text[0] for text in words})
        used = template + _all_text(values)
        free = (chr(code) for code in _PRIVATE if chr(code) not in used)
        self._hidden = dict(zip([*edges, *letters], free, strict=False))
        if len(self._hidden) < len(edges) + len(letters):
            raise UsageError("The messages use every private-use character, which leaves none for twofold.")
        options = [re.escape(c) for c in edges]
        options += [f"{re.escape(text[0])}(?={re.escape(text[1:])})" for text in sorted(words, key=len)]
        self._find = re.compile("|".join(options)) if options else None
        spoken = [text for text in SPOKEN if text in controls]
        self._spoken = re.compile("(" + "|".join(map(re.escape, spoken)) + ")") if spoken else None
        self._back = {ord(hidden): c for c, hidden in self._hidden.items()}

    def messages(self, messages: Sequence[Message]) -> list[Any]:
        """Return the messages with their text hidden."""
        return [
            {key: self._message_value(m, key, value) for key, value in m.items()}
            if isinstance(m, Mapping)
            else m
            for m in messages
        ]

    def _message_value(self, message: Message, key: str, value: Any) -> Any:
        if key in _TRUSTED_KEYS:
            return value
        if (
            message.get("role") == "assistant"
            and key == "content"
            and isinstance(value, str)
            and self._spoken
        ):
            parts = self._spoken.split(value)
            return "".join(part if n % 2 else self.hide(part) for n, part in enumerate(parts))
        return self.hide(value)

    def hide(self, value: Any) -> Any:
        """Return text, or what holds text, with the characters that make control tokens replaced."""
        if isinstance(value, str):
            return self._find.sub(lambda m: self._hidden[m[0]], value) if self._find else value
        if isinstance(value, Mapping):
            return {
                self.hide(key): item if key in _TRUSTED_KEYS and isinstance(item, str) else self.hide(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.hide(item) for item in value]
        return value

    def show(self, text: str) -> str:
        """Return `text` with the characters put back."""
        return text.translate(self._back)


def _all_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "".join(_all_text(item) for pair in value.items() for item in pair)
    if isinstance(value, (list, tuple)):
        return "".join(map(_all_text, value))
    return ""
