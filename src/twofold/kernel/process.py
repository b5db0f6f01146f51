"""A process: what its events add up to. `fold` is the only place that says what an event means.

A State is never changed, only followed by the next one: so a fork is a reference, a watcher needs no lock,
and what was true at any event can be had again. What the process does next is said by its state (`step`), and
by nothing else; that is why it can be resumed after any crash, and replayed.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from twofold.base.errors import BadFileError
from twofold.kernel.flow import Label, join
from twofold.kernel.journal import Event
from twofold.kernel.pages import NAMES, Page, filled
from twofold.kernel.program import Budget, Program, replace

__all__ = ["Budget", "Program", "Question", "Request", "State", "Step", "fold", "means", "step"]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a process waits for the user to say. kind: "approval" of a call; "doubt": whether a call that was
    begun and never returned is to be made again; "question": of a device."""

    call: str
    kind: Literal["approval", "doubt", "question"]
    text: str
    options: tuple[str, ...] = ()
    shows: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """A system call on its way. inside: the call that makes it, if it is nested. verdict: the policy's, then
    the user's. begun: it was begun at least once; owner: by whom last, "" once it was left in good order.
    answers: what the user answered to its questions. child: the process it waits for; heard: what those
    before it answered, {text, label}. value: what it returned."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    inside: str = ""
    verdict: str = ""
    begun: bool = False
    owner: str = ""
    answers: tuple[str, ...] = ()
    child: int = 0
    heard: tuple[Mapping[str, Any], ...] = ()
    returned: bool = False
    value: Any = None
    error: str | None = None
    reason: str = ""
    grant: Mapping[str, Any] = field(default_factory=dict)
    counts: tuple[str, ...] = ()
    label: Label | None = None


@dataclass(frozen=True, kw_only=True)
class State:
    """A process at one moment.

    begun: when; at: of the last event. parent: whose child it is; origin: (pid, event) it was forked from.
    label: of all that it was ever shown. asks: what it waits for the user to say. turn: it is to speak next.
    answer: its last words. own: what other parts of the kernel remember, by their name; replaced, not
    changed.
    """

    pid: int
    seq: int
    program: Program
    begun: float
    at: float
    parent: int = 0
    origin: tuple[int, int] | None = None
    pages: tuple[Page, ...] = ()
    label: Label
    calls: Mapping[str, Request] = field(default_factory=dict)
    made: Mapping[str, int] = field(default_factory=dict)  # calls that were begun, by name
    grants: tuple[Mapping[str, Any], ...] = ()
    spent: Budget = field(default_factory=Budget)
    limit: Budget  # more than its program's, once what had run out was given again
    asks: Question | None = None
    told: int = 0  # the event with the user's last words
    turn: bool = True
    stopped: str = ""
    exit: str = ""
    answer: str = ""
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def waits(self) -> Literal["", "user", "child", "tool"]:
        """What it waits for; "" when it can go on."""
        call = self.open()
        if self.asks:
            return "user"
        if call and call.child:
            return "child"
        if call and call.owner:
            return "tool"
        return "user" if self.program.stays and not self.turn and not call else ""

    def open(self) -> Request | None:
        """Return the system call to go on with."""
        return next((c for c in self.calls.values() if not c.returned and not c.inside), None)

    def page(self, id: str) -> Page | None:
        """Return a page by its id."""
        return next((page for page in reversed(self.pages) if page.id == id), None)

    def parts(self, id: str) -> list[Page]:
        """Return the pages of what is hidden inside of another page."""
        return [page for page in self.pages if page.inside == id]

    def value(self, id: str) -> Page | None:
        """Return what a name stands for where it is passed on: all of it, with what is hidden inside."""
        page = self.page(id)
        return filled(page, self.parts(id)) if page and page.kind == "result" else None


# ---- what events mean

_MEANINGS: dict[str, Callable[[State, Event], State]] = {}


def means(kind: str) -> Callable[[Callable[[State, Event], State]], Callable[[State, Event], State]]:
    """Say by a function what an event of this kind makes of a state."""

    def enter(function: Callable[[State, Event], State]) -> Callable[[State, Event], State]:
        _MEANINGS[kind] = function
        return function

    return enter


def fold(state: State | None, event: Event) -> State:
    """Return the state after an event; the first of a process is `spawned`, of a fork its parent's state."""
    if state is None:
        if event.kind != "spawned":
            raise BadFileError(f"Process {event.pid} begins with {event.kind!r}: its journal is damaged.")
        state = _spawned(event)
    else:
        meaning = _MEANINGS.get(event.kind)
        if meaning is None:
            raise BadFileError(f"Process {event.pid}, event {event.seq}: {event.kind!r} is not known here.")
        state = meaning(state, event)
    return replace(state, pid=event.pid, seq=event.seq, at=event.at)


def folded(events: Iterable[Event]) -> State:
    """Return the state after all events of a process."""
    state = None
    for event in events:
        state = fold(state, event)
    assert state is not None
    return state


def _spawned(event: Event) -> State:
    body = event.body
    state = State(
        pid=event.pid, seq=event.seq, program=Program.of(body["program"]), begun=event.at, at=event.at,
        parent=body.get("parent", 0), label=join(()), limit=Budget(**body["program"]["budget"]),
    )  # fmt: skip
    for page in body["pages"]:
        state = with_page(state, Page.of(page))
    return state


def with_page(state: State, page: Page) -> State:
    """Return the state with one page more; what is shown joins the process's label."""
    label = state.label if page.hidden else state.label.join(page.label)
    return replace(state, pages=(*state.pages, page), label=label)


def with_call(state: State, id: str, **changes: Any) -> State:
    """Return the state with one of its calls changed."""
    return replace(state, calls={**state.calls, id: replace(state.calls[id], **changes)})


@means("forked")
def _forked(state: State, event: Event) -> State:
    """A fork is not stopped, nor over, if its parent was; and it is nobody's child.

    What its parent was allowed once, has begun, or waits for, is the parent's: the fork is allowed anew, and
    what it cannot know the end of is a doubt.
    """
    calls = {}
    for id, call in state.calls.items():
        verdict = "" if call.verdict == "allow" and not call.begun else call.verdict
        owner = f"process {event.body['parent']}" if call.owner else ""
        mine = replace(call, child=0, owner=owner, verdict=verdict)
        calls[id] = call if call.returned else mine
    origin = event.body["parent"], event.body["at"]
    return replace(state, stopped="", exit="", parent=0, origin=origin, calls=calls)


@means("told")
def _told(state: State, event: Event) -> State:
    state = with_page(state, Page.of(event.body["page"]))
    return replace(state, turn=not state.open(), told=event.seq, answer="")


def quoted(text: str, state: State) -> tuple[str, Label]:
    """Return what a process said with values in the place of their names, and whose it is then."""
    named = {name: page for name in NAMES.findall(text) if (page := state.value(name))}
    label = join([state.label, *(page.label for page in named.values())])
    return NAMES.sub(lambda found: named[found[1]].text if found[1] in named else found[0], text), label


@means("said")
def _said(state: State, event: Event) -> State:
    body = event.body
    calls = {call["id"]: Request(**call) for call in body["calls"]}
    made, read = body["tokens"]["made"], body["tokens"]["prompt"] - body["tokens"]["cached"]
    spent = state.spent.add(tokens=made + read, seconds=body["seconds"], money=body["money"])
    unheard = state.told > body["read"]  # the user said something in between
    state = replace(with_page(state, Page.of(body["page"])), calls=calls, spent=spent)
    return replace(state, turn=not calls and unheard, answer="" if calls or unheard else body["text"])


@means("decided")
def _decided(state: State, event: Event) -> State:
    body = event.body
    if body["call"] not in state.calls:  # of a call that another makes
        request = Request(
            id=body["call"], name=body["name"], arguments=body["arguments"], inside=body["inside"]
        )
        state = replace(state, calls={**state.calls, request.id: request})
    state = with_call(
        state, body["call"], verdict=body["verdict"], reason=body["reason"], grant=body["grant"],
        counts=tuple(body["counts"]),
    )  # fmt: skip
    if body["verdict"] != "ask":
        return state
    state = _left(state, body["inside"])
    asks = Question(
        call=body["call"], kind="approval", text=body["reason"], shows=body["shows"],
        options=("once", "process", "always", "no"),
    )  # fmt: skip
    return replace(state, asks=asks)


def _left(state: State, id: str) -> State:
    """Return the state once a call, and those that make it, have been left to be made again later."""
    while id:
        state = with_call(state, id, owner="")
        id = state.calls[id].inside
    return state


@means("approved")
def _approved(state: State, event: Event) -> State:
    id, grant = event.body["call"], event.body["grant"]
    call = state.calls[id]
    if grant == "process":
        state = replace(state, grants=(*state.grants, call.grant))
    return replace(with_call(state, id, verdict="deny" if grant == "no" else "allow"), asks=None)


@means("asked")
def _asked(state: State, event: Event) -> State:
    body = event.body
    asks = Question(
        call=body["call"], kind=body["kind"], text=body["text"], options=tuple(body["options"] or ())
    )
    return replace(state if body["kind"] == "doubt" else _left(state, body["call"]), asks=asks)


@means("answered")
def _answered(state: State, event: Event) -> State:
    id, text = event.body["call"], event.body["text"]
    assert state.asks is not None
    if state.asks.kind == "doubt":
        changes = {"owner": ""} if text == "again" else {"verdict": text}
        return replace(with_call(state, id, **changes), asks=None)
    return replace(with_call(state, id, answers=(*state.calls[id].answers, text)), asks=None)


@means("began")
def _began(state: State, event: Event) -> State:
    call = state.calls[event.body["call"]]
    if not call.begun:
        made = {**state.made, **{name: state.made.get(name, 0) + 1 for name in (call.name, *call.counts)}}
        state = replace(state, made=made, spent=state.spent.add(calls=1))
    return with_call(state, call.id, begun=True, owner=event.body["owner"])


@means("waits")
def _waits(state: State, event: Event) -> State:
    return with_call(state, event.body["call"], child=event.body["child"])


@means("heard")
def _heard(state: State, event: Event) -> State:
    """One child has answered, and the call is gone on with for the next."""
    body = event.body
    heard = (*state.calls[body["call"]].heard, {"text": body["text"], "label": body["label"]})
    state = replace(state, spent=state.spent.add(**body["spent"]))
    return with_call(state, body["call"], child=0, heard=heard)


@means("returned")
def _returned(state: State, event: Event) -> State:
    body = event.body
    label = Label.of(body["label"])
    if state.asks and state.asks.call == body["call"]:  # a fork was told the answer
        state = replace(state, asks=None)
    state = with_call(
        state, body["call"], returned=True, value=body["value"], error=body["error"], label=label
    )
    state = replace(state, spent=state.spent.add(**body["spent"]))
    if body["page"] is None:  # what a nested call returned goes to the call that made it
        return state
    for page in (body["page"], *body["parts"]):
        state = with_page(state, Page.of(page))
    return state if state.open() else replace(state, turn=True)


@means("pledged")
def _pledged(state: State, event: Event) -> State:
    return replace(state, own={**state.own, "pledge": event.body["pledge"]})


@means("revealed")
def _revealed(state: State, event: Event) -> State:
    """A page that was hidden is shown from now on, and taints what the process does."""
    pages = tuple(replace(p, hidden=False) if p.id == event.body["page"] else p for p in state.pages)
    page = state.page(event.body["page"])
    return replace(state, pages=pages, label=state.label.join(page.label) if page else state.label)


@means("stopped")
def _stopped(state: State, event: Event) -> State:
    return replace(state, stopped=event.body["reason"])


@means("resumed")
def _resumed(state: State, event: Event) -> State:
    """It goes on; what had run out is given once more."""
    limit = state.limit
    if event.body["refill"]:
        spent = vars(state.spent)
        limit = Budget(
            **{name: most and most + (spent[name] or 0) for name, most in vars(state.program.budget).items()}
        )
    return replace(state, stopped="", limit=limit)


@means("exited")
def _exited(state: State, event: Event) -> State:
    return replace(state, exit=event.body["reason"], asks=None)


# ---- what it does next

Step = Literal["say", "decide", "call", "refuse", "doubt", "finish", ""]


def step(state: State, owner: str = "", repeatable: Callable[[str], bool] = lambda name: True) -> Step:
    """Return what the process does next: "" when it is over, stopped, or waits.

    owner: who runs it now. A call that another owner had begun, and that is not repeatable, is a doubt.
    """
    call = state.open()
    if state.exit or state.stopped or state.waits in ("user", "child"):
        return ""
    if call is None:
        return "say" if state.turn else "finish"
    if call.verdict != "allow":
        return "refuse" if call.verdict else "decide"
    return "doubt" if call.owner not in ("", owner) and not repeatable(call.name) else "call"
