"""Constrained decoding: an answer that has the form that was asked for, because nothing else can be chosen.

At each step a grammar says which tokens may come; the others get no probability. llguidance does the work:
an Earley parser over lexemes, which walks the vocabulary as a tree of bytes (Willard and Louf 2023,
arXiv 2307.09702, for the idea; Geng et al. 2025, arXiv 2501.10868, for JSON schemas). What a grammar forces,
such as the names of fields, need not be asked of the model at all: `forced` gives it in one piece.

JSON is written as our chat template writes it, with ", " and ": " and no other white space, so that a small
model cannot lose itself in blanks. Calls of tools have the form of that template (chatml.jinja), which
Qwen's and Hermes' templates share:

    <tool_call>
    {"name": NAME, "arguments": {…}}
    </tool_call>

A model that thinks may do so before it calls. Not covered: what llguidance refuses of JSON schema (`not`,
`if`, `uniqueItems` …), other forms of calls, and a bound on what a schema leaves open: a string may go on
until there is no more room.
"""

import dataclasses
import functools
import json
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import TwofoldError, UsageError
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.vocabulary import CONTROL, UNKNOWN, UNUSED

if TYPE_CHECKING:
    import llguidance

_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
# What llguidance knows.
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
_KEPT = 64  # grammars that stay compiled


class Constraint(Protocol):
    """What one answer must look like; it goes along with the answer token by token."""

    @property
    def done(self) -> bool:
        """Whether the answer is whole: nothing may follow but its end."""
        ...

    def mask(self) -> NDArray[np.bool_] | None:
        """Return which tokens may come next, [V]; None for all."""
        ...

    def take(self, token: int) -> None:
        """Note that this token came."""
        ...

    def forced(self) -> Sequence[int]:
        """Return tokens that must come next, in order, as far as that is known; they are not yet taken."""
        ...


class Grammars:
    """Makes constraints for one tokenizer. May be used from several threads; a constraint from one.

    Each method raises UsageError when what it is given cannot be made a grammar.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._matcher = functools.lru_cache(maxsize=_KEPT)(self._compile)

    def json_schema(self, schema: Mapping[str, Any] | bool) -> Constraint:
        """Return the constraint that an answer is JSON and valid under a schema (draft 2020-12)."""
        return self._constraint({"grammars": [_json_grammar(schema)]}, "JSON schema")

    def json(self) -> Constraint:
        """Return the constraint that an answer is a JSON object."""
        return self.json_schema({"type": "object"})

    def regex(self, text: str) -> Constraint:
        """Return the constraint that a whole answer matches a regular expression (Rust's syntax)."""
        import llguidance

        lark = f"start: /{llguidance.regex_to_lark(text)}/"
        return self._constraint({"grammars": [{"lark_grammar": lark}]}, "regular expression")

    def lark(self, text: str) -> Constraint:
        """Return the constraint that an answer follows a grammar in llguidance's variant of Lark."""
        return self._constraint({"grammars": [{"lark_grammar": text}]}, "grammar")

    def tool_calls(
        self, tools: Sequence[Mapping[str, Any]], choice: str = "auto", *, parallel: bool = True
    ) -> Constraint:
        """Return the constraint on an answer that may call tools.

        tools: each with a name and `parameters`, a JSON schema; also below `function`. choice: "auto" (text,
        calls, or both), "required" (calls only), or the name of a tool. parallel: whether several calls may
        follow each other.
        """
        inner = [tool.get("function", tool) for tool in tools]
        names = [str(tool.get("name", "")) for tool in inner]
        if not all(names) or not names:
            raise UsageError("Each tool needs a name, and there must be at least one to call.")
        if choice not in ("auto", "required"):
            if choice not in names:
                raise UsageError(f"The tool {choice!r} is not among those offered: {', '.join(names)}.")
            inner, parallel = [inner[names.index(choice)]], False
        return self._constraint(_calls(self._tokenizer, inner, choice == "auto", parallel), "list of tools")

    # ---- llguidance

    @functools.cached_property
    def _vocabulary(self) -> "llguidance.LLTokenizer":
        """The vocabulary as llguidance knows it."""
        import llguidance

        return llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(_Words(self._tokenizer)), eos_token=sorted(self._tokenizer.stop_ids)
        )

    def _compile(self, grammar: str) -> "llguidance.LLMatcher":
        import llguidance

        matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(_sentence(matcher.get_error()))
        return matcher

    def _constraint(self, grammar: Mapping[str, Any], kind: str) -> Constraint:
        try:
            text = json.dumps(grammar)
            with self._lock:
                matcher = self._matcher(text).deep_copy()
        except (UsageError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"This {kind} cannot be used: {error}") from None
        return _Matching(matcher, self._vocabulary.vocab_size, self._tokenizer.stop_ids)


class _Matching:
    """A grammar and how far an answer has come in it."""

    def __init__(self, matcher: "llguidance.LLMatcher", vocab_size: int, stop_ids: frozenset[int]) -> None:
        self._matcher, self._stop_ids = matcher, stop_ids
        self._words = np.empty(-(-vocab_size // 32), np.uint32)
        self._vocab_size = vocab_size

    @property
    def done(self) -> bool:
        return self._matcher.is_stopped()

    def mask(self) -> NDArray[np.bool_]:
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        self._check()
        bits = np.unpackbits(self._words.view(np.uint8), count=self._vocab_size, bitorder="little")
        return bits.view(np.bool_)

    def take(self, token: int) -> None:
        if not self.done:
            self._matcher.consume_token(token)
            self._check()

    def forced(self) -> list[int]:
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def _check(self) -> None:
        if self._matcher.is_error():
            raise TwofoldError(f"The grammar became too complex: {_sentence(self._matcher.get_error())}")


class _Words:
    """Our tokenizer in the form that llguidance reads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.vocabulary
        kinds = (CONTROL, UNKNOWN, UNUSED)  # these no text can make
        self.special_token_ids = [n for n, kind in enumerate(vocabulary.types) if kind in kinds]
        self.tokens = [tokenizer.token_bytes(n) for n in range(tokenizer.vocab_size)]
        self.eos_token_id = min(tokenizer.stop_ids, default=0)
        self.bos_token_id = vocabulary.bos_id
        # Grammars force pieces in the middle of a text: no space goes in front of them.
        self._encode = Tokenizer(dataclasses.replace(vocabulary, add_space_prefix=False)).encode

    def __call__(self, text: str | bytes) -> list[int]:
        return self._encode(text)


# ---- grammars


def _json_grammar(schema: Any) -> dict[str, Any]:
    if isinstance(schema, Mapping):
        schema = {**_known_formats(schema), "x-guidance": _STYLE}
    elif not isinstance(schema, bool):
        raise UsageError(f"A JSON schema is an object, not {type(schema).__name__}.")
    return {"json_schema": schema}


def _known_formats(schema: Any) -> Any:
    """Return a schema without the formats that nobody knows: such a format is a remark and binds nothing."""
    if isinstance(schema, Mapping):
        unknown = isinstance(name := schema.get("format"), str) and name not in _FORMATS
        return {k: _known_formats(v) for k, v in schema.items() if not (unknown and k == "format")}
    return [_known_formats(item) for item in schema] if isinstance(schema, list) else schema


def _calls(
    tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]], text_too: bool, parallel: bool
) -> dict[str, Any]:
    """Return the grammar of an answer with calls. A schema stands by itself, so that its references hold."""
    lines, schemas = [], []
    for n, tool in enumerate(tools):
        name = json.dumps(str(tool["name"]), ensure_ascii=False)
        begin = json.dumps(f'\n{{"name": {name}, "arguments": ', ensure_ascii=False)
        lines.append(f'call_{n}: {begin} @arguments_{n} "}}\\n"')
        schema = {"type": "object", **(tool.get("parameters") or {})}
        schemas.append({"name": f"arguments_{n}", **_json_grammar(schema)})
    opening, closing, tokens = _tags(tokenizer, "tool_call")
    lines.append(f"call: {opening} ({' | '.join(f'call_{n}' for n in range(len(tools)))}) {closing}")
    lines.append('calls: call ("\\n" call)*' if parallel else "calls: call")
    before, after, thinks = _tags(tokenizer, "think")
    think = "think? " if thinks else ""
    if thinks:
        lines.append(f"think: {before} TEXT? {after} /\\n*/")
    if not text_too:
        lines.append(f"start: {think}calls")
    elif tokens:  # no text contains the token that opens a call
        lines.append(f"start: {think}TEXT? calls?")
    else:
        lines += ["start: OTHER | calls", "OTHER: /[^<](.|\\n)*/"]
    lines.append("TEXT: /(.|\\n)+/")
    return {"grammars": [{"lark_grammar": "\n".join(lines)}, *schemas]}


def _tags(tokenizer: Tokenizer, name: str) -> tuple[str, str, bool]:
    """Return how a grammar spells <name> and </name>, and whether they are tokens that no text can make."""
    spelled = (f"<{name}>", f"</{name}>")
    every, of_text = (tokenizer.vocabulary.specials(controls=controls) for controls in (True, False))
    if all(tag in every and tag not in of_text for tag in spelled):
        return f"<[{every[spelled[0]]}]>", f"<[{every[spelled[1]]}]>", True
    return json.dumps(spelled[0]), json.dumps(spelled[1]), False


def _sentence(text: str) -> str:
    """Return what a complaint says, without what it quotes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["the reason is unknown"]
    return " ".join([lines[0], *(line for line in lines[1:] if line.startswith("error:"))])
