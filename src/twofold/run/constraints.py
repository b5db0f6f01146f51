"""Constrained decoding: an answer that has the form that was asked for, because nothing else can be chosen.

At each step a grammar says which tokens may come; the others get no probability. llguidance does the work:
an Earley parser over lexemes, which walks the vocabulary as a tree of bytes (Willard and Louf 2023,
arXiv 2307.09702, for the idea; Geng et al. 2025, arXiv 2501.10868, for JSON schemas). What a grammar forces,
such as the names of fields, need not be asked of the model at all: `forced` gives it in one piece.

JSON is written as our chat template writes it, with ", " and ": " and no other white space, so that a small
model cannot lose itself in blanks; nor in digits, of which twenty in a row are enough. When half of the room
for an answer is used, thoughts end; when half of what is left for JSON is, whatever can be closed is closed:
strings, lists, objects; so that it is whole when the room ends, unless the schema demands more. Calls of
tools have the form of our template, which Qwen's and Hermes' templates share:

    <tool_call>
    {"name": NAME, "arguments": {…}}
    </tool_call>

A model that thinks may do so before it calls. Not covered: what llguidance refuses of JSON schema (`not`,
`if`, `uniqueItems` …), and other forms of calls.
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
_START = -1
_DIGITS = 20  # in a row, after which another is not chosen if anything else may come
_KEPT = 64  # grammars that stay compiled


class Constraint(Protocol):
    """What one answer must look like; it goes along with the answer token by token."""

    @property
    def done(self) -> bool:
        """Whether the answer is whole: nothing may follow but its end."""
        ...

    def mask(self, left: int | None = None) -> NDArray[np.bool_] | None:
        """Return which tokens may come next, [V]; None for all. left: tokens that there is still room for."""
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
        return self._constraint({"grammars": [_json_grammar(schema)]}, "JSON schema", _START)

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
        self,
        tools: Sequence[Mapping[str, Any]],
        choice: str = "auto",
        *,
        parallel: bool = True,
        answer: Mapping[str, Any] | None = None,
        thoughts: bool = True,
    ) -> Constraint:
        """Return the constraint on an answer that may call tools.

        tools: each with a name and `parameters`, a JSON schema; also below `function`. choice: "auto" (text,
        calls, or both), "required" (calls only), or the name of a tool. parallel: whether several calls may
        follow each other. answer: with "auto", the JSON schema of an answer that calls nothing. thoughts:
        whether it may think before.
        """
        inner = [tool.get("function", tool) for tool in tools]
        names = [str(tool.get("name", "")) for tool in inner]
        if not all(names) or not names:
            raise UsageError("Each tool needs a name, and there must be at least one to call.")
        if choice not in ("auto", "required"):
            if choice not in names:
                raise UsageError(f"The tool {choice!r} is not among those offered: {', '.join(names)}.")
            inner, parallel = [inner[names.index(choice)]], False
        grammar = _calls(self._tokenizer, inner, choice == "auto", parallel, answer, thoughts)
        opening = _tags(self._tokenizer, "tool_call")[2]
        all_json = answer is not None or (opening is None and choice != "auto")
        json_from = _START if all_json else opening
        return self._constraint(grammar, "list of tools", json_from)

    # ---- llguidance

    @functools.cached_property
    def _words(self) -> "_Words":
        return _Words(self._tokenizer)

    @functools.cached_property
    def _vocabulary(self) -> "llguidance.LLTokenizer":
        """The vocabulary as llguidance knows it."""
        import llguidance

        wrapper = llguidance.TokenizerWrapper(self._words)
        return llguidance.LLTokenizer(wrapper, eos_token=sorted(self._tokenizer.stop_ids))

    def _compile(self, grammar: str) -> "llguidance.LLMatcher":
        import llguidance

        matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise UsageError(_sentence(matcher.get_error()))
        return matcher

    def _constraint(self, grammar: Mapping[str, Any], kind: str, json_from: int | None = None) -> Constraint:
        try:
            text = json.dumps(grammar)
            with self._lock:
                matcher = self._matcher(text).deep_copy()
        except (UsageError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"This {kind} cannot be used: {error}") from None
        return _Matching(matcher, self._words, json_from)


class _Matching:
    """A grammar and how far an answer has come in it.

    json_from: the token after which the answer is JSON, _START when it begins so, None when it never is.
    """

    def __init__(self, matcher: "llguidance.LLMatcher", words: "_Words", json_from: int | None) -> None:
        self._matcher, self._words = matcher, words
        self._json_from, self._closes = json_from, json_from == _START
        self._bits = np.empty(-(-len(words.tokens) // 32), np.uint32)
        self._at, self._bytes = self._bits.ctypes.data, self._bits.nbytes
        self._digits = 0  # how many stand at the end
        self._room = 0  # for how many tokens there was room when what is now written began

    @property
    def done(self) -> bool:
        return bool(self._matcher.is_stopped())

    def mask(self, left: int | None = None) -> NDArray[np.bool_]:
        self._matcher.unsafe_compute_mask_ptr(self._at, self._bytes)
        if self._matcher.is_error():
            self._give_up()
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        mask: NDArray[np.bool_] = bits[: len(self._words.tokens)].view(np.bool_)
        if self._digits >= _DIGITS and (mask & ~self._words.digits).any():
            mask &= ~self._words.digits
        self._room = max(self._room, left or 0)
        if left is not None and left < self._room // 2:
            for closing in (self._words.thoughts_end, *(self._words.closing if self._closes else ())):
                if (mask & closing).any():
                    mask &= closing
                    break
        return mask

    def take(self, token: int) -> None:
        if not self.done and not self._matcher.consume_token(token):
            self._give_up()
        if token == self._json_from and not self._closes:
            self._closes, self._room = True, 0  # half of what is left now
        piece = self._words.tokens[token]
        ending = len(piece) - len(piece.rstrip(b"0123456789"))
        self._digits = ending + (self._digits if ending == len(piece) else 0)

    def forced(self) -> list[int]:
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def _give_up(self) -> None:
        raise TwofoldError(f"The grammar became too complex: {_sentence(self._matcher.get_error())}")


class _Words:
    """Our tokenizer in the form that llguidance reads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        vocabulary = tokenizer.vocabulary
        kinds = (CONTROL, UNKNOWN, UNUSED)  # these no text can make
        stops = tokenizer.stop_ids
        self.special_token_ids = [n for n, kind in enumerate(vocabulary.types) if kind in kinds]
        self.tokens = [tokenizer.token_bytes(n) for n in range(tokenizer.vocab_size)]
        self.eos_token_id = min(stops, default=0)
        self.bos_token_id = vocabulary.bos_id
        self.thoughts_end = np.zeros(len(self.tokens), bool)  # a token that no text contains, or none
        self.thoughts_end[[n for n in self.special_token_ids if vocabulary.tokens[n] == "</think>"]] = True
        ends = [n in stops or (bool(t) and not t.strip(b"}]")) for n, t in enumerate(self.tokens)]
        quotes = [t[:1] == b'"' and not t[1:].strip(b"}]") for t in self.tokens]
        # What closes something. Quotes come first: in a string a bracket closes nothing.
        self.closing: tuple[NDArray[np.bool_], ...] = np.array(quotes), np.array(ends)
        self.digits = np.array([token[:1].isdigit() for token in self.tokens])  # those that begin with one
        # Grammars force pieces in the middle of a text: no space goes in front of them.
        encode = Tokenizer(dataclasses.replace(vocabulary, add_space_prefix=False)).encode
        self._encode = functools.lru_cache(maxsize=1 << 14)(encode)

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
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]],
    text_too: bool,
    parallel: bool,
    answer: Mapping[str, Any] | None,
    thoughts: bool,
) -> dict[str, Any]:
    """Return the grammar of an answer with calls. A schema stands by itself, so that its references hold."""
    lines, schemas = [], []
    for n, tool in enumerate(tools):
        name = json.dumps(str(tool["name"]), ensure_ascii=False)
        begin = json.dumps(f'\n{{"name": {name}, "arguments": ', ensure_ascii=False)
        forms = _orders({"type": "object", **(tool.get("parameters") or {})})
        either = " | ".join(f"@arguments_{n}_{order}" for order in range(len(forms)))
        lines.append(f'call_{n}: {begin} ({either}) "}}\\n"')
        schemas += [{"name": f"arguments_{n}_{at}", **_json_grammar(form)} for at, form in enumerate(forms)]
    opening, closing, token = _tags(tokenizer, "tool_call")
    lines.append(f"call: {opening} ({' | '.join(f'call_{n}' for n in range(len(tools)))}) {closing}")
    lines.append('calls: call ("\\n" call)*' if parallel else "calls: call")
    before, after, thinks = _tags(tokenizer, "think")
    think = "think? " if thinks is not None and thoughts else ""
    if think:
        lines.append(f"think: {before} TEXT? {after} /\\n{{0,2}}/")
    if not text_too:
        lines.append(f"start: {think}calls")
    elif answer is not None:
        lines.append(f"start: {think}(calls | @answer)")
        schemas.append({"name": "answer", **_json_grammar(answer)})
    elif token is not None:  # no text contains the token that opens a call
        lines.append(f"start: {think}TEXT? calls?")
    else:
        lines += ["start: OTHER | calls", "OTHER: /[^<](.|\\n)*/"]
    lines.append("TEXT: /(.|\\n)+/")
    return {"grammars": [{"lark_grammar": "\n".join(lines)}, *schemas]}


def _orders(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a schema of arguments in the orders in which they may be written: a grammar keeps to one.

    As declared, or by the alphabet: where earlier calls are shown sorted, as our journal keeps them, a small
    model writes the next one so, too, and is lost when the first name that it would write is forbidden.
    """
    names = schema.get("properties")
    if not isinstance(names, Mapping) or list(names) == sorted(names):
        return [schema]
    return [schema, {**schema, "properties": dict(sorted(names.items()))}]


def _tags(tokenizer: Tokenizer, name: str) -> tuple[str, str, int | None]:
    """Return how a grammar spells <name> and </name>, and the first one's id if no text can make these."""
    spelled = (f"<{name}>", f"</{name}>")
    every, of_text = (tokenizer.vocabulary.specials(controls=controls) for controls in (True, False))
    if all(tag in every and tag not in of_text for tag in spelled):
        return f"<[{every[spelled[0]]}]>", f"<[{every[spelled[1]]}]>", every[spelled[0]]
    return json.dumps(spelled[0]), json.dumps(spelled[1]), None


def _sentence(text: str) -> str:
    """Return what a complaint says, without what it quotes."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["the reason is unknown"]
    return " ".join([lines[0], *(line for line in lines[1:] if line.startswith("error:"))])
