"""One request, from its bytes to the answer's: read, checked, handed to a handler, written, and counted.

A handler is an async function of a `Request`. It returns a dict or a list, which becomes JSON; text; or an
async iterator of strings, which becomes a stream. A client that goes away or does not take its answer cancels
the handler, and with it the work behind it.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from starlette import requests
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from twofold.serve import fields
from twofold.serve.refusals import Refusal, refusal
from twofold.serve.request import Request
from twofold.serve.state import State

log = logging.getLogger("twofold.serve")
HANG_UP = "hang_up"  # in the scope's state: a function that ends the connection at once
_LARGE = 1 << 16  # bytes of a body that takes its time to be read
Result = Mapping[str, Any] | list[Any] | str | AsyncIterator[str]


@dataclass(frozen=True)
class Family:
    """The manners of an API: how it says no, and how its streams look.

    `refuse`: the body of a refusal. `broken`: what stands in a stream when it breaks off. `media`: a stream's
    type. `statuses`: where they are not the usual ones.
    """

    name: str
    refuse: Callable[[Refusal], dict[str, Any]]
    broken: Callable[[Refusal], str]
    media: str = "text/event-stream"
    statuses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Operation:
    """One thing that can be asked for: where, what it takes, and the function that answers."""

    method: str
    path: str
    summary: str
    handle: Callable[[Request], Awaitable[Result]]
    takes: fields.Schema | None = None
    gives: fields.Schema = field(default_factory=lambda: {"type": "object"})


def routes(state: State, operations: Sequence[Operation], family: Family) -> list[Route]:
    """Return the routes of an API's operations."""
    return [
        Route(one.path, _Endpoint(state, one, family), methods=[one.method], name=f"{one.method} {one.path}")
        for one in operations
    ]


class _Endpoint:
    """An ASGI application for one operation."""

    def __init__(self, state: State, operation: Operation, family: Family) -> None:
        self.state, self.operation, self.family = state, operation, family

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, counted = time.perf_counter(), _Status(send)
        try:
            await self._answer(scope, receive, counted)
        finally:
            path, metrics = self.operation.path, self.state.metrics
            metrics.add("twofold_requests_total", path=path, status=str(counted.status or 499))
            metrics.add("twofold_seconds_total", time.perf_counter() - began, path=path)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = requests.Request(scope, receive)
        async with AsyncExitStack() as undo:
            try:
                body = await self._body(asked)
                client = asked.client.host if asked.client else ""
                owner = f"{client} {body.get('user') or ''}"
                path, query = dict(asked.path_params), dict(asked.query_params)
                request = Request(self.state, body, path, owner, query, undo)
                result = await _unless_gone(receive, self.operation.handle(request))
            except requests.ClientDisconnect:
                return
            except Exception as error:
                await self._refuse(error)(scope, receive, send)
                return
            if result is None:  # nobody is there any more
                return
            if isinstance(result, Mapping | list):
                await JSONResponse(result)(scope, receive, send)
            elif isinstance(result, str):
                await PlainTextResponse(result)(scope, receive, send)
            else:
                await self._stream(result, scope, receive, send)

    async def _body(self, asked: requests.Request) -> dict[str, Any]:
        """Return the body, checked. Raises Refusal when it is too large or slow, or not as asked."""
        takes = self.operation.takes
        if takes is None:
            return {}
        most = int(self.state.settings.body_mb * 1e6)
        if int(asked.headers.get("content-length") or 0) > most:
            raise _too_large(most)
        parts: list[bytes] = []
        try:
            async with asyncio.timeout(self.state.settings.patience_s):
                async for part in asked.stream():
                    parts.append(part)
                    if sum(map(len, parts)) > most:
                        raise _too_large(most)
        except TimeoutError:
            raise Refusal("slow", "The body of the request took too long to arrive.") from None
        body = b"".join(parts)
        return _read(takes, body) if len(body) < _LARGE else await asyncio.to_thread(_read, takes, body)

    def _refuse(self, error: Exception) -> Response:
        no = refusal(error)
        if no.kind == "bug":
            log.error("%s %s", self.operation.path, no, exc_info=error)
        headers = {"Retry-After": "1"} if no.kind == "busy" else {}
        status = self.family.statuses.get(no.kind, no.status)
        return JSONResponse(self.family.refuse(no), status, headers)

    async def _stream(self, pieces: AsyncIterator[str], scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces as they come, until they end or the client is gone or takes too long."""
        headers = [
            (b"content-type", self.family.media.encode() + b"; charset=utf-8"),
            (b"cache-control", b"no-cache"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _unless_gone(receive, self._send(pieces, scope, send))

    async def _send(self, pieces: AsyncIterator[str], scope: Scope, send: Send) -> None:
        patience_s = self.state.settings.patience_s

        async def one(text: str, more: bool = True) -> None:
            async with asyncio.timeout(patience_s):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        try:
            async for text in _bunched(pieces):
                await one(text)
            await one("", more=False)
        except TimeoutError:
            sentence = "A client of %s took nothing of its answer for %g seconds, and was hung up on."
            log.warning(sentence, self.operation.path, patience_s)
            scope["state"][HANG_UP]()
            await asyncio.sleep(0)  # until the server has noticed
        except Exception as error:
            no = refusal(error)
            if no.kind == "bug":
                log.error("%s %s", self.operation.path, no, exc_info=error)
            await one(self.family.broken(no), more=False)


async def _bunched(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the pieces as they come, joined where several have come by the time that one is asked for."""
    held: list[str] = []
    news = asyncio.Event()

    async def gather() -> None:
        async for piece in pieces:
            held.append(piece)
            news.set()

    gathering = asyncio.create_task(gather())
    gathering.add_done_callback(lambda _: news.set())
    try:
        while held or not gathering.done():
            await news.wait()
            news.clear()
            text = "".join(held)
            held.clear()
            if text:
                yield text
        gathering.result()
    finally:
        gathering.cancel()
        await asyncio.wait({gathering})


def _read(takes: fields.Schema, body: bytes) -> dict[str, Any]:
    """Return what a body says. Raises Refusal when it is no JSON, or not as asked."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise Refusal("invalid", f"The body is not JSON: {str(error)[:200]}.") from None
    checked: dict[str, Any] = fields.check(takes, value)
    return checked


class _Status:
    """A `send` that remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send, self.status = send, 0

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


async def _unless_gone(receive: Receive, work: Any) -> Any:
    """Return what `work` returns; cancel it, and return None, when the client goes away before."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return None
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _too_large(most: int) -> Refusal:
    return Refusal("large", f"The body of a request may have {most:,} bytes.", code="body_too_large")


def event(data: Mapping[str, Any] | str, name: str | None = None) -> str:
    """Return a server-sent event."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return f"event: {name}\ndata: {text}\n\n" if name else f"data: {text}\n\n"
