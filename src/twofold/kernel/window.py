"""The window: what a model reads, made of the pages that are in RAM and of stubs for those that are not.

A turn begins with what the user said. In it come rounds of calls with their results, and the answer. Chat
templates and other servers ask for that order (a result needs its call, a user and an assistant take turns),
so a turn that has anything left in the window keeps its frame, with stubs for what is out; one that has
nothing left is a line in a list, which stands below the instructions. Parts that came back stand beside the
page that called for them, where what is before them has not changed and need not be read anew; but what
strangers had a part in comes back to its own place, as the user's words and instructions must not quote it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twofold.kernel.flow import Ring
from twofold.kernel.pages import Page
from twofold.kernel.ram import Part, Ram, parts

Message = dict[str, Any]
Stub = Callable[[Part], str]
# What leaves the window together: what was said in a turn, a round of calls, or a part of a long page.
Unit = tuple[Part, ...]


@dataclass
class Round:
    """Pages that belong together: in a turn the first holds what was said, the others calls and results."""

    turn: int
    pages: list[Page] = field(default_factory=list)

    def units(self, ram: Ram) -> Iterator[Unit]:
        """Yield its units; parts that came back stand elsewhere and are units of their own."""
        small = []
        for page in self.pages:
            found = parts(page)
            for part in found:
                if part.id in ram.back or len(found) > 1:
                    yield (part,)
                else:
                    small.append(part)
        if small:
            yield tuple(small)


def rounds(pages: Iterable[Page]) -> list[list[Round]]:
    """Return the turns of a process, each as its rounds. What comes before the first user is turn -1."""
    turns: list[list[Round]] = [[Round(-1)]]
    for page in pages:
        if page.kind == "user":
            turns.append([Round(len(turns) - 1)])
        turn = turns[-1]
        calls = bool(page.message and page.message.get("tool_calls"))
        if calls:
            turn.append(Round(turn[0].turn))
        (turn[-1] if calls or page.kind == "result" else turn[0]).pages.append(page)
    return turns


def render(
    pages: Sequence[Page], ram: Ram, stub: Stub, *, room: int, size: Callable[[str], int]
) -> list[Message]:
    """Return the messages of the window. room: tokens for the list of what is out; size: tokens of a text."""
    beside = _beside(pages, ram)
    messages: dict[str, Message] = {}
    gone: list[Round] = []
    for turn in rounds(pages):
        alive = [any(_stands(page, ram, beside) for page in one.pages) for one in turn]
        for one, lives in zip(turn, alive, strict=True):
            if lives or (one is turn[0] and any(alive)):
                messages |= {page.id: _message(page, ram, beside, stub) for page in one.pages}
            elif one.pages:
                gone.append(one)
    found = [messages[page.id] for page in pages if page.id in messages]
    listed = _listed(gone, stub, room, size)
    return _below_the_instructions(found, listed) if listed else found


def _beside(pages: Sequence[Page], ram: Ram) -> Mapping[str, list[Part]]:
    """Return what came back, by the page that it stands beside."""
    found: dict[str, list[Part]] = defaultdict(list)
    if ram.back:
        there = {page.id for page in pages}
        for page in pages:
            for part in parts(page):
                if part.id in ram.back:
                    beside = ram.back[part.id]
                    found[beside if beside in there else pages[-1].id].append(part)
    return found


def _stands(page: Page, ram: Ram, beside: Mapping[str, list[Part]]) -> bool:
    """Return whether anything of a page's message is in the window."""
    return page.id in beside or any(p.id not in ram.out and p.id not in ram.back for p in parts(page))


def _message(page: Page, ram: Ram, beside: Mapping[str, list[Part]], stub: Stub) -> Message:
    pieces, left_out = [], []
    for part in parts(page):
        if part.id in ram.out or part.id in ram.back:
            left_out.append(part)
        else:
            pieces += [_left(left_out, stub), part.text]
            left_out = []
    text = "".join([*pieces, _left(left_out, stub)])
    if page.id in beside:
        came = [(part.page.id, part.page.kind, part.text.strip()) for part in beside[page.id]]
        text = below_what_came_back(came, text)
    return {**page.shown(), "content": text}


def below_what_came_back(came: Sequence[tuple[str, str, str]], text: str) -> str:
    """Return a message's text below what came back: (page, kind, text) of each."""
    told = "\n".join(f"({id}, {kind}) {said}" for id, kind, said in came)
    return f"[From earlier:\n{told}]\n\n{text}"


def _left(out: Sequence[Part], stub: Stub) -> str:
    """Return what stands in place of parts of one page that follow each other."""
    if not out or not out[0].text:
        return ""
    if len(out) == 1:
        return f"[{out[0].id}, not shown here: {stub(out[0])}]"
    characters = sum(len(part.text) for part in out)
    return f"[{out[0].id} to {out[-1].id}, not shown here: {characters:,} characters; {stub(out[0])}]"


def _listed(gone: Sequence[Round], stub: Stub, room: int, size: Callable[[str], int]) -> str:
    """Return the list of what is out altogether, newest last; what has no room in it is a number only."""
    lines: list[str] = []
    left = room - 24
    for number in range(len(gone) - 1, -1, -1):
        line = "\n".join(
            f"{page.id} {page.kind}: {_named(page, stub)}" for page in gone[number].pages if page.text
        )
        left -= size(line) + 1
        if left < 0:
            first, last = gone[0].pages[0].id, gone[number].pages[-1].id
            count = sum(len(one.pages) for one in gone[: number + 1])
            lines.append(f"{first} to {last}: {count:,} messages" if count > 1 else f"{first}: a message")
            break
        lines.append(line)
    if not lines or room <= 0:
        return ""
    return said_earlier(lines[::-1])


def said_earlier(lines: Sequence[str]) -> str:
    """Return the list of what is out of the window, a line each."""
    told = "\n".join(lines)
    return f"[Said earlier, not shown here, kept, and brought back when asked for:\n{told}]"


def _named(page: Page, stub: Stub) -> str:
    """Return what the list says of a page. It may stand among the instructions, so what strangers had a part
    in is not quoted there."""
    if page.hidden:
        return f"{len(page.text):,} characters, hidden"
    if page.label.ring is Ring.TOOL:
        return f"{len(page.text):,} characters from {', '.join(sorted(page.label.sources)) or page.source}"
    return stub(parts(page)[0])


def _below_the_instructions(messages: list[Message], listed: str) -> list[Message]:
    """Return the messages with the list where it may stand: at the end of the instructions, or else at the
    beginning of what the user said first, since not every template knows instructions."""
    for number, message in enumerate(messages):
        if message["role"] in ("system", "developer", "user"):
            first = message["role"] != "user"
            texts = (message["content"], listed) if first else (listed, message["content"])
            changed = {**message, "content": "\n\n".join(texts)}
            return [*messages[:number], changed, *messages[number + 1 :]]
    return [{"role": "user", "content": listed}, *messages]
