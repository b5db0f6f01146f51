"""SentencePiece's BPE: the fast path of `spm` vocabularies.

The rule stands in reference.py; this is the same with a heap instead of a search, and with words
remembered. No piece of the usual vocabularies has a space after another character, so no join ever crosses
from a word into the space before the next: such text is cut there and each word is encoded once. For a
vocabulary that does have such pieces the text stays whole. Not covered: SentencePiece's Unigram models.
"""

import functools
import heapq
import re

from twofold.tokens.vocabulary import Vocabulary

_WORD = re.compile(r" *[^ ]+| +")
_INSIDE = re.compile(r"[^ ] ")


class SentencePiece:
    """Encodes text without special tokens; spaces are spaces, not U+2581."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        ids = {text.replace("▁", " "): token for text, token in reversed(vocabulary.normal_ids().items())}
        self._pieces = {text: (-vocabulary.scores[token], token) for text, token in ids.items()}
        self._bytes = vocabulary.byte_ids()
        unknown = vocabulary.unknown()
        self._unknown = [] if unknown is None else [unknown]
        self._words = not any(_INSIDE.search(text) for text in ids)
        self._word = functools.lru_cache(maxsize=1 << 16)(self._join)

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`."""
        if not self._words:
            return list(self._join(text))
        return [token for word in _WORD.findall(text) for token in self._word(word)]

    def _join(self, text: str) -> tuple[int, ...]:
        """Return the ids of one piece of text: join the best pair of neighbours until no pair is a token."""
        parts: list[str] = list(text)
        after = [*range(1, len(parts)), -1]  # index of the next part, -1 at the end
        before = list(range(-1, len(parts) - 1))
        heap: list[tuple[float, int, int]] = []  # cost, index of the left part, length of the union

        def offer(left: int) -> None:
            right = after[left] if left >= 0 else -1
            if right >= 0 and (found := self._pieces.get(parts[left] + parts[right])):
                heapq.heappush(heap, (found[0], left, len(parts[left]) + len(parts[right])))

        for left in range(len(parts) - 1):
            offer(left)
        while heap:
            _, left, length = heapq.heappop(heap)
            right = after[left]
            # One of the two has joined another part since: it is empty, or the union has another length.
            if not parts[left] or right < 0 or len(parts[left]) + len(parts[right]) != length:
                continue
            parts[left] += parts[right]
            parts[right] = ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            offer(before[left])
            offer(left)
        return tuple(token for part in parts if part for token in self._ids(part))

    def _ids(self, part: str) -> list[int]:
        found = self._pieces.get(part)
        if found:
            return [found[1]]
        return [token for byte in part.encode() for token in self._byte(byte)]

    def _byte(self, byte: int) -> list[int]:
        return [self._bytes[byte]] if byte in self._bytes else self._unknown
