"""A process while it is run: its state, what is not worth a journal, and how it speaks."""

import json
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.kernel.case import answers
from twofold.kernel.flow import Label
from twofold.kernel.journal import Moved
from twofold.kernel.minds import Message, Mind, Said, Turn
from twofold.kernel.pages import Page
from twofold.kernel.policy import Grant
from twofold.kernel.process import Program, State, fold
from twofold.kernel.ram import Part
from twofold.tokens.speech import Call

if TYPE_CHECKING:
    from twofold.kernel.system import System

_WITHHELD = "The answer was not what this process had pledged, and is withheld."
_ANSWER = 512  # tokens that are kept free for an answer, where the window has room


class Running:
    """A process that a system runs. Its state moves on with the journal, whoever writes there."""

    def __init__(self, system: "System", pid: int, state: State) -> None:
        self.system, self.pid, self.state = system, pid, state
        self.begun: tuple[Any, Any] = None, None  # messages, and what was said to them before a preemption
        self.lock = threading.RLock()

    @property
    def owner(self) -> str:
        """Who runs it."""
        return self.system.journal.owner

    @cached_property
    def workspace(self) -> Path:
        """Its own folder; a fork's begins as what is in its parent's by now."""
        folders = self.system.folder / "processes"
        folder = folders / str(self.pid)
        if not folder.exists() and self.state.origin and (folders / str(self.state.origin[0])).exists():
            shutil.copytree(folders / str(self.state.origin[0]), folder, symlinks=True)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def grants(self) -> Sequence[Grant]:
        """What the user has granted to it, and for ever."""
        return [*self.state.grants, *self.system.grants]

    @property
    def closing(self) -> bool:
        """Whether the system ends."""
        return self.system.closing

    def cancelled(self) -> bool:
        """Whether it is to stop what it does."""
        return self.closing or bool(self.state.stopped or self.state.exit)

    def tokens(self, text: str) -> int:
        """Return how many tokens a text has."""
        return self.system.tokens(self.state.program.model, text)

    def recall(self, question: str) -> Sequence[Part]:
        """Return what has left its window and has to do with a question."""
        return self.system.pager.recall(self.state, question)

    def spawn(self, program: Program, call: str, label: Label) -> int:
        """Begin a child that answers a call, once, and return its pid."""
        return self.system.spawn(program, parent=self.pid, call=call, label=label)

    def write(self, kind: str, body: Mapping[str, Any], *, fact: bool = False, durable: bool = False) -> None:
        """Add an event. fact: it has happened, whatever else did; else Moved is raised if anything else
        did."""
        with self.lock:
            after = None if fact else self.state.seq
            try:
                event = self.system.journal.append(self.pid, kind, body, after=after, durable=durable)
            except Moved:
                self.refresh()
                raise
            if event.seq == self.state.seq + 1:
                self.state = fold(self.state, event)
                self.system.tell_watchers(event)
            else:
                self.refresh()

    def refresh(self) -> None:
        """Take in what others have written."""
        with self.lock:
            for event in self.system.journal.events(self.pid, self.state.seq):
                self.state = fold(self.state, event)
                self.system.tell_watchers(event)


def say(running: Running, tools: Sequence[Mapping[str, Any]]) -> None:
    """Let a process say what comes next, and journal it, unless it is preempted, stopped or killed."""
    system, state = running.system, running.state
    mind = system.mind(state.program.model)
    tools = fitting(mind, tools)
    room = mind.context - min(_ANSWER, mind.context // 4)
    view = system.pager.view(state, room, lambda messages: mind.count(messages, tools))
    if view.change:
        running.write("memory", view.change)
        state = running.state
    most = mind.context - mind.count(view.messages, tools)
    if (left := state.limit.less(state.spent).tokens) is not None:
        most = min(most, left)
    messages, begun = running.begun
    start = time.monotonic()
    turn = Turn(
        view.messages, tools, max_tokens=max(1, most), owner=str(running.pid),
        schema=state.program.schema,
        begun=begun if messages == view.messages else None,
        heard=lambda piece: system.tell_watchers((running.pid, piece)),
        cancelled=lambda: running.cancelled() or system.scheduler.preempted(running.pid),
    )  # fmt: skip
    said = mind.say(turn)
    running.begun = view.messages, said.begun
    if said.finish != "cancelled":
        words(running, said, state, view.pages, time.monotonic() - start)


def fitting(mind: Mind, tools: Sequence[Message]) -> Sequence[Message]:
    """Return the functions, or as many of the first as leave half of the window free. How shortly they are
    told to a small one is the mind's affair (brief.py)."""
    probe = [{"role": "user", "content": "?"}]
    count = len(tools)
    while count and mind.count(probe, tools[:count]) > mind.context // 2:
        count -= 1
    return tools[:count]


def words(running: Running, said: Said, state: State, shown: Sequence[str], seconds: float) -> None:
    """Journal what was said in a state."""
    calls = [
        {"id": f"c{state.seq}.{number}", "name": call.name, "arguments": _arguments(call)}
        for number, call in enumerate(said.calls, 1)
    ]
    message: dict[str, Any] = {"role": "assistant"}
    if said.thinking:
        message["reasoning_content"] = said.thinking
    if calls:
        message["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": {k: call[k] for k in ("name", "arguments")}}
            for call in calls
        ]
    spelled = said.text + said.thinking + (json.dumps(calls, ensure_ascii=False) if calls else "")
    text = said.text if calls or answers(said.text, state) else _WITHHELD
    page = Page(
        id=f"p{len(state.pages) + 1}", kind="assistant", text=text, label=state.label, source="process",
        tokens=running.tokens(spelled), message=message,
    )  # fmt: skip
    body = {
        "text": text, "calls": calls, "page": page.record(), "read": state.seq, "shown": list(shown),
        "tokens": {"made": said.made, "prompt": said.prompt, "cached": said.cached},
        "seconds": round(seconds, 6), "money": said.money, "finish": said.finish,
    }  # fmt: skip
    running.write("said", body, fact=True)


def _arguments(call: Call) -> dict[str, Any]:
    """Return the arguments of a call; what is no JSON object is refused by the function's schema."""
    try:
        value = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"": call.arguments}
