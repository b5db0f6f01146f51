"""Listening: uvicorn over the application, with patience for slow clients that ends, and a graceful stop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from twofold.base.errors import TwofoldError
from twofold.serve.operations import HANG_UP
from twofold.serve.settings import Settings

_IDLE_S = 75  # that a connection may rest between requests: longer than clients' own, lest one is cut off


def _protocol(patience_s: float) -> type[H11Protocol]:
    """Return uvicorn's protocol, which hangs up on a client that does not finish the head of its request."""

    class Patient(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.app_state = {**self.app_state, HANG_UP: transport.abort}
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            super().connection_lost(exc)

        def _watch(self) -> None:
            if (
                self.conn.their_state is not h11.IDLE
            ):  # a whole head is there: the application has its own clock
                self._rest()
            elif self._waiting is None:
                self._waiting = self.loop.call_later(patience_s, self.transport.close)

        def _rest(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

    return Patient


def server(app: ASGIApp, settings: Settings) -> uvicorn.Server:
    """Return a server that is not running yet."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=_protocol(settings.patience_s),
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=settings.connections,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        h11_max_incomplete_event_size=64 * 1024,
    )
    return uvicorn.Server(config)


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens. Raises TwofoldError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named asyncio sets TCP_NODELAY; without, answers wait 40 ms for an acknowledgement.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(2048)
    except OSError as error:
        found.close()
        raise TwofoldError(
            f"{settings.host}, port {settings.port} cannot be had: {error.strerror}. Try another --port."
        ) from error
    return found


def address(listening: socket.socket) -> str:
    """Return where a socket listens, as http://127.0.0.1:8080."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True)
class Running:
    """A server in a thread: its address, such as http://127.0.0.1:8080, and what makes it stop."""

    url: str
    stop: Callable[[], None]


@contextlib.contextmanager
def running(app: ASGIApp, settings: Settings) -> Iterator[Running]:
    """Serve in a thread of its own for the length of a block."""
    made, listening = server(app, settings), listen(settings)
    thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]}, name="server")
    thread.start()

    def stop() -> None:
        made.should_exit = True

    try:
        while not made.started and thread.is_alive():
            thread.join(0.01)
        yield Running(address(listening), stop)
    finally:
        stop()
        thread.join()
        listening.close()
