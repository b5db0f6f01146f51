"""The application: all routes behind the guard."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from twofold.base.errors import TwofoldError
from twofold.serve import operations, static, turns
from twofold.serve.api import APIS
from twofold.serve.guard import Guard
from twofold.serve.own import OWN
from twofold.serve.refusals import Kind, Refusal
from twofold.serve.state import State

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_KINDS: dict[int, Kind] = {404: "unknown", 405: "method"}


def build(state: State) -> Starlette:
    """Return the application over `state`."""
    routes: list[BaseRoute] = []
    for name in APIS.names():
        api = APIS.get(name)
        routes += operations.routes(state, api.OPERATIONS, api.FAMILY)
    for name in OWN.names():
        routes += OWN.get(name).routes(state)
    paths = [route.path for route in routes if isinstance(route, Route)]
    routes += [Route(path, _other_method, methods=_METHODS) for path in dict.fromkeys(paths)]
    keyed = {"/" + path.split("/")[1] for path in paths}
    routes += static.routes()

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        turns.shorten()  # of this thread, which is the one that sends
        loading = asyncio.create_task(_preload(state))
        yield
        loading.cancel()
        for close in state.closing:
            await asyncio.to_thread(close)
        await state.models.close(state.settings.grace_s)

    pages = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?" if state.settings.loopback else None
    cors = Middleware(
        CORSMiddleware,
        allow_origins=state.settings.origins or (),
        allow_origin_regex=pages,
        allow_methods=["*"],
        allow_headers=["*"],
    )
    guard = Middleware(Guard, settings=state.settings, key=state.key, keyed=keyed, refuse=_refuse)
    return Starlette(
        routes=routes, lifespan=life, middleware=[guard, cors], exception_handlers={HTTPException: _no}
    )


async def _preload(state: State) -> None:
    """Load the first model, so that the first who asks need not wait."""
    if state.settings.preload:
        with contextlib.suppress(TwofoldError):  # who asks for it is told why
            await state.models.load(None)


def _refuse(path: str, no: Refusal) -> dict[str, Any]:
    """Return the body of a refusal in the form of the family that a path belongs to."""
    for name in reversed(APIS.names()):
        api = APIS.get(name)
        if any(path == one.path for one in api.OPERATIONS):
            return dict(api.FAMILY.refuse(no))
    return dict(APIS.get("chat_completions").FAMILY.refuse(no))


async def _other_method(request: Request) -> Response:
    """Answer a method that a path does not take, before the web app's files are asked for it."""
    raise HTTPException(405)


async def _no(request: Request, error: Exception) -> Response:
    """Answer a path or method that is not there."""
    assert isinstance(error, HTTPException)
    kind = _KINDS.get(error.status_code, "invalid")
    sentence = (
        f"There is nothing at {request.url.path}."
        if kind == "unknown"
        else f"{request.url.path} does not take {request.method}."
        if kind == "method"
        else f"{error.detail}."
    )
    return JSONResponse(_refuse(request.url.path, Refusal(kind, sentence)), error.status_code, error.headers)
