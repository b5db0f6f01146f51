"""One POST to another server, its answer read line by line as it comes: HTTP/1.1 over asyncio, and TLS.

Nothing is followed to another address, nothing is kept open, everything has an end: connecting, each wait,
each line, the whole. A key goes over TLS only, or to this machine itself. Not covered: HTTP/2, proxies.
"""

import asyncio
import contextlib
import json
import ssl
import urllib.parse
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import h11

from twofold import __version__
from twofold.kernel.elsewhere import ElsewhereError

_CONNECT_S = 15.0
_MOST_LINE, _MOST, _MOST_ERROR = 4_000_000, 256_000_000, 64_000  # bytes
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def wrong(url: str) -> str | None:
    """Return what is wrong with the address of a server, None when nothing is."""
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return "is no address"
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        return "does not begin with http:// or https:// and a host"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "holds more than a host and a path: keys do not belong there"
    return None


def private(url: str) -> bool:
    """Return whether what is sent there can be read by nobody on the way."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or parts.hostname in LOOPBACK


class Post:
    """One request and its answer. `close` hangs up, at any time and from any task of the loop."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._parts = urllib.parse.urlsplit(url)
        self.host = self._parts.netloc
        self._timeout_s = timeout_s
        self._http = h11.Connection(h11.CLIENT)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._closed = False

    async def send(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> int:
        """Return the status of the answer. Raises ElsewhereError when there is none."""
        data = json.dumps(body).encode()
        head = {
            "Host": self.host,
            "User-Agent": f"twofold/{__version__}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "Content-Length": str(len(data)),
            "Connection": "close",
            **headers,
        }
        await self._connect()
        assert self._writer is not None
        request = h11.Request(method="POST", target=self._parts.path or "/", headers=list(head.items()))
        for event in (request, h11.Data(data=data), h11.EndOfMessage()):
            self._writer.write(self._http.send(event) or b"")
        with self._sentences("took too long to take the request"):
            async with asyncio.timeout(self._timeout_s):
                await self._writer.drain()
        while not isinstance(answer := await self._next(), h11.Response):
            if not isinstance(answer, h11.InformationalResponse):
                raise ElsewhereError(f"{self.host} broke off before it answered.")
        coded = dict(answer.headers).get(b"content-encoding", b"identity")
        if coded.lower() != b"identity":
            raise ElsewhereError(f"{self.host} sends what was not asked for ({coded.decode('latin-1')}).")
        return int(answer.status_code)

    async def lines(self) -> AsyncIterator[str]:
        """Yield the lines of the answer, without their ends. Raises ElsewhereError when it breaks off."""
        held, total = bytearray(), 0
        async for data in self._data():
            total += len(data)
            held += data
            *whole, rest = held.split(b"\n")
            held = bytearray(rest)
            if len(held) > _MOST_LINE or total > _MOST:
                raise ElsewhereError(f"{self.host} sends more than an answer can be.")
            for line in whole:
                yield line.decode("utf-8", "replace").removesuffix("\r")
        if held:
            yield held.decode("utf-8", "replace")

    async def error(self) -> Any:
        """Return the JSON in the body of an error, None when it is none."""
        held = bytearray()
        try:
            async for data in self._data():
                held += data
                if len(held) > _MOST_ERROR:
                    return None
            return json.loads(held)
        except (ElsewhereError, ValueError, RecursionError):
            return None

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        if self._writer is not None:
            self._writer.transport.abort()

    async def _connect(self) -> None:
        secure = ssl.create_default_context() if self._parts.scheme == "https" else None
        port = self._parts.port or (443 if secure else 80)
        with self._sentences("cannot be reached"):
            async with asyncio.timeout(min(_CONNECT_S, self._timeout_s)):
                self._reader, self._writer = await asyncio.open_connection(
                    self._parts.hostname, port, ssl=secure
                )
        if self._closed:
            self.close()

    async def _data(self) -> AsyncIterator[bytes]:
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                raise ElsewhereError(f"{self.host} broke off.")
            yield bytes(event.data)

    async def _next(self) -> Any:
        """Return the next part of the answer."""
        assert self._reader is not None
        with self._sentences(f"has sent nothing for {self._timeout_s:g} seconds"):
            while (event := self._http.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(self._timeout_s):
                    self._http.receive_data(await self._reader.read(1 << 16))
        return event

    @contextlib.contextmanager
    def _sentences(self, late: str) -> Iterator[None]:
        """Turn what the network says into sentences. `late`: what happened when time is over."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise ElsewhereError(
                f"Who answers as {self.host} cannot be checked ({error.verify_message}): nothing was asked."
            ) from None
        except TimeoutError:
            raise ElsewhereError(f"{self.host} {late}.") from None
        except OSError as error:
            # No word of the request can be in these: they come from the socket.
            raise ElsewhereError(
                f"{self.host} cannot be reached: {error.strerror or 'no network'}."
            ) from None
        except h11.RemoteProtocolError:
            raise ElsewhereError(f"{self.host} broke off, or does not speak HTTP.") from None
