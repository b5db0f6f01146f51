"""Twofold's devices for other programs: the Model Context Protocol over standard input and output, or HTTP.

A program that asks is the mind of a process: what it calls is what the process does next. So its calls go
through the same policy and the same journal as those of any process, the user can pause and kill it, and
approves where a process would ask. Its words are a stranger's: the process is tainted from the beginning, as
nobody knows what that program has read.

All clients of one server are one process. Not covered: resources, prompts, progress, OAuth.
"""

import asyncio
import base64
import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from twofold import __version__
from twofold.base.errors import MissingExtraError, TwofoldError, UsageError
from twofold.kernel.capabilities import Capability
from twofold.kernel.device import Device, Effect, Function, named
from twofold.kernel.flow import Label, Ring
from twofold.kernel.journal import Event
from twofold.kernel.minds import Message, Said, Turn
from twofold.kernel.process import Program
from twofold.kernel.system import System
from twofold.serve.guard import Guard
from twofold.serve.refusals import Refusal
from twofold.serve.settings import Settings
from twofold.tokens.speech import Call

if TYPE_CHECKING:
    import mcp_types
    from mcp.server.lowlevel import Server

PATH = "/mcp"
_LEFT = "its client left"
_PICTURES = {".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
_MOST_PICTURE = 4 << 20  # bytes; larger ones stay in the process's folder


@dataclass(eq=False)
class _Ticket:
    """A call on its way. id: the process's, once it was made. done: is given what it returned, once."""

    name: str
    arguments: Mapping[str, Any]
    done: Callable[["Event | str"], None]
    id: str = ""
    left: bool = False


@dataclass
class Guest:
    """The mind of a process that a program elsewhere steers: it says what it was handed, and nothing else."""

    context: int = 1 << 30
    waiting: deque[_Ticket] = field(default_factory=deque)
    said: deque[_Ticket] = field(default_factory=deque)  # whose ids are not known yet
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> int:
        """Return 0: it reads nothing."""
        return 0

    def tokens(self, text: str) -> int:
        """Return 0: it reads nothing."""
        return 0

    def say(self, turn: Turn) -> Said:
        """Return the next call that it was handed, if there is one."""
        with self.lock:
            if not self.waiting:
                return Said()
            ticket = self.waiting.popleft()
            self.said.append(ticket)
        return Said(calls=[Call(ticket.name, json.dumps(ticket.arguments))])

    def close(self) -> None:
        """Nothing is held."""


class Offer:
    """The process whose calls other programs make."""

    def __init__(
        self, system: System, guest: Guest, devices: Mapping[str, Device], allowed: Sequence[Capability]
    ) -> None:
        """Begin it. `system` must have `guest` as its mind, and be started."""
        self.functions = {
            name: function
            for name, (device, function) in named(devices).items()
            if any(capability.names(device, function.name) for capability in allowed)
        }
        self._system, self._guest = system, guest
        self._open: dict[str, _Ticket] = {}
        self.pid = 0
        self._forget = system.watch(self._heard)
        program = Program(
            message="Carry out the calls of programs that ask by MCP.",
            model="mcp",  # no other mind goes on with it
            capabilities=tuple(allowed),
            shown=tuple(devices),
            app="mcp",
            stays=True,
        )
        label = Label(Ring.TOOL, None, frozenset({"mcp client"}))
        self.pid = system.spawn(program, label=label)

    def begin(self, name: str, arguments: Mapping[str, Any], done: Callable[[Event | str], None]) -> _Ticket:
        """Hand on a call; `done` is given its `returned` event, or the sentence why there is none."""
        ticket = _Ticket(name, arguments, done)
        with self._guest.lock:
            self._guest.waiting.append(ticket)
        try:
            self._system.tell(self.pid, f"A program asks for {name}.")
        except UsageError:
            self._end("The user has ended this: start the server anew.")
        return ticket

    def leave(self, ticket: _Ticket) -> None:
        """Note that nobody waits for a call any more: it is not made, or its device is told to stop.

        A call that is about to be made at this moment is made.
        """
        ticket.left = True
        with self._guest.lock:
            if ticket in self._guest.waiting:
                self._guest.waiting.remove(ticket)
                return
        if ticket.id not in self._open:
            return
        with contextlib.suppress(UsageError):  # it was over before
            asks = self._system.state(self.pid).asks
            if asks is not None and asks.call == ticket.id and asks.kind == "approval":
                self._system.approve(self.pid, ticket.id, "no")
                return
            self._system.pause(self.pid, _LEFT)  # a device that is at work looks for that
            if not self._system.state(self.pid).calls[ticket.id].begun:
                self._go_on()

    def close(self) -> None:
        """End the process."""
        self._forget()
        with contextlib.suppress(UsageError):  # the user did
            self._system.kill(self.pid, _LEFT)

    def _heard(self, event: object) -> None:
        """Follow the process: which call has which id, and what it returned."""
        if not isinstance(event, Event) or event.pid != self.pid:
            return
        if event.kind == "said":
            for call in event.body["calls"]:
                with self._guest.lock:
                    ticket = self._guest.said.popleft()
                ticket.id = call["id"]
                self._open[ticket.id] = ticket
                if ticket.left:
                    self._later(self.leave, ticket)
        elif event.kind == "returned" and (found := self._open.pop(event.body["call"], None)):
            found.done(event)
            if found.left:
                self._later(self._go_on)
        elif event.kind == "exited":
            self._end("The user has ended this: start the server anew.")

    def _go_on(self) -> None:
        """Resume the process, unless the user has stopped it."""
        with contextlib.suppress(UsageError):  # it is over
            if self._system.state(self.pid).stopped == _LEFT:
                self._system.resume(self.pid)

    def _later(self, work: Callable[..., None], *of: Any) -> None:
        """Do what a watcher must not: write to the journal."""
        threading.Thread(target=work, args=of, daemon=True).start()

    def _end(self, why: str) -> None:
        with self._guest.lock:
            tickets = [*self._open.values(), *self._guest.waiting, *self._guest.said]
            self._guest.waiting.clear()
            self._guest.said.clear()
        self._open.clear()
        for ticket in tickets:
            ticket.done(why)

    def content(self, event: Event) -> "mcp_types.CallToolResult":
        """Return what a call returned, for the program that made it."""
        import mcp_types

        body = event.body
        text = body["page"]["text"]
        if body["page"]["hidden"]:
            return _text("The result is hidden from programs: twofold logs shows it.", error=True)
        blocks: list[mcp_types.ContentBlock] = [mcp_types.TextContent(text=text)]
        for name in body["files"]:
            path = self._system.folder / "processes" / str(self.pid) / name
            kind = _PICTURES.get(path.suffix.lower())
            if kind and path.is_file() and path.stat().st_size <= _MOST_PICTURE:
                data = base64.b64encode(path.read_bytes()).decode()
                blocks.append(mcp_types.ImageContent(data=data, mime_type=kind))
            else:
                blocks.append(mcp_types.TextContent(text=f"[file {path}]"))
        structured = body["value"] if isinstance(body["value"], dict) else None
        return mcp_types.CallToolResult(
            content=blocks, structured_content=structured, is_error=bool(body["error"])
        )


def server(offer: Offer) -> "Server[Any]":
    """Return the MCP server over an offer. Raises MissingExtraError."""
    try:
        import mcp_types
        from mcp.server.context import ServerRequestContext
        from mcp.server.lowlevel import Server
    except ImportError:
        raise MissingExtraError("speaking MCP", "os") from None

    async def listing(
        context: ServerRequestContext[Any], params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=[_tool(name, one) for name, one in offer.functions.items()])

    async def call(
        context: ServerRequestContext[Any], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        if params.name not in offer.functions:
            return _text(f"There is no tool {params.name!r} that this server may offer.", error=True)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Event | str] = loop.create_future()

        def settle(found: Event | str) -> None:
            if not answer.done():
                answer.set_result(found)

        def done(found: Event | str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, found)

        ticket = await asyncio.to_thread(offer.begin, params.name, params.arguments or {}, done)
        try:
            found = await answer
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.to_thread(offer.leave, ticket))
            raise
        return _text(found, error=True) if isinstance(found, str) else offer.content(found)

    return Server("twofold", version=__version__, on_list_tools=listing, on_call_tool=call)


def _tool(name: str, function: Function) -> "mcp_types.Tool":
    import mcp_types

    effect = function.effect
    return mcp_types.Tool(
        name=name,
        description=function.description,
        input_schema=dict(function.parameters),
        annotations=mcp_types.ToolAnnotations(
            read_only_hint=effect in (Effect.NONE, Effect.READ, Effect.FETCH),
            destructive_hint=effect is Effect.SEND,
            idempotent_hint=effect.repeatable,
            open_world_hint=effect in (Effect.FETCH, Effect.SEND),
        ),
    )


def _text(text: str, *, error: bool = False) -> "mcp_types.CallToolResult":
    import mcp_types

    return mcp_types.CallToolResult(content=[mcp_types.TextContent(text=text)], is_error=error)


def over_pipes(offer: Offer) -> None:
    """Speak MCP over standard input and output until the other side hangs up."""
    made = server(offer)

    async def speak() -> None:
        from mcp.server.stdio import stdio_server

        async with stdio_server() as (read, write):
            await made.run(read, write, made.create_initialization_options())

    asyncio.run(speak())


def over_http(offer: Offer, settings: Settings, key: str | None) -> ASGIApp:
    """Return the application that speaks MCP at /mcp, behind the same guard as the server of models."""
    if key is None and not settings.loopback:
        raise TwofoldError("Without a key, only programs of this machine may ask.")
    from mcp.server.transport_security import TransportSecuritySettings

    app: Starlette = server(offer).streamable_http_app(
        streamable_http_path=PATH,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # Guard's part
        max_request_body_size=int(settings.body_mb * 1e6),
    )
    guard = Middleware(Guard, settings=settings, key=key, keyed={PATH}, refuse=_refuse)
    app.user_middleware.insert(0, guard)
    return app


def _refuse(path: str, no: Refusal) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": str(no)}}
