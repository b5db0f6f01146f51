"""The OpenAPI document: every operation of every API, from the same descriptions that check requests."""

from typing import Any

from twofold import __version__
from twofold.serve.api import APIS
from twofold.serve.operations import Operation

_CODES = {
    400: "not as described", 401: "no key, or a wrong one", 403: "not from there", 404: "no such model",
    408: "too slow", 413: "too large", 503: "busy: ask again later", 529: "busy: ask again later",
}  # fmt: skip


def document() -> dict[str, Any]:
    """Return the document, in version 3.1."""
    paths: dict[str, Any] = {}
    for name in APIS.names():
        api = APIS.get(name)
        for one in api.OPERATIONS:
            path = one.path.replace(":path}", "}")
            paths.setdefault(path, {})[one.method.lower()] = _operation(one, name)
    key = {"type": "http", "scheme": "bearer", "description": "Where the server was started with a key."}
    return {
        "openapi": "3.1.0",
        "info": {"title": "twofold", "version": __version__},
        "paths": paths,
        "components": {"securitySchemes": {"key": key}},
        "security": [{}, {"key": []}],
    }


def _operation(one: Operation, tag: str) -> dict[str, Any]:
    media = "text/plain" if one.gives.get("type") == "string" else "application/json"
    answers: dict[str, Any] = {
        "200": {"description": "The answer.", "content": {media: {"schema": one.gives}}}
    }
    failed = {"application/json": {"schema": {"type": "object"}}}
    for code, words in _CODES.items():
        answers[str(code)] = {"description": words, "content": failed}
    if one.takes and "stream" in one.takes["properties"]:
        answers["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
        answers["200"]["content"]["application/x-ndjson"] = {"schema": {"type": "string"}}
    found: dict[str, Any] = {"summary": one.summary, "tags": [tag], "responses": answers}
    if one.takes:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": one.takes}}}
    if "{name" in one.path:
        found["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
    return found
