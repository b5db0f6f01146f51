"""The web app's files at `/`, with headers under which a browser runs nothing but them."""

from pathlib import Path

from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

FOLDER = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    # A browser may look up the hosts of links it shows, and an answer could tell a secret by such a name.
    "x-dns-prefetch-control": "off",
}


class _Files(StaticFiles):
    """Files whose kind does not depend on the machine's own table of kinds."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        hashed = "/assets/" in path  # their names change with what they hold
        own = {
            **_HEADERS,
            "cache-control": "public, max-age=31536000, immutable" if hashed else "no-cache",
        }
        if kind := _TYPES.get(Path(path).suffix):
            own["content-type"] = f"{kind}; charset=utf-8"

        async def careful(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                given = [(k, v) for k, v in message.get("headers", ()) if k.decode() not in own]  # type: ignore[attr-defined]
                message["headers"] = [*given, *((k.encode(), v.encode()) for k, v in own.items())]
            await send(message)

        await super().__call__(scope, receive, careful)  # type: ignore[arg-type]


def routes(folder: Path = FOLDER) -> list[BaseRoute]:
    """Return the route of the web app; a sentence where it was not built."""
    if folder.is_dir():
        return [Mount("/", _Files(directory=folder, html=True))]

    async def missing(_: object) -> PlainTextResponse:
        return PlainTextResponse("twofold is serving. The web app was not built into this installation.")

    return [Route("/", missing)]
