"""Which models there are: /v1/models, as OpenAI lists them."""

from typing import Any

from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Request

__all__ = ["FAMILY", "OPERATIONS"]


async def listed(request: Request) -> dict[str, Any]:
    """Return all models."""
    return {"object": "list", "data": [_model(name, str(path)) for name, path in _known(request)]}


async def one(request: Request) -> dict[str, Any]:
    """Return one model. Raises Refusal when there is none of that name."""
    name, path = request.state.models.resolve(request.path["name"])
    return _model(name, str(path))


def _known(request: Request) -> list[tuple[str, Any]]:
    return list(request.state.models.known().items())


def _model(name: str, path: str) -> dict[str, Any]:
    import os

    created = int(os.path.getmtime(path)) if os.path.exists(path) else 0
    return {"id": name, "object": "model", "created": created, "owned_by": "this machine"}


OPERATIONS = [
    Operation("GET", "/v1/models", "All models.", listed),
    Operation("GET", "/v1/models/{name:path}", "One model.", one),
]
