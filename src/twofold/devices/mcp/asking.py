"""Asking an MCP server over streamable HTTP: the official package's transport over a client that has bounds.

Nothing of the user's environment is used (no proxies, no .netrc), nothing is unpacked, an answer has an end,
and what is followed to another place stays within the server's own origin, which the package sees to.
"""

import contextlib
from collections.abc import AsyncIterator

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from twofold import __version__
from twofold.devices.mcp.pipes import MOST, Heard
from twofold.devices.mcp.servers import Server
from twofold.kernel import keys

_CONNECT_S = 15.0
_MOST_STREAM = 64 << 20  # bytes of a stream of messages


class _Counted(httpx2.AsyncByteStream):
    """The bytes of an answer, up to a bound."""

    def __init__(self, inner: httpx2.AsyncByteStream, most: int) -> None:
        self._inner, self._left = inner, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._left -= len(part)
            if self._left < 0:
                raise httpx2.ReadError("the server sends more than an answer can be")
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Bounded(httpx2.AsyncBaseTransport):
    """HTTP whose answers have an end, and come as they are."""

    def __init__(self) -> None:
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            await response.aclose()
            raise httpx2.RemoteProtocolError("the server packs its answer, which was not asked for")
        stream = "text/event-stream" in response.headers.get("content-type", "")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream, _MOST_STREAM if stream else MOST)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.asynccontextmanager
async def asking(server: Server, heard: Heard) -> AsyncIterator[TransportStreams]:
    """Yield what a server sends and what it is sent. Raises NoKeyError."""
    headers = {"User-Agent": f"twofold/{__version__}", "Accept-Encoding": "identity", **server.headers}
    if server.key is not None:
        headers["Authorization"] = f"Bearer {keys.look_up(server.key)}"
    async with (
        httpx2.AsyncClient(
            transport=_Bounded(),
            headers=headers,
            timeout=httpx2.Timeout(_CONNECT_S, read=server.timeout_s),
            trust_env=False,
        ) as client,
        streamable_http_client(server.url, http_client=client, max_sse_event_size=MOST) as pair,
    ):
        yield pair
    heard.end()
