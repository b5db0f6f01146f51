"""The user's processes as the web app shows them: the system, opened when it is first asked for, and records.

Looking touches no process. Where the user answers, tells or resumes one that nobody runs, it goes on here.
"""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twofold import devices
from twofold.base.errors import UsageError
from twofold.kernel import minds
from twofold.kernel.journal import MACHINE, Event
from twofold.kernel.policy import Rules
from twofold.kernel.process import Program, State, quoted
from twofold.kernel.system import System
from twofold.serve.state import State as Server

_MOST_TEXT = 4_000  # characters of one text in the trace; the memory shows all
_MOST_FILES = 500
_MOST_LISTED = 200
_HEAD = 160  # characters of a task in the list


class Desktop:
    """The processes of the user whose folder this is."""

    def __init__(self, folder: Path, system: System | None = None) -> None:
        """Show those in a folder; by `system`, where that is open already."""
        self._folder, self._lock = folder, threading.Lock()
        self._system = system
        self._over: dict[int, tuple[int, dict[str, Any]]] = {}  # what the list shows of those that are over

    def there(self) -> bool:
        """Return whether there were ever any processes."""
        return (self._folder / "journal.db").is_file()

    @property
    def system(self) -> System:
        """The system. Raises TwofoldError where it cannot be opened."""
        with self._lock:
            if self._system is None:
                self._system = System(
                    self._folder, minds=minds.find, devices=devices.opened(), policy=Rules()
                )
            return self._system

    def known(self, pid: int) -> State:
        """Return a process. Raises UsageError where there is none of that number."""
        if not self.there():
            raise UsageError(f"There is no process {pid}: there are none yet.")
        return self.system.state(pid)

    def listing(self) -> list[dict[str, Any]]:
        """Return the newest processes, the newest first; those that are over are read once."""
        found: list[dict[str, Any]] = []
        for pid, seq in sorted(self.system.journal.heads().items(), reverse=True):
            if pid == MACHINE or len(found) >= _MOST_LISTED:
                continue
            if self._over.get(pid, (0, {}))[0] != seq:
                shown = summary(self.system, self.system.state(pid))
                self._over[pid] = seq if shown["over"] else 0, shown
            found.append(self._over[pid][1])
        return found

    def go_on(self, pid: int) -> None:
        """Run a process here, if nobody else does and it is not over."""
        if not self.system.state(pid).exit and self.system.journal.holder(pid) is None:
            self.system.start()
            self.system.resume(pid)

    def begin(self, program: Program) -> int:
        """Begin a process here. Raises TwofoldError when its model or a device is missing."""
        system = self.system
        missing = {one.device for one in program.capabilities} - system.devices.keys()
        for device in devices.opened(missing).values():  # says which package is not installed
            device.close()
        system.mind(program.model)
        system.start()
        return system.spawn(program)

    def close(self) -> None:
        """Leave the processes that are run here where they are: whoever resumes one goes on with it."""
        with self._lock:
            system, self._system = self._system, None
        if system is not None:
            system.close()
            for device in system.devices.values():
                device.close()


def desktop(server: Server) -> Desktop:
    """Return the desktop of a server, made when it is first asked for."""
    found = server.extras.get("desktop")
    if found is None:
        found = server.extras["desktop"] = Desktop(server.home / "os")
        server.closing.append(found.close)
    assert isinstance(found, Desktop)
    return found


# ---- records


def summary(system: System, state: State) -> dict[str, Any]:
    """Return what the list shows of a process."""
    task = next((page.text for page in state.pages if page.kind == "user"), state.program.message)
    return {
        "pid": state.pid,
        "parent": state.parent,
        "app": state.program.app,
        "task": task if len(task) <= _HEAD else f"{task[:_HEAD]}…",
        "status": system.status(state),
        "asks": state.asks is not None and not state.exit,
        "over": bool(state.exit),
        "stopped": bool(state.stopped),
        "live": system.journal.holder(state.pid) is not None,
        "begun": state.begun,
        "at": state.at,
        "seq": state.seq,
    }


def whole(system: System, state: State) -> dict[str, Any]:
    """Return what the page of a process shows, but for its trace and its memory."""
    budget, spent = state.program.budget, state.spent
    return {
        **summary(system, state),
        "model": state.program.model,
        "answer": quoted(state.answer, state)[0],
        "question": None if state.exit else question(state),
        "label": state.label.record(),
        "capabilities": [capability.record() for capability in state.program.capabilities],
        "grants": list(state.grants),
        "spent": {
            name: {"spent": getattr(spent, name) or 0, "of": getattr(budget, name)}
            for name in ("tokens", "calls", "seconds", "money")
        },
        "files": list(files(system, state.pid)),
    }


def question(state: State) -> dict[str, Any] | None:
    """Return what a process waits for the user to say, and all that a call would let flow, or None."""
    asks = state.asks
    if asks is None:
        return None
    call = state.calls.get(asks.call)
    return {
        "call": asks.call,
        "kind": asks.kind,
        "text": asks.text,
        "options": list(asks.options),
        "shows": dict(asks.shows),
        "name": call.name if call else "",
        "arguments": dict(call.arguments) if call else {},
    }


def trace(event: Event) -> dict[str, Any]:
    """Return an event as the trace shows it: long texts are cut, and the memory's page is not repeated."""
    body = dict(event.body)
    if isinstance(page := body.get("page"), Mapping):
        body["page"] = {name: page[name] for name in ("id", "text", "label", "hidden", "tokens")}
    body.pop("pages", None)
    return {"seq": event.seq, "at": event.at, "kind": event.kind, "body": _cut(body)}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        left = len(value) - _MOST_TEXT
        return value if left <= 0 else f"{value[:_MOST_TEXT]} … ({left:,} characters more)"
    if isinstance(value, Mapping):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list | tuple) else value


# ---- files


def workspace(system: System, pid: int) -> Path:
    """Return the folder of a process; it need not exist."""
    return system.folder / "processes" / str(pid)


def files(system: System, pid: int) -> Iterator[dict[str, Any]]:
    """Yield the files in a process's folder: {name, bytes, at}. Links are passed over."""
    folder, count = workspace(system, pid), 0
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or count >= _MOST_FILES:
            continue
        count += 1
        stat = path.stat()
        yield {"name": path.relative_to(folder).as_posix(), "bytes": stat.st_size, "at": stat.st_mtime}


def file(system: System, pid: int, name: str) -> Path:
    """Return a file in a process's folder. Raises UsageError for what is none, or leads out of it."""
    folder = workspace(system, pid).resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise UsageError(f"Process {pid} has no file {name[:200]!r}.")
    return path
