"""Which models there are: /v1/models, with the fields that OpenAI's and Anthropic's clients look for."""

import datetime
from pathlib import Path
from typing import Any

from twofold.kernel.elsewhere import Kernel
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]


async def listed(request: Request) -> Result:
    """Return all models, the one that is meant when none is named first."""
    data = [_model(name, path) for name, path in request.state.models.known().items()]
    data += [_elsewhere(kernel) for kernel in request.state.models.elsewhere().values()]
    if data:
        data[0]["default"] = True
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"object": "list", "data": data, "has_more": False, **ends}


async def one(request: Request) -> Result:
    """Return one model. Raises Refusal when there is none of that name."""
    if kernel := request.state.models.kernel(request.path["name"]):
        return _elsewhere(kernel)
    return _model(*request.state.models.resolve(request.path["name"]))


def _model(name: str, path: Path) -> dict[str, Any]:
    created = path.stat().st_mtime if path.exists() else 0.0
    when = datetime.datetime.fromtimestamp(created, datetime.UTC).isoformat(timespec="seconds")
    return {
        "id": name, "object": "model", "created": int(created), "owned_by": "this machine",
        "type": "model", "display_name": name, "created_at": when.replace("+00:00", "Z"),
    }  # fmt: skip


def _elsewhere(kernel: Kernel) -> dict[str, Any]:
    return {
        "id": kernel.name, "object": "model", "created": 0, "owned_by": kernel.family,
        "type": "model", "display_name": kernel.name, "created_at": "1970-01-01T00:00:00Z",
    }  # fmt: skip


OPERATIONS = [
    Operation("GET", "/v1/models", "All models.", listed),
    Operation("GET", "/v1/models/{name:path}", "One model.", one),
]
