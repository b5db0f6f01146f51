"""The system: processes that run on minds and devices, by what the journal says of them.

A worker takes a process's turn, asks its state what comes next (process.step), does that, and journals it.
Whatever a user says, in this program or in another one, goes through the journal, too: a thread looks many
times a second for what others have written. A System runs the processes whose lease it holds: those that it
began or went on with.
"""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from twofold.base.errors import TwofoldError, UsageError
from twofold.kernel.device import Device, Returned
from twofold.kernel.flow import USER, Label, Ring
from twofold.kernel.journal import MACHINE, Event, Journal, Moved
from twofold.kernel.minds import Mind
from twofold.kernel.pager import Pager, Paging
from twofold.kernel.pages import Page
from twofold.kernel.policy import Grant, Policy
from twofold.kernel.process import Program, State, fold, folded, step
from twofold.kernel.running import Running, say
from twofold.kernel.scheduler import Scheduler
from twofold.kernel.syscalls import Syscalls
from twofold.tokens.speech import Piece

_NEWS_S = 0.05  # how often to look for what other programs have written
_KEPT = 1024  # states of processes that others run, or that are over
Watcher = Callable[[Event | tuple[int, Piece]], None]


class System:
    """Processes in a folder. It runs nothing until `start` or `run`; its methods may be called from any
    thread.

    minds: by a program's model; each is opened once. workers: how many processes have their turn at once.
    """

    def __init__(
        self,
        folder: Path,
        *,
        minds: Callable[[str], Mind],
        devices: Mapping[str, Device],
        policy: Policy,
        pager: Pager | None = None,
        workers: int = 8,
    ) -> None:
        self.folder, self.journal, self.policy = folder, Journal(folder), policy
        self.pager, self.closing = pager or Paging(), False
        self.calls = Syscalls(devices, policy)
        self.scheduler = Scheduler(workers)
        self._find_mind, self._minds, self.devices = minds, dict[str, Mind](), devices
        self._running: dict[int, Running] = {}
        self._others: dict[int, State] = {}
        self._watchers: list[Watcher] = []
        self._lock = threading.RLock()
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._grants, self._machine = list[Grant](), 0  # for ever, and up to which event of the machine

    # ---- what a user does

    def spawn(self, plan: Program, *, parent: int = 0, call: str = "", label: Label = USER) -> int:
        """Begin a process; return its pid. parent, call: which call of which process it is to answer."""
        pages = []
        if plan.instructions:
            who = Label(Ring.DEVELOPER, None, frozenset({plan.app or "instructions"}))
            pages.append(self._page(plan.model, 1, "instructions", plan.instructions, who))
        pages.append(self._page(plan.model, len(pages) + 1, "user", plan.message, label))
        body = {"program": plan.record(), "pages": [page.record() for page in pages], "parent": parent}
        event = self.journal.create("spawned", body, origin=f"{parent} {call}" if call else None)
        if self.journal.heads()[event.pid] == event.seq and event.pid not in self._running:
            self._adopt(event.pid, event)  # else it was there before a crash, and is gone on with
        return event.pid

    def fork(
        self, pid: int, at: int | None = None, said: str | None = None, answer: tuple[str, Any] | None = None
    ) -> int:
        """Begin a process that was this one up to an event, by default the last; return its pid.

        said: what the user says then. answer: (call, value): what that call returns in the fork; `at` is then
        by default the event before it returned. No event is copied. Raises UsageError.
        """
        if answer and at is None:
            at = self._before(pid, answer[0])
        state = self.state(pid) if at is None else self._at(pid, at)
        request = state.calls.get(answer[0]) if answer else None
        if answer and (request is None or request.returned):
            raise UsageError(f"Process {pid} waits for no call {answer[0]} at event {state.seq}.")
        event = self.journal.fork(pid, state.seq)
        running = self._adopt(event.pid, event, state)
        if answer and request:
            self.calls.give_back(running, request, Returned(value=answer[1]), USER)
        if said is not None:
            self.tell(event.pid, said)
        self._ready(running)
        return event.pid

    def tell(self, pid: int, text: str) -> None:
        """Say something to a process. Raises UsageError when it is over."""
        state = self._going(pid)
        page = self._page(state.program.model, len(state.pages) + 1, "user", text, USER)
        self.journal.append(pid, "told", {"page": page.record()}, durable=True)
        self._news(pid)

    def approve(self, pid: int, call: str, grant: Literal["once", "process", "always", "no"]) -> None:
        """Say whether a call may be made. Raises UsageError when the process does not ask that."""
        state = self._going(pid)
        if state.asks is None or state.asks.kind != "approval" or state.asks.call != call:
            raise UsageError(f"Process {pid} does not ask whether call {call} may be made.")
        if grant not in state.asks.options:
            raise UsageError(f"{grant!r} is none of {', '.join(state.asks.options)}.")
        if grant == "always":
            body = {"grant": state.calls[call].grant, "pid": pid, "call": call}
            self.journal.append(MACHINE, "granted", body, durable=True)
        self.journal.append(pid, "approved", {"call": call, "grant": grant}, after=state.seq, durable=True)
        self._news(pid)

    def answer(self, pid: int, text: str) -> None:
        """Answer a process's question. Raises UsageError when there is none, or the answer is no option."""
        state = self._going(pid)
        if state.asks is None or state.asks.kind == "approval":
            raise UsageError(f"Process {pid} asks no question.")
        if state.asks.options and text not in state.asks.options:
            raise UsageError(f"{text!r} is none of {', '.join(state.asks.options)}.")
        body = {"call": state.asks.call, "text": text}
        self.journal.append(pid, "answered", body, after=state.seq, durable=True)
        self._news(pid)

    def pause(self, pid: int, reason: str = "paused") -> None:
        """Stop a process, between tokens, until it is resumed."""
        if not self._going(pid).stopped:
            self.journal.append(pid, "stopped", {"reason": reason})
            self._news(pid)

    def resume(self, pid: int) -> bool:
        """Let a process go on; what had run out, it may spend once more. Returns whether it is run here: who
        runs it already goes on doing so. Raises BadFileError when its journal is not as it was written."""
        if wrong := self.journal.verify(pid):
            raise TwofoldError(f"The journal has been tampered with: {wrong[0]}")
        state = self._going(pid)
        if state.stopped:
            self.journal.append(pid, "resumed", {"refill": state.stopped.startswith("out of")})
        mine = self.journal.take(pid)
        if mine and pid not in self._running:
            self._mend(self._adopt(pid))
        self._news(pid)
        return mine

    def remember(self, pid: int, change: Mapping[str, Any]) -> None:
        """Change a process's memory as its user wants it (memory.py says how)."""
        self._going(pid)
        self.journal.append(pid, "memory", change, durable=True)
        self._news(pid)

    def kill(self, pid: int, reason: str = "killed") -> None:
        """End a process, between tokens, and its children."""
        self._going(pid)
        self.journal.append(pid, "exited", {"reason": reason})
        self._news(pid)

    # ---- what there is

    def processes(self) -> list[State]:
        """Return the states of all processes, oldest first."""
        return [self.state(pid) for pid in self.journal.heads() if pid != MACHINE]

    def state(self, pid: int) -> State:
        """Return the present state of a process. Raises UsageError when there is none of that number."""
        if running := self._running.get(pid):
            return running.state
        state = self._others.pop(pid, None)
        for event in self.journal.events(pid, state.seq if state else 0):
            state = fold(state, event)
        assert state is not None
        self._others[pid] = state
        while len(self._others) > _KEPT:
            self._others.pop(next(iter(self._others)))
        return state

    def status(self, state: State) -> str:
        """Return how a process is, in a few words: whether it runs depends on who lives."""
        if state.exit:
            return f"exited: {state.exit}"
        if state.stopped:
            return f"stopped: {state.stopped}"
        if state.asks or state.waits == "user":
            return "waiting for you"
        lives = self.journal.holder(state.pid) is not None
        call = state.open()
        if call and call.child:
            return f"waiting for process {call.child}"
        if call and call.owner and lives:
            return f"waiting for {call.name}"
        return "running" if lives else "ready, nobody runs it"

    def events(self, pid: int, since: int = 0) -> list[Event]:
        """Return the events of a process after `since`."""
        return self.journal.events(pid, since)

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Call back with each event of the processes run here, and (pid, piece) as they speak; return what
        ends that. It is called from workers, and must not wait."""
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    # ---- running

    def start(self) -> None:
        """Let workers run the processes in the background, until `close`."""
        if not self._threads:
            targets = [self._work] * self.scheduler.workers + [self._look]
            for target in targets:
                thread = threading.Thread(target=target, daemon=True)
                thread.start()
                self._threads.append(thread)  # only now: `close` joins these, also when this was interrupted

    def run(self, *, until: Callable[[], bool] | None = None, seconds: float | None = None) -> None:
        """Run until that is so; by default until no process of this system can go on by itself."""
        self.start()
        end = None if seconds is None else time.monotonic() + seconds
        while not (until() if until else self.scheduler.idle()):
            if self._failure:
                raise self._failure
            if end is not None and time.monotonic() > end:
                return
            self.scheduler.wait(0.05)

    def close(self) -> None:
        """Stop between tokens, wait for calls that are on their way, and let others go on with the rest."""
        self.closing = True
        self.scheduler.close()
        for thread in self._threads:
            thread.join()
        self.journal.close()
        for mind in self._minds.values():
            mind.close()

    def _work(self) -> None:
        while (pid := self.scheduler.take()) is not None:
            if running := self._running.get(pid):  # else it was killed meanwhile
                try:
                    self._step(running)
                except Moved:
                    pass
                except BaseException as error:
                    self._failed(running, error)
                self._ready(running)
            self.scheduler.leave(pid)

    def _failed(self, running: Running, error: BaseException) -> None:
        """Stop a process that cannot go on; if not even that can be journaled, the system ends."""
        said = str(error) if isinstance(error, TwofoldError) else f"a bug ({type(error).__name__}: {error})"
        try:
            running.write("stopped", {"reason": said}, fact=True)
        except Exception as worse:
            self._failure = worse
            self.scheduler.close()

    def _step(self, running: Running) -> None:
        """Do what a process does next."""
        state = running.state
        request = state.open()
        what = step(state, self.journal.owner, self.calls.repeatable)
        if what in ("say", "call") and (reason := _over(state)):
            running.write("stopped", {"reason": reason})
        elif what == "say":
            say(running, self.calls.offered(state))
        elif what == "finish":
            running.write("exited", {"reason": "done"})
            self._ended(running.state)
        elif request and what == "decide":
            self.calls.decide(running, request)
        elif request and what == "call":
            self.calls.perform(running, request)
            self._mend(running)
        elif request and what == "refuse":
            self.calls.refuse(running, request)
        elif request and what == "doubt":
            self.calls.doubt(running, request)

    def _look(self) -> None:
        """Look for what other programs have written."""
        seen = -1
        try:
            while not self.closing:
                time.sleep(_NEWS_S)
                if (changed := self.journal.changed()) == seen:
                    continue
                seen, heads = changed, self.journal.heads()
                for running in list(self._running.values()):
                    if heads[running.pid] != running.state.seq:
                        self._news(running.pid)
        except Exception as error:
            self._failure = error
            self.scheduler.close()

    # ---- parts

    @property
    def grants(self) -> list[Grant]:
        """What the user has granted for ever."""
        with self._lock:
            for event in self.journal.events(MACHINE, self._machine):
                self._machine = event.seq
                if event.kind == "granted":
                    self._grants.append(event.body["grant"])
            return self._grants

    def mind(self, name: str) -> Mind:
        """Return a mind by its name, opened when it is first asked for."""
        with self._lock:
            if name not in self._minds:
                self._minds[name] = self._find_mind(name)
            return self._minds[name]

    def tokens(self, model: str, text: str) -> int:
        """Return how many tokens a text has; about as many, where the mind is not open."""
        mind = self._minds.get(model)
        return mind.tokens(text) if mind else -(-len(text) // 4)

    def tell_watchers(self, news: Event | tuple[int, Piece]) -> None:
        """Tell those who watch."""
        for watcher in list(self._watchers):
            watcher(news)

    def _adopt(self, pid: int, event: Event | None = None, before: State | None = None) -> Running:
        """Run a process here whose lease is held; `event` is its newest, after the state `before`."""
        state = fold(before, event) if event else self.state(pid)
        running = self._running[pid] = Running(self, pid, state)
        if event:
            self.tell_watchers(event)
        if before is None:
            self._ready(running)
        return running

    def _ready(self, running: Running) -> None:
        if not self.closing and step(running.state, self.journal.owner, self.calls.repeatable):
            self.scheduler.ready(running.pid, running.state.program.priority)

    def _news(self, pid: int) -> None:
        """Take in what was written to a process from elsewhere."""
        if running := self._running.get(pid):
            over = running.state.exit
            running.refresh()
            self._ready(running)
            if running.state.exit and not over:
                self._ended(running.state)

    def _ended(self, state: State) -> None:
        """End the children of a process that is over, and give its parent what it has answered."""
        self._running.pop(state.pid, None)
        self.journal.drop(state.pid)
        for running in list(self._running.values()):
            if running.state.parent == state.pid and not running.state.exit:
                self.kill(running.pid, "its parent ended")
        if parent := self._running.get(state.parent):
            self._answered(parent, state)

    def _answered(self, parent: Running, child: State) -> None:
        with parent.lock:  # the child's worker and the parent's may both be here
            request = next((c for c in parent.state.calls.values() if c.child == child.pid), None)
            if request is None or request.returned:
                return
            self.calls.child_ended(parent, request, child)
        self._ready(parent)

    def _mend(self, running: Running) -> None:
        """Take what the children of a process have answered meanwhile, and go on with those that were
        left."""
        for request in list(running.state.calls.values()):
            if request.child and not request.returned:
                child = self.state(request.child)
                if child.exit:
                    self._answered(running, child)
                elif child.pid not in self._running:
                    self.resume(child.pid)

    def _going(self, pid: int) -> State:
        state = self.state(pid)
        if state.exit:
            raise UsageError(f"Process {pid} is over ({state.exit}): twofold fork {pid} goes on from it.")
        return state

    def _at(self, pid: int, seq: int) -> State:
        events = self.journal.events(pid, until=seq)
        if not events or events[-1].seq != seq:
            raise UsageError(f"Process {pid} has no event {seq}: twofold logs {pid} lists them.")
        return folded(events)

    def _before(self, pid: int, call: str) -> int:
        for event in self.journal.events(pid):
            if event.kind == "returned" and event.body["call"] == call:
                return event.seq - 1
        return self.state(pid).seq

    def _page(self, model: str, number: int, kind: str, text: str, label: Label) -> Page:
        role = "system" if kind == "instructions" else "user"
        return Page(
            id=f"p{number}", kind=kind, text=text, label=label, source=role, message={"role": role},
            tokens=self.tokens(model, text), pinned=kind == "instructions",
        )  # fmt: skip


def _over(state: State) -> str:
    """Return why a process may not go on, "" when it may."""
    if what := state.limit.less(state.spent).empty():
        return f"out of {what}"
    late = state.program.deadline is not None and time.time() >= state.program.deadline
    return "past its deadline" if late else ""
