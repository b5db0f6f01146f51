"""Conversations with MCP servers: begun when first needed, in one thread for all, with an end to every wait.

The protocol is the official package's. What a server may do with it is narrowed here: it can neither ask the
model, nor the user, nor for the user's folders (sampling, elicitation, roots), and its patterns for what
its own tools return are not run (a pattern can be made to take for ever).
"""

import asyncio
import concurrent.futures
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, TypeVar

import mcp_types
from mcp import Client
from mcp.client._transport import ReadStream, TransportStreams
from mcp.shared.exceptions import MCPError
from mcp.shared.message import SessionMessage

from twofold import __version__
from twofold.base.errors import TwofoldError
from twofold.devices.mcp.asking import asking
from twofold.devices.mcp.pipes import Heard, running
from twofold.devices.mcp.servers import LeftError, Server, ServerError

T = TypeVar("T")
Item = SessionMessage | Exception
_TURN_S = 0.05  # between two looks whether a call was cancelled
_LEAVE_S = 6.0  # that ending all servers may take
_MOST_PAGES, _MOST_TOOLS = 20, 500  # of a list of tools
_MOST_MESSAGES = 10_000  # that may come between two things we ask
# How the package says that nothing will come; its code for that is one that servers use for errors of theirs.
_BROKEN = ("Connection closed", "SSE stream ")

# What the package has to say about bad servers, in their words, is for no terminal.
logging.getLogger("mcp").addHandler(logging.NullHandler())
logging.getLogger("mcp").propagate = False


class Loop:
    """A thread in which servers are talked to."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], cancelled: Callable[[], bool] = lambda: False) -> T:
        """Return what `work` returns. Raises what it raises, and LeftError."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while True:
            try:
                return future.result(_TURN_S)
            except concurrent.futures.CancelledError:
                raise LeftError("The call was cancelled.") from None
            except TimeoutError:
                if future.done():
                    raise
            if cancelled():
                future.cancel()

    def close(self) -> None:
        """Stop; nothing can be run any more."""
        self.run(asyncio.sleep(_TURN_S))  # what was closed last is closed in later turns
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Session:
    """A server that was started, or is being asked. Made and used within the loop's thread."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._heard = Heard()
        self._calm: _Calm | None = None
        self._client: Client | None = None
        self._leave = asyncio.Event()
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._hold())
        self.fresh = False  # whether the list of tools is the one that we know

    @property
    def over(self) -> bool:
        """Whether it has to be started anew."""
        return self._heard.over or self._task.done()

    async def begin(self) -> None:
        """Wait until it is ready. Raises ServerError; then it is ended, too."""
        try:
            async with asyncio.timeout(self.server.start_s):
                self._client = await asyncio.shield(self._ready)
        except TimeoutError:
            await self.end()
            raise self._error(f"was not ready after {self.server.start_s:g} seconds") from None
        except ServerError as error:
            await self.end()
            raise ServerError(str(error), said=error.said) from None
        except asyncio.CancelledError:
            await self.end()
            raise

    @property
    def title(self) -> str:
        """What it calls itself; not to be trusted."""
        info = self._there().server_info
        return f"{info.title or info.name} {info.version}".strip() if info else ""

    async def tools(self) -> list[mcp_types.Tool]:
        """Return what it offers, page by page, up to a bound. Raises ServerError."""
        found: list[mcp_types.Tool] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await self._ask(self._there().list_tools(cursor=cursor), self.server.start_s)
            found += page.tools
            cursor = page.next_cursor
            if cursor is None or len(found) > _MOST_TOOLS:
                break
        self.fresh = True
        return found[:_MOST_TOOLS]

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> mcp_types.CallToolResult:
        """Return what a tool returns. Raises ServerError."""
        return await self._ask(self._there().call_tool(tool, dict(arguments)), self.server.timeout_s)

    async def end(self) -> None:
        """Hang up, and end the program."""
        self._leave.set()
        if not self._ready.done():
            self._task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await asyncio.wait({self._task})
        self._task.cancel()

    def _there(self) -> Client:
        assert self._client is not None
        return self._client

    async def _hold(self) -> None:
        """Keep the connection open, in one task from its begin to its end, as the package wants it."""
        client = Client(
            self._transport(),
            cache=None,
            client_info=mcp_types.Implementation(name="twofold", version=__version__),
            message_handler=self._notice,
        )
        try:
            async with client:
                self._ready.set_result(client)
                await self._leave.wait()
        except BaseException as error:
            if not self._ready.done():
                self._ready.set_exception(self._explained(error))
                self._ready.exception()  # nobody may be waiting any more
            if not isinstance(error, Exception | BaseExceptionGroup):
                raise
        finally:
            self._heard.end()

    @contextlib.asynccontextmanager
    async def _transport(self) -> AsyncIterator[TransportStreams]:
        one = asking if self.server.url else running
        async with one(self.server, self._heard) as (read, write):
            self._calm = _Calm(read, self._heard)
            yield self._calm, write

    async def _notice(self, message: object) -> None:
        if isinstance(message, mcp_types.ToolListChangedNotification):
            self.fresh = False

    async def _ask(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        if self._calm is not None:
            self._calm.left = _MOST_MESSAGES
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise self._error(f"has not answered within {seconds:g} seconds", lost=True) from None
        except Exception as error:  # whatever the package makes of what a server sends
            raise self._explained(error) from None

    def _explained(self, error: BaseException) -> BaseException:
        """Return an error as a sentence of ours, the server's own words apart."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, ServerError | asyncio.CancelledError):
            return error
        if isinstance(error, TwofoldError):
            return self._error(f"cannot be asked: {error}")
        if isinstance(error, MCPError) and not error.message.startswith(_BROKEN):
            return self._error("refuses the request", said=error.message or "no", answered=True)
        if isinstance(error, MCPError) or self._heard.over:
            why = f": {self._heard.why}" if self._heard.why else ""
            return self._error(f"broke off{why}", said=self._complaint(), lost=True)
        if isinstance(error, OSError):
            return self._error(f"cannot be started: {error.strerror or error}")
        return self._error("answers with what is not MCP", said=str(error)[:500], lost=True)

    def _error(self, what: str, **more: Any) -> ServerError:
        return ServerError(f"The server {self.server.name!r} {what}.", **more)

    def _complaint(self) -> str:
        return self._heard.complaint.decode("utf-8", "replace").strip()


class _Calm:
    """What a server sends, without what could keep us busy: patterns for results, messages without end."""

    def __init__(self, inner: ReadStream[Item], heard: Heard) -> None:
        self._inner, self._heard = inner, heard
        self.left = _MOST_MESSAGES

    @property
    def last_context(self) -> Any:
        """The context of whoever sent the last message, where the stream knows it."""
        return getattr(self._inner, "last_context", None)

    async def receive(self) -> Item:
        item = await self._inner.receive()
        self._look(item)
        return item

    async def __anext__(self) -> Item:
        item = await self._inner.__anext__()
        if not self._look(item):
            raise StopAsyncIteration
        return item

    def _look(self, item: Item) -> bool:
        """Take from a message what could do harm, and return whether the conversation may go on."""
        self.left -= 1
        result = getattr(getattr(item, "message", None), "result", None)
        tools = result.get("tools") if isinstance(result, dict) else None
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict):
                tool.pop("outputSchema", None)
        if self.left < 0:
            self._heard.end("it sends messages without end")
        return self.left >= 0

    def __aiter__(self) -> "_Calm":
        return self

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> "_Calm":
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._inner.__aexit__(*error)
