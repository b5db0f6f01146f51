"""The tokenizer to read: text -> ids in plain Python, and the oracle of the fast paths and of run.c.

1. Bytes that are not UTF-8: each longest beginning of a character that goes wrong becomes one U+FFFD
   (Unicode 3.9, "maximal subpart"; the WHATWG decoder and Python's errors="replace" do the same).
2. Special tokens are cut out, from left to right, the longest first where several begin. User-defined tokens
   (type 4) always; control tokens (type 3) only when `specials` is set: text alone never becomes one. What
   lies between is ordinary text, and only normal tokens (type 1) come of it.
3. Byte-level BPE ("bpe"): ordinary text is cut into words by the pattern of the family. Each word is a row of
   bytes; the neighbours whose merge comes first in the list are joined, the leftmost of equals, one pair at a
   time, until none is in the list. `llama-bpe`: a word that is a token is that token at once. A byte that
   is not in the vocabulary is left out.
4. SentencePiece ("spm"): U+2581 in a text (and in the text of a token) means a space, before step 2
   already. With `add_space_prefix` each stretch of ordinary text that begins the text or follows a special
   token gets a space in front; an empty text has no stretch. Its neighbours whose union has the highest
   score are joined, the leftmost of equals, until no union is a token. A character that is no token becomes
   its bytes' tokens (type 6), or the unknown token where there are none.

No BOS is added here. Not covered: speed (it searches all pairs for every join).
"""

import re
from itertools import pairwise
from typing import NamedTuple

from twofold.tokens.unicode import LETTER, NUMBER, OTHER, WHITESPACE, class_of
from twofold.tokens.vocabulary import SPACE, STAND_INS, Vocabulary

# The patterns speak of classes, so they run over a string with one letter for each character:
# L letter, N number, E \r or \n, B the space U+0020, S other white space, O anything else.
_LETTERS = {LETTER: "L", NUMBER: "N", WHITESPACE: "S", OTHER: "O"}
_EXACT = {"\r": "E", "\n": "E", " ": "B"}
_MODERN = r"[^ELN]?L+|N{1,%d}|B?O+E*|[BSE]*E+|[BSE]+(?![^BSE])|[BSE]+"
_WORDS = {
    "qwen2": re.compile(_MODERN % 1),
    "llama-bpe": re.compile(_MODERN % 3),
    "gpt-2": re.compile(r"B?L+|B?N+|B?O+|[BSE]+(?![^BSE])|[BSE]+"),
}
# English endings. With case folded, U+017F (long s) is an s.
_ENDING = re.compile(r"'(?:[sSſtTmMdD]|[rRvV][eE]|[lL][lL])")
_ENDING_GPT2 = re.compile(r"'(?:[stmd]|re|ve|ll)")


def encode(vocabulary: Vocabulary, text: str | bytes, specials: bool = False) -> list[int]:
    """Return the ids of `text`, by the rules above."""
    text = clean(text)
    if vocabulary.kind == "spm":
        text = text.replace(SPACE, " ")
    ids: list[int] = []
    for special, stretch in cut(text, _tables(vocabulary).specials[specials]):
        if special is not None:
            ids.append(special)
        elif vocabulary.kind == "spm":
            ids += _join_by_score(vocabulary, " " + stretch if vocabulary.add_space_prefix else stretch)
        else:
            for word in words(vocabulary.pre, stretch):
                ids += _join_by_rank(vocabulary, word)
    return ids


def clean(text: str | bytes) -> str:
    """Return `text` as Unicode characters only: damaged UTF-8 and lone surrogates become U+FFFD."""
    if isinstance(text, str):
        if not any("\ud800" <= character <= "\udfff" for character in text):
            return text
        text = text.encode("utf-8", "surrogatepass")
    return text.decode("utf-8", "replace")


def cut(text: str, specials: dict[str, int]) -> list[tuple[int | None, str]]:
    """Return the text in order as (id of a special token or None, its text); no stretch is empty."""
    longest_first = sorted(specials, key=len, reverse=True)
    parts: list[tuple[int | None, str]] = []
    start = at = 0
    while at < len(text):
        found = next((special for special in longest_first if text.startswith(special, at)), None)
        if found is None:
            at += 1
            continue
        if start < at:
            parts.append((None, text[start:at]))
        parts.append((specials[found], found))
        start = at = at + len(found)
    if start < len(text):
        parts.append((None, text[start:]))
    return parts


def words(pre: str, text: str) -> list[str]:
    """Return the words that ordinary text is cut into: joined they are `text`."""
    if pre in ("smollm", "starcoder"):  # each number is alone, what is between goes GPT-2's way
        return [word for part in _numbers_apart(text) for word in words("gpt-2", part)]
    pattern, ending = _WORDS[pre], _ENDING_GPT2 if pre == "gpt-2" else _ENDING
    classes = "".join(_EXACT.get(c) or _LETTERS[class_of(c)] for c in text)
    found, at = [], 0
    while at < len(text):
        match = ending.match(text, at) or pattern.match(classes, at)
        assert match, "the pattern's alternatives cover every class"
        found.append(text[at : match.end()])
        at = match.end()
    return found


def _numbers_apart(text: str) -> list[str]:
    parts = [""]
    for character in text:
        if class_of(character) == NUMBER:
            parts += [character, ""]
        else:
            parts[-1] += character
    return [part for part in parts if part]


def _join_by_rank(vocabulary: Vocabulary, word: str) -> list[int]:
    """Return the ids of one word by byte-pair encoding."""
    _, ids, ranks, _, _ = _tables(vocabulary)
    parts = [STAND_INS[byte] for byte in word.encode()]
    if vocabulary.pre == "llama-bpe" and "".join(parts) in ids:
        return [ids["".join(parts)]]
    parts = [part for part in parts if part in ids]
    while pairs := [(ranks[pair], at) for at, pair in enumerate(pairwise(parts)) if pair in ranks]:
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ids[part] for part in parts]


def _join_by_score(vocabulary: Vocabulary, text: str) -> list[int]:
    """Return the ids of a stretch of text by SentencePiece's BPE."""
    _, ids, _, bytes_, _ = _tables(vocabulary)
    parts = list(text)
    while True:
        unions = ((ids.get(a + b), at) for at, (a, b) in enumerate(pairwise(parts)))
        pairs = [(-vocabulary.scores[token], at) for token, at in unions if token is not None]
        if not pairs:
            break
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    found: list[int] = []
    for part in parts:
        options = (
            [ids.get(part)] if part in ids else [bytes_.get(b, vocabulary.unknown()) for b in part.encode()]
        )
        found += [token for token in options if token is not None]
    return found


class _Tables(NamedTuple):
    """What is looked up, made once for a vocabulary: in SentencePiece's texts spaces are spaces."""

    vocabulary: Vocabulary
    ids: dict[str, int]  # the normal tokens
    ranks: dict[tuple[str, str], int]  # (left, right) -> place in the list of merges
    bytes: dict[int, int]
    specials: dict[bool, dict[str, int]]  # with control tokens, or without


_last: _Tables | None = None


def _tables(vocabulary: Vocabulary) -> _Tables:
    """Return the tables of a vocabulary; those of the last one are kept."""
    global _last
    if _last is None or _last.vocabulary is not vocabulary:
        ids: dict[str, int] = {}
        for text, token in vocabulary.normal_ids().items():
            ids.setdefault(text.replace(SPACE, " ") if vocabulary.kind == "spm" else text, token)
        ranks: dict[tuple[str, str], int] = {}
        for rank, merge in enumerate(vocabulary.merges):
            left, _, right = merge.partition(" ")
            if left in ids and right in ids and left + right in ids:
                ranks.setdefault((left, right), rank)
        specials = {controls: vocabulary.specials(controls) for controls in (False, True)}
        _last = _Tables(vocabulary, ids, ranks, vocabulary.byte_ids(), specials)
    return _last
