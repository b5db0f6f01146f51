"""Cutting documents into passages that can be found and cited: some paragraphs that stand together.

A passage ends at a heading, or when it is long enough; a paragraph that is too long is cut between sentences.
Every passage knows its page and its characters there, so that what is cited can be looked up: the text of a
passage is exactly that slice of the page. Headings above it are kept beside it: "Costs" says little without
"Bridge at the mill".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from twofold.devices._documents import Document

LONG = 1_200  # characters; about 200 words
_LONGEST = 1_800
# Lines up to one that is empty or a heading.
_BLOCK = re.compile(r"[^\n]*\S[^\n]*(?:\n(?!#{1,6}[^\S\n]+\S)[^\n]*\S[^\n]*)*")
_HEADING = re.compile(r"(#{1,6})[^\S\n]+(\S[^\n]*)")
_SENTENCE = re.compile(r"[.!?…]['\")\]]*\s+|\n|[。！？]")


@dataclass(frozen=True)
class Passage:
    """Characters `start` to `end` of a page (pages counted from 0), under headings."""

    page: int
    start: int
    end: int
    headings: tuple[str, ...]


def cut(document: Document) -> Iterator[Passage]:
    """Yield the passages of a document in order."""
    headings: dict[int, str] = {}
    for number, page in enumerate(document.pages):
        start = end = -1
        for block, above in _blocks(page):
            if above is not None:  # a heading: what comes next stands under it
                if start >= 0:
                    yield Passage(number, start, end, tuple(headings.values()))
                    start = -1
                level, title = above
                headings = {key: value for key, value in headings.items() if key < level}
                headings[level] = title[:120]
                continue
            if start >= 0 and block[1] - start > LONG:
                yield Passage(number, start, end, tuple(headings.values()))
                start = -1
            start, end = (block[0] if start < 0 else start), block[1]
        if start >= 0:
            yield Passage(number, start, end, tuple(headings.values()))


def _blocks(page: str) -> Iterator[tuple[tuple[int, int], tuple[int, str] | None]]:
    """Yield paragraphs as (start, end), those too long in pieces; and headings with their level and words."""
    for match in _BLOCK.finditer(page):
        start = match.start()
        heading = _HEADING.match(page, start, match.end())
        if heading:
            yield (start, heading.end()), (len(heading[1]), heading[2].strip("# "))
            start = heading.end()
            while start < match.end() and page[start].isspace():
                start += 1
        while match.end() - start > _LONGEST:
            stop = _stop(page, start)
            yield (start, stop), None
            start = stop
            while start < match.end() and page[start].isspace():
                start += 1
        if start < match.end():
            yield (start, match.end()), None


def _stop(page: str, start: int) -> int:
    """Return where to cut a long paragraph: after a sentence, else after a word."""
    ends = [match.end() for match in _SENTENCE.finditer(page, start + LONG // 3, start + LONG)]
    stop = ends[-1] if ends else page.rfind(" ", start + LONG // 2, start + LONG)
    stop = stop if stop > start else start + LONG
    return start + len(page[start:stop].rstrip())
