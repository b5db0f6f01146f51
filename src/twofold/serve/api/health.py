"""Whether the server is well, and what it has counted: /health, /metrics, /openapi.json."""

from typing import Any

from twofold import __version__
from twofold.serve import openapi
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]


async def health(request: Request) -> dict[str, Any]:
    """Return that it is well, and what is loaded."""
    loaded = [served.name for served in request.state.models.loaded()]
    return {"status": "ok", "version": __version__, "loaded": loaded}


async def metrics(request: Request) -> str:
    """Return the counts as Prometheus reads them."""
    loaded = request.state.models.loaded()
    gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("twofold_models_loaded", ()): len(loaded),
        ("twofold_models_bytes", ()): sum(served.bytes for served in loaded),
    }
    for served in loaded:
        for name, value in served.batcher.figures().items():
            gauges["twofold_batcher", (("figure", name), ("model", served.name))] = value
    return request.state.metrics.text(gauges)


async def description(request: Request) -> dict[str, Any]:
    """Return the OpenAPI document."""
    return openapi.document()


OPERATIONS = [
    Operation("GET", "/health", "Whether the server is well.", health),
    Operation("GET", "/openapi.json", "This description.", description),
    Operation("GET", "/metrics", "Counts and gauges for Prometheus.", metrics, gives={"type": "string"}),
]
