"""Models on the shelf: what there is, fetching one with its progress told, removing one."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.routing import BaseRoute

from twofold import pull
from twofold.base.errors import TwofoldError
from twofold.pull import names, shelf
from twofold.pull.download import StoppedError
from twofold.pull.pulling import Plan
from twofold.pull.web import BrokenError
from twofold.run import pulled
from twofold.serve import operations
from twofold.serve.fields import flag, record, text
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result, event
from twofold.serve.refusals import Refusal, refusal
from twofold.serve.request import Request
from twofold.serve.state import State

EVERY_S = 0.1  # between two events about progress

TAKES = record(
    {
        "name": text("As for `twofold pull`."),
        "type": text("A file type to take, or to convert to."),
        "as": text("What to call it."),
        "dry": flag("Only say what would come."),
    },
    ["name"],
)


async def listing(request: Request) -> Result:
    """Return every model that is served, with what is known of it."""
    state = request.state
    loaded = {served.name for served in state.models.loaded()}
    predict = request.query.get("predict", "1") != "0"

    def described() -> list[dict[str, Any]]:
        return [
            {**shelf.about(name, path, predict=predict).record(), "loaded": name in loaded, "default": first}
            for first, (name, path) in zip(
                [True] + [False] * len(state.models.known()), state.models.known().items(), strict=False
            )
            if path.exists()
        ]

    return await asyncio.to_thread(described)


async def unfinished(request: Request) -> Result:
    """Return the models of which only a part has come: {name, bytes}."""
    found = await asyncio.to_thread(pulled.unfinished)
    return [{"name": name, "bytes": size} for name, size in found.items()]


async def fetch(request: Request) -> Result:
    """Plan, and stream the progress; a client that goes away stops it, and what has come is kept."""
    body = request.body
    name = body["name"]
    if not request.state.settings.loopback and names.there(name) is not None:
        raise Refusal("forbidden", "A path is pulled only on the machine itself: give a name on the hub.")
    try:
        plan = await asyncio.to_thread(pull.plan, name, body.get("type"), body.get("as"))
    except TwofoldError as error:
        raise Refusal("busy" if isinstance(error, BrokenError) else "invalid", str(error)) from error
    return _progress(plan, dry=bool(body.get("dry")))


async def _progress(plan: Plan, *, dry: bool) -> AsyncIterator[str]:
    yield event({
        "name": plan.name, "from": plan.where, "type": plan.type, "license": plan.license,
        "download_bytes": plan.download_bytes, "bytes": plan.file_bytes, "memory_bytes": plan.memory_bytes,
        "tight": plan.tight, "here": plan.there, "predicted_tokens_per_s": plan.tokens_per_s,
    })  # fmt: skip
    if dry:
        return
    loop, news = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()
    gone = threading.Event()
    told_at, told = 0.0, ""

    def tell(what: str, done: int, total: int) -> None:
        nonlocal told_at, told
        now = time.monotonic()
        if now - told_at >= EVERY_S or what != told or done >= total:
            told_at, told = now, what
            loop.call_soon_threadsafe(news.put_nowait, {"file": what, "done": done, "total": total})

    def work() -> None:
        try:
            pull.carry_out(plan, tell, gone.is_set)
            end: dict[str, Any] = {"finished": True, "name": plan.name}
        except StoppedError:
            return
        except OSError as error:
            end = {"error": f"{error.strerror or error}: {plan.name} is not whole."}
        except Exception as error:
            end = {"error": str(refusal(error))}
        loop.call_soon_threadsafe(news.put_nowait, end)

    loop.run_in_executor(None, work)
    try:
        while True:
            one = await news.get()
            yield event(one)
            if "finished" in one or "error" in one:
                return
    finally:
        gone.set()


async def remove(request: Request) -> Result:
    """Take a pulled model out of memory and off the shelf."""
    name = request.path["name"]
    known = await asyncio.to_thread(
        lambda: {model.name for model in pulled.models()} | set(pulled.unfinished())
    )
    if name not in known:
        here = name in request.state.models.known()
        raise Refusal("forbidden" if here else "unknown", f"{name!r} was not pulled: it is not removed here.")
    await request.state.models.unload(name)
    await asyncio.to_thread(pulled.remove, name)
    return {"removed": name}


OPERATIONS = [
    Operation("GET", "/twofold/models", "Every model, and how fast it is likely to run here.", listing),
    Operation("DELETE", "/twofold/models/{name}", "Remove a pulled model.", remove),
    Operation("POST", "/twofold/pull", "Fetch a model, telling its progress.", fetch, TAKES),
    Operation("GET", "/twofold/pull", "What has come of models that are not whole yet.", unfinished),
]


def routes(state: State) -> list[BaseRoute]:
    """Return the routes."""
    return [*operations.routes(state, OPERATIONS, FAMILY)]
