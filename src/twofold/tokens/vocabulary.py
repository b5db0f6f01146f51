"""A vocabulary: everything there is to know about a tokenizer, as plain data.

Two kinds are known. "bpe" is byte-level byte-pair encoding (GPT-2; Sennrich et al. 2016, arXiv 1508.07909):
text is cut into words by a pattern named `pre`, each byte of a word is a token, and pairs of tokens are
joined in the order of `merges`. "spm" is SentencePiece's BPE (Kudo and Richardson 2018, arXiv 1808.06226):
no words, the pair whose union has the highest of the `scores` is joined first, and what is not in the
vocabulary falls back to bytes. Not covered: WordPiece, Unigram, and `pre` patterns outside `PRE`.
"""

import re
from dataclasses import dataclass

from twofold.base.errors import BadFileError

# Token types, with GGUF's numbers (which are SentencePiece's).
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6

# How byte-level BPE may cut text into words; the names are GGUF's. "default" belongs to SentencePiece,
# which does not.
PRE = ("qwen2", "llama-bpe", "gpt-2", "smollm", "starcoder")

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
SPACE = "▁"  # U+2581, how SentencePiece writes a space


def _stand_ins() -> tuple[str, ...]:
    """Return the character that stands for each byte in the tokens of byte-level BPE, as GPT-2 chose them.

    A printable byte of Latin-1 is itself; the 68 others follow from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


STAND_INS = _stand_ins()
_BYTE_OF = {character: byte for byte, character in enumerate(STAND_INS)}


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer's data; ids are indices into `tokens`. Lists are turned into tuples.

    `types`: one of the type numbers above for each token. `merges` (bpe): "left right", most urgent first.
    `scores` (spm): one for each token. `add_bos`: a prompt begins with `bos_id`. `add_space_prefix` (spm):
    text gets a space in front. `chat_template`: Jinja. Raises BadFileError when the parts do not fit each
    other.
    """

    kind: str
    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    unk_id: int | None = None
    add_bos: bool = False
    add_space_prefix: bool = False
    chat_template: str | None = None

    def __post_init__(self) -> None:
        for name in ("tokens", "types", "merges", "scores"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(self)

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes that a token stands for; of a control token, its name."""
        text, type_ = self.tokens[token], self.types[token]
        if self.kind == "spm":
            byte = _BYTE_TOKEN.fullmatch(text) if type_ == BYTE else None
            return bytes([int(byte[1], 16)]) if byte else text.replace(SPACE, " ").encode()
        if type_ != NORMAL:
            return text.encode()
        return b"".join(bytes([_BYTE_OF[c]]) if c in _BYTE_OF else c.encode() for c in text)

    def normal_ids(self) -> dict[str, int]:
        """Return text -> id of the tokens that ordinary text may become; of two alike the first counts."""
        ids: dict[str, int] = {}
        for token, (text, type_) in enumerate(zip(self.tokens, self.types, strict=True)):
            if type_ == NORMAL:
                ids.setdefault(text, token)
        return ids

    def byte_ids(self) -> dict[int, int]:
        """Return byte -> id of the tokens of one byte (those that a spm vocabulary falls back to)."""
        ids: dict[int, int] = {}
        wanted = BYTE if self.kind == "spm" else NORMAL
        for token, type_ in enumerate(self.types):
            if type_ == wanted and len(self.tokens[token]) in (1, 6):
                value = self.token_bytes(token)
                if len(value) == 1:
                    ids.setdefault(value[0], token)
        return ids

    def unknown(self) -> int | None:
        """Return the token of what no other token covers, None when there is none.

        One that is a control token does not count: text never becomes one.
        """
        return None if self.unk_id is None or self.types[self.unk_id] == CONTROL else self.unk_id

    def specials(self, controls: bool) -> dict[str, int]:
        """Return text -> id of the tokens that are found whole in a text: the user-defined ones always, the
        control tokens if `controls`. Spaces are spaces, also in a spm vocabulary."""
        ids: dict[str, int] = {}
        for token, (text, type_) in enumerate(zip(self.tokens, self.types, strict=True)):
            if text and (type_ == USER_DEFINED or (type_ == CONTROL and controls)):
                ids.setdefault(text.replace(SPACE, " ") if self.kind == "spm" else text, token)
        return ids


def _check(v: Vocabulary) -> None:
    """Raise BadFileError, saying what does not fit."""
    if v.kind not in ("bpe", "spm"):
        raise BadFileError(f"The tokenizer's kind {v.kind!r} is neither byte-level BPE nor SentencePiece.")
    if v.kind == "bpe" and v.pre not in PRE:
        raise BadFileError(f"The tokenizer splits words by {v.pre!r}; twofold knows {', '.join(PRE)}.")
    n = len(v.tokens)
    if not n:
        raise BadFileError("The tokenizer's list of tokens is empty.")
    if not all(isinstance(text, str) for text in (*v.tokens, *v.merges)):
        raise BadFileError("The tokenizer's tokens and merges must all be text.")
    try:
        "".join(v.tokens).encode()
    except UnicodeEncodeError:
        raise BadFileError("A token of the tokenizer is not valid Unicode: the file is damaged.") from None
    if len(v.types) != n or not all(type(t) is int and NORMAL <= t <= BYTE for t in v.types):
        raise BadFileError(f"The tokenizer has {n:,} tokens but not as many token types from 1 to 6.")
    if v.kind == "spm" and (
        len(v.scores) != n or not all(type(s) in (int, float) and s == s for s in v.scores)
    ):
        raise BadFileError(f"The tokenizer has {n:,} tokens but not as many scores.")
    for name in ("bos_id", "eos_id", "pad_id", "unk_id"):
        token = getattr(v, name)
        if token is not None and (type(token) is not int or not 0 <= token < n):
            raise BadFileError(f"The tokenizer's {name} is {token!r}, not an id below {n:,}.")
    if v.add_bos and v.bos_id is None:
        raise BadFileError("The tokenizer is to begin with a token, but does not say with which.")
    for text, type_ in zip(v.tokens, v.types, strict=True):
        if v.kind == "spm" and type_ == BYTE and not _BYTE_TOKEN.fullmatch(text):
            raise BadFileError(f"The byte token {text!r} of the tokenizer does not name a byte.")
    if v.chat_template is not None and not isinstance(v.chat_template, str):
        raise BadFileError("The chat template must be text.")
    if v.kind == "bpe":
        _check_merges(v)


def _check_merges(v: Vocabulary) -> None:
    known = set(v.tokens)
    for rank, merge in enumerate(v.merges):
        left, space, right = merge.partition(" ")
        if not (space and left in known and right in known and left + right in known):
            raise BadFileError(
                f"Merge {rank} of the tokenizer, {merge!r}, does not join two tokens to a third."
            )
