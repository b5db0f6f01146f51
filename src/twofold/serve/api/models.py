"""Which models there are: /v1/models, with the fields that OpenAI's and Anthropic's clients look for."""

import datetime
from pathlib import Path
from typing import Any

from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]


async def listed(request: Request) -> Result:
    """Return all models, the one that is meant when none is named first."""
    data = [_model(name, path) for name, path in request.state.models.known().items()]
    if data:
        data[0]["default"] = True
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
    return {"object": "list", "data": data, "has_more": False, **ends}


async def one(request: Request) -> Result:
    """Return one model. Raises Refusal when there is none of that name."""
    return _model(*request.state.models.resolve(request.path["name"]))


def _model(name: str, path: Path) -> dict[str, Any]:
    created = path.stat().st_mtime if path.exists() else 0.0
    when = datetime.datetime.fromtimestamp(created, datetime.UTC).isoformat(timespec="seconds")
    return {
        "id": name, "object": "model", "created": int(created), "owned_by": "this machine",
        "type": "model", "display_name": name, "created_at": when.replace("+00:00", "Z"),
    }  # fmt: skip


OPERATIONS = [
    Operation("GET", "/v1/models", "All models.", listed),
    Operation("GET", "/v1/models/{name:path}", "One model.", one),
]
