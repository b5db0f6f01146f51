"""An app's tests: conversations, and what must hold in them.

    about = "A sum is worked out by the calculator."
    says = "What is 12 times 7?"          # or a list: what the user says, one after the other
    approve = "no"                         # what the user answers when asked for leave: once, process or no
    answers = ["blue"]                     # what he answers to questions, one after the other

    [[mind]]                               # what the model says, turn by turn; none: the app's model is asked
    calls = [{ name = "calculator", arguments = { expression = "12 * 7" } }]
    [[mind]]
    text = "It is 84."

    [[returns]]                            # what a call returns here instead of being made
    call = "browser_read"
    text = "A page."

    [files]                                # files that the process finds in its folder
    "notes.txt" = "…"

    [expect] answer = ['\\b84\\b']                  # regular expressions; not_answer: that do not match
    calls = [{ name = "calculator", arguments = { expression = "12 * 7" } }]  # made, in this order, among
    others denied = ["browser_read"]              # asked for, and not made approvals = 0
    # how often the user was asked [expect.files] "report.md" = 'valuation'              # written, and
    matching

A test runs on the real kernel under the real policy, with the app's own capabilities, in a folder of its
own that is gone afterwards. A device takes part as it is where that cannot reach out of that folder; of
others every call needs a line under [[returns]], and without one it fails.
"""

import re
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from twofold.apps.manifest import App
from twofold.apps.tree import check_name
from twofold.base import config
from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.devices import DEVICES
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned, named
from twofold.kernel.flow import Label, Ring
from twofold.kernel.journal import Event
from twofold.kernel.minds import Mind
from twofold.kernel.minds.script import Script
from twofold.kernel.policy import Policy, Rules
from twofold.kernel.process import State, quoted
from twofold.kernel.system import System

_SECONDS = 60.0  # that one test by a script may take
_MODEL_SECONDS = 900.0
# Devices whose calls never leave the process's own folder, and the files that its app brings.
INSIDE = frozenset({"ask", "draw", "files", "plot", "python", "search"})


@dataclass(frozen=True, kw_only=True)
class Made:
    """A call of a function."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the model says in one turn."""

    text: str = ""
    calls: tuple[Made, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stands:
    """What a call returns in the test. ring: 2 is the user's own, 3 a stranger's."""

    call: str
    text: str = ""
    value: Any = None
    ring: Literal[2, 3] = 3
    source: str = "web:example.org"


@dataclass(frozen=True, kw_only=True)
class Expect:
    """What must hold at the end."""

    answer: tuple[str, ...] = ()
    not_answer: tuple[str, ...] = ()
    calls: tuple[Made, ...] = ()
    denied: tuple[str, ...] = ()
    approvals: int = 0
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One file of an app's tests."""

    about: str
    says: list[str]
    approve: Literal["once", "process", "no"] = "no"
    answers: list[str] = field(default_factory=list)
    mind: tuple[Reply, ...] = ()
    returns: tuple[Stands, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    expect: Expect = field(default_factory=Expect)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a test went; `failures` is a sentence for each thing that did not hold."""

    name: str
    about: str
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether everything held."""
        return not self.failures


def tests(app: App) -> dict[str, Trial]:
    """Return an app's tests by their names. Raises BadFileError for one that cannot be read."""
    found = {}
    for path in sorted((app.folder / "tests").glob("*.toml")):
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
            says = values.get("says")
            if isinstance(says, str):
                values["says"] = [says]
            trial = config.build(Trial, values)
            for pattern in (*trial.expect.answer, *trial.expect.not_answer, *trial.expect.files.values()):
                re.compile(pattern)
        except (ValueError, RecursionError, UsageError, re.error) as error:
            raise BadFileError(f"{path}: {error}") from None
        if not trial.says:
            raise BadFileError(f"{path}: the user says nothing in it.")
        found[path.stem] = trial
    return found


def run(
    app: App,
    *,
    minds: Callable[[str], Mind] | None = None,
    model: str | None = None,
    devices: Mapping[str, Device] | None = None,
    policy: Policy | None = None,
) -> list[Outcome]:
    """Return how each of an app's tests went.

    minds: opens models by name, for tests without a script, and for all of them when a `model` is named.
    devices, policy: others than twofold's own, for tests of tests.
    """
    outcomes = []
    for name, trial in tests(app).items():
        failures: Sequence[str]
        try:
            with tempfile.TemporaryDirectory(prefix="twofold-app-") as folder:
                failures = _tried(app, trial, Path(folder), minds, model, devices, policy or Rules())
        except TwofoldError as error:
            failures = [str(error)]
        outcomes.append(Outcome(name=name, about=trial.about, failures=tuple(failures)))
    return outcomes


def _tried(
    app: App,
    trial: Trial,
    folder: Path,
    minds: Callable[[str], Mind] | None,
    model: str | None,
    devices: Mapping[str, Device] | None,
    policy: Policy,
) -> list[str]:
    """Return what does not hold in one test."""
    scripted = bool(trial.mind) and model is None
    if scripted:
        script = Script(
            [{"text": one.text, "calls": [vars(call) for call in one.calls]} for one in trial.mind]
        )
        minds = lambda name: script  # noqa: E731 (every name is the same mind)
    elif minds is None:
        raise UsageError("This test has no script: name a model to ask, by --model.")
    opened = devices if devices is not None else _opened(app, folder)
    system = System(folder / "os", minds=minds, devices=_closed(opened, trial.returns), policy=policy)
    try:
        more = {"stays": len(trial.says) > 1} | ({"model": model} if model is not None else {})
        pid = system.spawn(app.program(trial.says[0], **more))
        workspace = system.folder / "processes" / str(pid)
        for name, text in trial.files.items():
            path = workspace / check_name(name, "[files]")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        approvals, answers = 0, list(trial.answers)
        for said in [None, *trial.says[1:]]:
            if said is not None:
                system.tell(pid, said)
            seconds = _SECONDS if scripted else _MODEL_SECONDS
            approvals += _settled(system, pid, trial.approve, answers, seconds)
        return _failures(system, pid, trial.expect, approvals, workspace)
    finally:
        system.close()
        for device in opened.values():
            device.close()


def _settled(
    system: System, pid: int, approve: Literal["once", "process", "no"], answers: list[str], seconds: float
) -> int:
    """Let a process go on until it has answered; return how often it asked for leave.

    Raises TwofoldError when it stops, asks what the test has no answer to, or takes too long.
    """
    asked, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        system.run(until=lambda: rests(system.state(pid)), seconds=end - time.monotonic())
        state = system.state(pid)
        if state.asks is None:
            if state.stopped:
                raise TwofoldError(f"The process stopped: {state.stopped}")
            return asked
        if state.asks.kind != "approval":
            if not answers:
                raise TwofoldError(f"The process asks the user: {state.asks.text}")
            system.answer(pid, answers.pop(0))
            continue
        asked += 1
        system.approve(pid, state.asks.call, approve)
    raise TwofoldError(f"There was no answer within {seconds:.0f} seconds.")


def rests(state: State) -> bool:
    """Return whether a process does nothing until the user says something, if ever again."""
    return bool(state.exit or state.stopped or state.waits == "user")


def _failures(system: System, pid: int, expect: Expect, approvals: int, workspace: Path) -> list[str]:
    """Return a sentence for everything that does not hold."""
    state = system.state(pid)
    found, answer = [], quoted(state.answer, state)[0]
    shown = answer if len(answer) < 300 else f"{answer[:300]}…"
    for pattern in expect.answer:
        if not re.search(pattern, answer):
            found.append(f"The answer does not match {pattern!r}: {shown!r}")
    for pattern in expect.not_answer:
        if re.search(pattern, answer):
            found.append(f"The answer matches {pattern!r}: {shown!r}")
    calls, denied = _calls(system.events(pid))
    at = 0
    for call in expect.calls:
        rest = [n for n, made in enumerate(calls[at:], at) if _same(made, call)]
        if not rest:
            made = "; ".join(f"{one.name} {one.arguments}" for one in calls) or "none"
            found.append(f"{call.name} {call.arguments} was not called, or not in this order. Calls: {made}")
        else:
            at = rest[0] + 1
    if set(denied) != set(expect.denied):
        told = [", ".join(sorted(set(names))) or "nothing" for names in (denied, expect.denied)]
        found.append(f"Denied was {told[0]}, and not {told[1]}.")
    if approvals != expect.approvals:
        found.append(f"The user was asked {approvals} times, and not {expect.approvals}.")
    for name, pattern in expect.files.items():
        path = workspace / check_name(name, "[expect.files]")
        if not path.is_file():
            there = ", ".join(sorted(p.name for p in workspace.rglob("*"))) if workspace.is_dir() else ""
            found.append(f"There is no file {name}; there are {there or 'none'}.")
        elif not re.search(pattern, path.read_text(encoding="utf-8", errors="replace")):
            found.append(f"The file {name} does not match {pattern!r}.")
    return found


def _calls(events: Sequence[Event]) -> tuple[list[Made], list[str]]:
    """Return the calls that were made, in order, and the names of those that were denied."""
    asked, made, denied = {}, [], []
    for event in events:
        if event.kind == "decided":
            asked[event.body["call"]] = Made(name=event.body["name"], arguments=event.body["arguments"])
        if event.kind == "decided" and event.body["verdict"] == "deny":
            denied.append(event.body["name"])
        if event.kind == "began":
            made.append(asked[event.body["call"]])
    return made, denied


def _same(made: Made, wanted: Made) -> bool:
    """Return whether a call is the one wanted; arguments that are not named may be anything."""
    return made.name == wanted.name and all(
        name in made.arguments and made.arguments[name] == value for name, value in wanted.arguments.items()
    )


# --- devices


def _opened(app: App, folder: Path) -> dict[str, Device]:
    """Return the devices that an app asks for and that are here, open."""
    own = {"files": {"kept": folder}, "search": {"index": str(folder / "search")}}
    return {
        name: DEVICES.get(name).open(own.get(name, {}))
        for name in sorted({one.device for one in app.manifest.capabilities})
        if name in DEVICES.names()
    }


def _closed(devices: Mapping[str, Device], returns: Sequence[Stands]) -> dict[str, Device]:
    """Return devices that cannot reach anything: what stands under [[returns]] stands in for the rest."""
    return {name: _Closed(name, device, returns) for name, device in devices.items()}


class _Closed:
    """A device of which only what is pure, or stays in the process's folder, is really called."""

    def __init__(self, name: str, device: Device, returns: Sequence[Stands]) -> None:
        self._device = device
        self._names = {function.name: called for called, (_, function) in named({name: device}).items()}
        self._real = {one.name for one in device.functions() if one.effect is Effect.NONE or name in INSIDE}
        self._returns = [one for one in returns if one.call in self._names.values()]

    def functions(self) -> Sequence[Function]:
        """Return the functions of the device."""
        return self._device.functions()

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return what the test says, or what the device does. Raises DeviceError when neither may be."""
        name = self._names[function]
        stands = next((one for one in self._returns if one.call == name), None)
        if stands is not None:
            self._returns.remove(stands)
            ring = Ring(stands.ring)
            readers = frozenset({"user"}) if ring is Ring.USER else None
            label = Label(ring, readers, frozenset({stands.source}))
            return Returned(value=stands.text if stands.value is None else stands.value, label=label)
        if function not in self._real:
            raise DeviceError(f"{name} reaches out of the test, and the test does not say what it returns.")
        return self._device.call(function, arguments, context)

    def close(self) -> None:
        """Close the device."""
        self._device.close()
