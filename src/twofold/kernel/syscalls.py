"""System calls: from what a process asks for to what it gets.

check the arguments → put values in the place of their names → policy → journal → device → journal. What is
begun is journaled before the device is touched, on the disk if it cannot be repeated; what a device returned
is journaled before anybody sees it. So after any crash it is known of each call whether it was never begun,
is in doubt, or has returned.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from twofold.base.errors import TwofoldError
from twofold.base.names import unknown
from twofold.kernel.arguments import closed, resolve, with_values, wrong
from twofold.kernel.calls import CALLS
from twofold.kernel.device import Context, Device, DeviceError, Effect, Returned, named
from twofold.kernel.flow import Label, Ring, flat, join, named_source
from twofold.kernel.journal import Moved
from twofold.kernel.policy import Call, Decision, Grant, Policy
from twofold.kernel.process import Program, Request, State, quoted
from twofold.kernel.ram import Part
from twofold.kernel.results import pages, parts, plain

_LONGEST = 1 << 22  # characters of a page


class Left(BaseException):  # passes through devices, and through what they catch
    """The call is left, as it must wait for the user or a child; it is made again later."""


@dataclass(frozen=True)
class Child:
    """What a kernel's own call gives when its answer is that of a child process."""

    pid: int


class Process(Protocol):
    """A process that runs: how calls see it and write to its journal."""

    pid: int

    @property
    def state(self) -> State: ...
    @property
    def owner(self) -> str: ...
    @property
    def workspace(self) -> Path: ...
    @property
    def grants(self) -> Sequence[Grant]: ...
    @property
    def closing(self) -> bool: ...
    def write(self, kind: str, body: Mapping[str, Any], *, fact: bool = False, durable: bool = False) -> None:
        """Add an event. fact: it has happened, whatever else did; else Moved is raised if anything else
        did."""
        ...

    def cancelled(self) -> bool: ...
    def tokens(self, text: str) -> int: ...
    def recall(self, question: str) -> Sequence[Part]:
        """Return what has left the window and has to do with a question, best first."""
        ...

    def spawn(self, program: Program, call: str, label: Label) -> int:
        """Begin a child for a call, once, and return its pid."""
        ...


class Syscalls:
    """Carries out the system calls of all processes: of devices, and the kernel's own (kernel/calls/)."""

    def __init__(self, devices: Mapping[str, Device], policy: Policy) -> None:
        self._devices, self._policy = devices, policy
        self._own = {name: CALLS.get(name) for name in CALLS.names()}
        self._known = {**named(devices), **{name: (name, call.FUNCTION) for name, call in self._own.items()}}

    def repeatable(self, name: str) -> bool:
        """Return whether a call may be made again when nobody knows whether it was made."""
        return name not in self._known or self._known[name][1].effect.repeatable

    def offered(self, state: State) -> list[dict[str, Any]]:
        """Return the functions that a process holds a capability for, in OpenAI's form."""
        values = any(page.hidden for page in state.pages)
        found = []
        for name in self._names(state):
            function = self._known[name][1]
            schema = closed(function.parameters)
            schema = with_values(schema) if values else schema
            shown = {"name": name, "description": function.description, "parameters": schema}
            found.append({"type": "function", "function": shown})
        return found

    def _names(self, state: State) -> list[str]:
        """Return the functions that a process holds a capability for."""
        held = state.program.capabilities
        return [n for n, (device, f) in self._known.items() if any(c.names(device, f.name) for c in held)]

    # ---- the way of a call

    def decide(self, process: Process, request: Request) -> str:
        """Let the policy decide, and journal it; return the verdict. What is wrong in itself is denied."""
        decision = self.decision(process.state, request, process.grants)
        process.write(
            "decided",
            {
                "call": request.id, "name": request.name, "arguments": request.arguments,
                "inside": request.inside, "verdict": decision.verdict, "rule": decision.rule,
                "reason": decision.reason, "shows": decision.shows, "grant": decision.grant,
                "counts": list(decision.counts),
            },
        )  # fmt: skip
        return decision.verdict

    def decision(self, state: State, request: Request, grants: Sequence[Grant]) -> Decision:
        """Return what the policy says to a call in a state."""
        try:
            return self._policy.decide(self._call(state, request), state, grants)
        except DeviceError as error:
            return Decision(verdict="deny", rule="arguments", reason=str(error))

    def perform(self, process: Process, request: Request) -> None:
        """Carry out a call that is allowed, and journal what it returned, unless it is left."""
        device, function = self._known[request.name]
        call = self._call(process.state, request)
        process.write(
            "began", {"call": request.id, "owner": process.owner}, durable=not function.effect.repeatable
        )
        start = time.monotonic()
        error = None
        try:
            if request.name in self._own:
                found = self._own[request.name].call(process, call)
                if isinstance(found, Child):
                    process.write("waits", {"call": request.id, "child": found.pid}, fact=True)
                    return
                returned = found
            else:
                context = self._context(process, request, call)
                returned = self._devices[device].call(function.name, call.arguments, context)
            if len(json.dumps(plain(returned.value), allow_nan=False)) > _LONGEST:
                raise DeviceError(f"It returned more than the {_LONGEST:,} characters that a page can hold.")
        except (Left, Moved):
            return
        except TwofoldError as failure:
            error = str(failure)
        except Exception as failure:  # a device is user space: what it breaks on is told, and goes no further
            error = f"{device} broke down ({type(failure).__name__}: {failure})"
        if error is not None:
            if process.closing and function.effect.repeatable:
                return  # it was cancelled, and is made again
            returned = Returned(value=None, text=f"error: {error}")
        spent = {"seconds": round(time.monotonic() - start, 6)}
        label = self._label(process.state, request, call, returned)
        self.give_back(process, request, returned, label, error=error, spent=spent)

    def refuse(self, process: Process, request: Request) -> None:
        """Journal that a call returns without having been made."""
        texts = {
            "done": "The user says that this was done already.",
            "drop": "error: the user says that this shall not be done.",
        }
        text = texts.get(request.verdict, f"error: permission denied (EPERM). {request.reason}")
        error = None if request.verdict == "done" else text.removeprefix("error: ")
        self.give_back(process, request, Returned(value=None, text=text), process.state.label, error=error)

    def child_ended(self, process: Process, request: Request, child: State) -> None:
        """Give a process what its child has answered."""
        text, label = quoted(child.answer, child)
        returned, error = Returned(value=text), None
        spent = {name: value for name, value in vars(child.spent).items() if value is not None}
        own = self._own.get(request.name)
        try:
            if child.exit != "done":
                raise DeviceError(f"The child ended: {child.exit}.")
            if own is not None and hasattr(own, "answered"):
                if own.unread(process.state, request.arguments, len(request.heard) + 1):
                    body = {"call": request.id, "text": text, "label": label.record(), "spent": spent}
                    process.write("heard", body, fact=True)
                    return
                texts = [*(one["text"] for one in request.heard), text]
                label = join([label, *(Label.of(one["label"]) for one in request.heard)])
                returned = own.answered(request.arguments, texts, label)
                label = returned.label or label
        except DeviceError as failure:
            returned, error = Returned(value=None, text=f"error: {failure}"), str(failure)
            label = process.state.label
        self.give_back(process, request, returned, label, error=error, spent=spent)

    def give_back(
        self,
        process: Process,
        request: Request,
        returned: Returned,
        label: Label,
        *,
        error: str | None = None,
        spent: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Journal what a call returned; a page is made of it unless another call made it."""
        found = list(parts(returned.value))
        value, made = plain(returned.value), []
        if request.inside:  # the code that called it gets all of it
            label = join([label, *(part.label for part in found)])
        else:
            device = self._known[request.name][0] if request.name in self._known else request.name
            made = pages(process.state, request, device, returned, label, process.tokens)
            value = made[0].text if found else value
        body = {
            "call": request.id, "value": value, "label": label.record(), "error": error,
            "page": made[0].record() if made else None, "parts": [page.record() for page in made[1:]],
            "files": list(returned.files), "spent": dict(spent),
        }  # fmt: skip
        process.write("returned", body, fact=True)

    # ---- parts

    def _call(self, state: State, request: Request) -> Call:
        """Return a call with its values in their place. Raises DeviceError when it is not a valid one."""
        if request.name not in self._known:
            raise DeviceError(unknown("function", request.name, self._names(state)))
        device, function = self._known[request.name]
        base = state.label if not request.inside else self._inner(state, request.inside)
        leaves: dict[str, Label] = {}
        schemas = function.parameters.get("properties", {})
        if request.inside:  # code gives its values itself: what looks like the name of one is a text
            arguments = dict(request.arguments)
            leaves = {path: base for name, value in arguments.items() for path, _ in flat(value, name)}
        else:
            arguments = {
                name: resolve(value, state, base, leaves, name, schemas.get(name, {}))
                for name, value in request.arguments.items()
            }
        if sentence := wrong(arguments, function.parameters):
            raise DeviceError(f"{request.name}: {sentence}")
        if carries := getattr(self._devices.get(device), "carries", None):
            for name, label in carries(function.name, arguments).items():
                for path in [leaf for leaf, _ in flat(arguments.get(name), name)]:
                    leaves[path] = leaves.get(path, base).join(label)
        labels = {
            name: join(label for path, label in leaves.items() if path == name or path.startswith(f"{name}."))
            for name in arguments
        }
        return Call(
            id=request.id, device=device, function=function, arguments=arguments, labels=labels,
            leaves=leaves, process=base, at=state.at, name=request.name,
        )  # fmt: skip

    def _inner(self, state: State, id: str) -> Label:
        """Return the label of all that a call which makes others has seen."""
        outer = state.calls[id]
        labels = list(self._call(state, outer).labels.values())
        labels += [c.label for c in state.calls.values() if c.inside == id and c.label is not None]
        return join([state.label, *labels])

    def _label(self, state: State, request: Request, call: Call, returned: Returned) -> Label:
        """Return the label of what a call returned: never better than its arguments and nested calls."""
        own = returned.label
        if own is None:
            ring = Ring.USER if call.function.trusted else Ring.TOOL
            readers = None if call.function.effect in (Effect.NONE, Effect.FETCH) else frozenset({"user"})
            own = Label(ring, readers, frozenset({_source(call)}))
        nested = [c.label for c in state.calls.values() if c.inside == request.id and c.label is not None]
        return join([own, *call.labels.values(), *nested])

    def _context(self, process: Process, request: Request, call: Call) -> Context:
        asked, made = 0, 0

        def ask_user(question: str, options: Sequence[str] | None) -> str:
            nonlocal asked
            answers = process.state.calls[request.id].answers
            asked += 1
            if asked <= len(answers):
                return answers[asked - 1]
            body = {"call": request.id, "kind": "question", "text": question, "options": options}
            process.write("asked", body, fact=True)
            raise Left

        def syscall(name: str, arguments: Mapping[str, Any]) -> Any:
            nonlocal made
            made += 1
            inner = Request(
                id=f"{request.id}.{made}", name=name, arguments=dict(arguments), inside=request.id
            )
            return self._nested(process, inner)

        program = process.state.program
        held = [one for one in program.capabilities if one.names(call.device, call.function.name)]
        return Context(
            pid=process.pid, workspace=process.workspace, call=request.id, cancelled=process.cancelled,
            ask_user=ask_user, syscall=syscall, labels=call.labels,
            scope=tuple(pattern for one in held for pattern in one.scope), app=program.app,
            folder=Path(program.folder) if program.folder else None, files=program.files,
        )  # fmt: skip

    def _nested(self, process: Process, inner: Request) -> Any:
        """Return what a nested call returns, or had returned when the outer one was made before."""
        try:
            return self._made(process, inner)
        except Moved:  # not for devices to catch
            raise Left from None

    def _made(self, process: Process, inner: Request) -> Any:
        before = process.state.calls.get(inner.id)
        if before and (before.name, before.arguments) != (inner.name, inner.arguments):
            raise DeviceError("This was begun before, and went another way then: it cannot be gone on with.")
        if before is None:
            if self.decide(process, inner) == "ask":
                raise Left
        elif before.verdict == "ask":
            raise Left
        call = process.state.calls[inner.id]
        if call.verdict == "allow" and not call.returned:
            if call.owner not in ("", process.owner) and not self.repeatable(call.name):
                self.doubt(process, call)
                raise Left
            self.perform(process, call)
        elif not call.returned:
            self.refuse(process, call)
        call = process.state.calls[inner.id]
        if not call.returned:
            raise Left
        if call.error:
            raise DeviceError(call.error)
        return call.value

    def doubt(self, process: Process, request: Request) -> None:
        """Ask the user about a call that was begun, and of which nobody knows the end."""
        arguments = json.dumps(request.arguments, ensure_ascii=False)
        text = f"{request.name} {arguments} was begun, and whether it was carried out is not known."
        body = {"call": request.id, "kind": "doubt", "text": text, "options": ["again", "done", "drop"]}
        process.write("asked", body)


def _source(call: Call) -> str:
    """Return what a result's source is called: the device, and what it was asked for."""
    leaves = flat(call.arguments.get(call.function.targets[0])) if call.function.targets else ()
    return named_source(":".join([call.device, *(str(leaf) for _, leaf in leaves)]))
