"""Processes: the list, what one does as it does it, its memory and files, and what the user says to it.

Here the user answers for what leaves the machine, so it must be the user who asks (guard.Users).
"""

import asyncio
import contextlib
import mimetypes
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from twofold.apps import starting
from twofold.base.errors import TwofoldError, UsageError
from twofold.kernel import memory
from twofold.kernel.journal import Event
from twofold.kernel.process import State as Process
from twofold.kernel.ram import ram_of
from twofold.run import catalogue
from twofold.serve import desktop as desk
from twofold.serve.desktop import Desktop
from twofold.serve.fields import flag, listed, number, record, text, whole
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result, event
from twofold.serve.own import users_only, users_routes, whole_number
from twofold.serve.refusals import Refusal, refusal
from twofold.serve.request import Request
from twofold.serve.state import State

_EVERY_S, _ALIVE_S = 0.15, 15.0
_SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")

BEGINS = record(
    {
        "task": text("What it is to do."),
        "app": text("An app's name; default: a process that may use some devices."),
        "devices": listed(text(), "Without an app, what it may use; default: calculator and clock.", most=40),
        "model": text("One of /v1/models; default: the app's, else the default one."),
        "tokens": whole(1, 1 << 53, "It stops after so many."),
        "seconds": number(1e-3, 1e9, "It stops after so much work."),
        "money": number(1e-9, 1e9, "It stops when it has cost so much."),
        "priority": whole(-1000, 1000, "The higher goes first."),
        "stays": flag("It waits for more after an answer."),
    },
    ["task"],
)
SAYS = record(
    {
        "do": text(choices=("tell", "answer", "approve", "pause", "resume", "kill", "fork")),
        "text": text("With tell and answer, what; with fork, what is said then, if anything."),
        "call": text("With approve: which call."),
        "grant": text(choices=("once", "process", "always", "no")),
        "at": whole(1, 1 << 53, "With fork: after which event; default: the last."),
    },
    ["do"],
)
CHANGES = record(
    {
        "do": text(choices=("pin", "unpin", "evict", "load", "edit")),
        "page": text("Such as p12, v3, or a part of one, p12.2."),
        "text": text("With edit: what it says from now on."),
    },
    ["do", "page"],
)


async def _with(request: Request, work: Callable[[Desktop, Process], Any]) -> Any:
    """Return what `work` makes of the process in the address, in a thread. Raises Refusal."""
    pid = _pid(request)

    def look() -> Any:
        found = desk.desktop(request.state)
        try:
            process = found.known(pid)
        except UsageError as error:
            raise Refusal("unknown", str(error)) from None
        return work(found, process)

    return await asyncio.to_thread(look)


def _pid(request: Request) -> int:
    found = request.path["pid"]
    if not found.isascii() or not found.isdigit() or not 0 < int(found[:10]) < 1 << 31:
        raise Refusal("unknown", f"There is no process {found[:40]!r}.")
    return int(found[:10])


async def listing(request: Request) -> Result:
    """Return all processes, the newest first."""
    found = desk.desktop(request.state)

    def look() -> list[dict[str, Any]]:
        if not found.there():
            return []
        return found.listing()

    return await asyncio.to_thread(look)


async def begins(request: Request) -> Result:
    """Begin a process, as `twofold run` does, and return it."""
    body = request.body
    if not body["task"].strip():
        raise Refusal("invalid", "A process needs a task.", where="task")
    model = _mind(request.state, body.get("model") or "")

    def begin() -> dict[str, Any]:
        chosen = body.get("devices")
        program = starting.program(
            body["task"], app=body.get("app") or "", model=model, priority=body.get("priority") or 0,
            devices=starting.DEVICES if chosen is None else chosen, stays=bool(body.get("stays")),
            limits={name: body.get(name) for name in ("tokens", "seconds", "money")},
        )  # fmt: skip
        found = desk.desktop(request.state)
        pid = found.begin(program)
        return desk.whole(found.system, found.system.state(pid))

    return await asyncio.to_thread(begin)


def _mind(state: State, name: str) -> str:
    """Return what the kernel calls a model that is served as `name`. Raises Refusal where none is."""
    if not name or state.models.kernel(name):
        return name
    name, path = state.models.resolve(name)
    return name if catalogue.known().get(name) == path else str(path)


async def one(request: Request) -> Result:
    """Return one process: what it asks, may do, has spent, and its files."""
    result: dict[str, Any] = await _with(request, lambda d, process: desk.whole(d.system, process))
    return result


async def says(request: Request) -> Result:
    """Do what the user wants with a process, and return how it is then."""
    body = request.body

    def act(found: Desktop, process: Process) -> dict[str, Any]:
        pid, system = process.pid, found.system
        match body["do"]:
            case "tell":
                system.tell(pid, _needed(body, "text"))
            case "answer":
                system.answer(pid, _needed(body, "text"))
            case "approve":
                system.approve(pid, _needed(body, "call"), body.get("grant") or "no")
            case "pause":
                system.pause(pid)
            case "resume":
                system.start()
                system.resume(pid)
            case "kill":
                system.kill(pid)
            case "fork":
                system.start()
                pid = system.fork(pid, body.get("at"), said=body.get("text"))
        if body["do"] in ("tell", "answer", "approve"):
            found.go_on(pid)
        return desk.whole(system, system.state(pid))

    result: dict[str, Any] = await _with(request, act)
    return result


def _needed(body: dict[str, Any], name: str) -> str:
    if not body.get(name):
        raise Refusal("invalid", f"To {body['do']} takes a `{name}`.", where=name)
    return str(body[name])


async def events(request: Request) -> Result:
    """Stream a process's events since `from`, its words as they come, and how it is; until it is over."""
    since = whole_number(request.query, "from", 0)
    await _with(request, lambda d, process: None)
    return _events(desk.desktop(request.state), _pid(request), since)


async def _events(found: Desktop, pid: int, since: int) -> AsyncIterator[str]:
    loop, news = asyncio.get_running_loop(), asyncio.Queue[str]()

    def heard(said: object) -> None:
        if isinstance(said, tuple) and said[0] == pid and said[1].kind == "text":
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(news.put_nowait, said[1].text)

    def look() -> tuple[list[Event], dict[str, Any] | None]:
        state, fresh = system.state(pid), system.events(pid, since)
        same = not fresh and before.get("status") == system.status(state)
        return fresh, None if same else desk.whole(system, state)

    system = found.system
    forget = system.watch(heard)
    before: dict[str, Any] = {}
    quiet = 0.0
    try:
        while not system.closing:
            fresh, state = await asyncio.to_thread(look)
            for one in fresh:
                since = one.seq
                yield event({"event": desk.trace(one)})
            if state is not None:
                yield event({"process": state})
                before = state
            if before["over"] and since >= before["seq"]:
                return
            quiet = 0.0 if fresh else quiet + _EVERY_S
            if quiet > _ALIVE_S:
                quiet = 0.0
                yield ": still here\n\n"
            await asyncio.sleep(_EVERY_S)
            words = ""
            while not news.empty():
                words += news.get_nowait()
            if words:
                yield event({"piece": words})
    finally:
        forget()


async def remembers(request: Request) -> Result:
    """Return the memory of a process: {room, rows}, a row for each part of a page."""

    def look(found: Desktop, process: Process) -> dict[str, Any]:
        rows = [row.record() for row in memory.rows(process)]
        return {"room": ram_of(process).room, "rows": rows}

    result: dict[str, Any] = await _with(request, look)
    return result


async def why(request: Request) -> Result:
    """Return why a page is in the memory, what happened to it since, and its whole text."""
    name = request.path["page"]

    def look(found: Desktop, process: Process) -> dict[str, Any]:
        reasons = memory.why(process, found.system.events(process.pid), name)
        return {
            "text": memory.text(process, name),
            "why": [{"seq": seq, "text": sentence} for seq, sentence in reasons],
        }

    result: dict[str, Any] = await _with(request, look)
    return result


async def changes(request: Request) -> Result:
    """Change the memory of a process, and return it."""
    body = request.body

    def act(found: Desktop, process: Process) -> None:
        name, do = body["page"], body["do"]
        if do == "edit":
            change = memory.edit(process, name, body.get("text") or "")
        else:
            change = getattr(memory, do)(process, name)  # one of CHANGES
        found.system.remember(process.pid, change)

    await _with(request, act)
    return await remembers(request)


OPERATIONS = [
    Operation("GET", "/twofold/processes", "All processes, the newest first.", listing),
    Operation("POST", "/twofold/processes", "Begin one, as `twofold run` does.", begins, BEGINS),
    Operation("GET", "/twofold/processes/{pid}", "What a process asks, may do, has spent and made.", one),
    Operation(
        "POST", "/twofold/processes/{pid}", "Answer, tell, pause, resume, kill or fork it.", says, SAYS
    ),
    Operation("GET", "/twofold/processes/{pid}/events", "What it does, as it does it, since ?from=.", events),
    Operation("GET", "/twofold/processes/{pid}/memory", "Its memory, as a map.", remembers),
    Operation("POST", "/twofold/processes/{pid}/memory", "Pin, evict, load, edit.", changes, CHANGES),
    Operation("GET", "/twofold/processes/{pid}/memory/{page}", "Why a page is here, and its text.", why),
]


def _file(state: State) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        found = desk.desktop(state)
        pid, name = scope["path_params"]["pid"], scope["path_params"]["name"]

        def look() -> Response:
            found.known(pid)
            path = desk.file(found.system, pid, name)
            kind = mimetypes.guess_type(path.name)[0]
            return FileResponse(
                path,
                media_type=kind if kind in _SHOWN else "application/octet-stream",
                filename=path.name,
                headers={
                    "content-security-policy": "default-src 'none'; sandbox",
                    "cache-control": "no-store",
                },
            )

        try:
            response = await asyncio.to_thread(look)
        except TwofoldError as error:
            no = Refusal("unknown", str(error)) if isinstance(error, UsageError) else refusal(error)
            response = JSONResponse(FAMILY.refuse(no), no.status)
        await response(scope, receive, send)

    return answer


def routes(state: State) -> list[BaseRoute]:
    """Return the routes."""
    path = "/twofold/processes/{pid:int}/files/{name:path}"
    return [*users_routes(state, OPERATIONS), Route(path, users_only(_file(state)), methods=["GET"])]
