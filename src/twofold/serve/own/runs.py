"""Training runs, live: how far each is, and its records as they come."""

import asyncio

from starlette.routing import BaseRoute

from twofold.base.errors import UsageError
from twofold.measure import runs
from twofold.serve import operations
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result
from twofold.serve.own import whole_number
from twofold.serve.refusals import Refusal
from twofold.serve.request import Request
from twofold.serve.state import State

MOST = 100_000  # records in one answer


async def listing(request: Request) -> Result:
    """Return every run in runs/."""
    return await asyncio.to_thread(runs.all_runs)


async def one(request: Request) -> Result:
    """Return the records of a run since `from`, and the `next` place to ask from."""
    start = whole_number(request.query, "from", 0)
    most = whole_number(request.query, "most", MOST)
    try:
        found, place, anew = await asyncio.to_thread(runs.records, request.path["name"], start, most)
    except UsageError as error:
        raise Refusal("unknown", str(error)) from error
    return {"records": found, "next": place, "anew": anew}


OPERATIONS = [
    Operation("GET", "/twofold/runs", "How far each training run is.", listing),
    Operation("GET", "/twofold/runs/{name}", "The records of a run since ?from=, thinned to ?most=.", one),
]


def routes(state: State) -> list[BaseRoute]:
    """Return the routes."""
    return [*operations.routes(state, OPERATIONS, FAMILY)]
