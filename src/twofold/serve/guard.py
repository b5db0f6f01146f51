"""Who may ask: the key, and on the machine's own loopback only programs and pages of this machine.

A page from elsewhere that a browser has open could ask a server on loopback, by its address (the browser
then names the page as `Origin`) or by a name of its own that it lets point there (DNS rebinding; `Host` is
then that name). Both are turned away. Keys are compared in constant time.

What speaks for the user (processes, apps) must also come from the user: `Users`. A page that a process has
opened in a browser, on this machine too, is turned away by what browsers say of where a request comes from; a
process that fetches an address cannot send the header.
"""

import hmac
from collections.abc import Callable, Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from twofold.serve.refusals import Refusal
from twofold.serve.settings import LOOPBACK, Settings

_SAFE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-site",
}
HEADER = "x-twofold"  # any value: it comes from the app, or from a program that speaks for the user
_OPEN = "/health"  # without a key; so are the web app's files: the app asks for the key


class Guard:
    """Lets through what may pass, and gives every answer the headers that browsers need to be careful."""

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        key: str | None,
        keyed: Collection[str],
        refuse: Callable[[str, Refusal], dict[str, object]],
    ) -> None:
        """Guard `app`. keyed: the beginnings of paths, such as /v1, that want the key where there is one."""
        self.app, self.settings, self.key, self.keyed, self.refuse = app, settings, key, keyed, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def safe(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))  # type: ignore[call-overload]
                there = {name for name, _ in headers}
                message["headers"] = headers + [pair for pair in _SAFE.items() if pair[0] not in there]
            await send(message)

        try:
            self._check(scope["path"], scope["method"], Headers(scope=scope))
        except Refusal as no:
            await JSONResponse(self.refuse(scope["path"], no), no.status)(scope, receive, safe)  # type: ignore[arg-type]
            return
        await self.app(scope, receive, safe)  # type: ignore[arg-type]

    def _check(self, path: str, method: str, headers: Headers) -> None:
        settings = self.settings
        if settings.loopback and _host(headers.get("host", "")) not in (*LOOPBACK, *(settings.hosts or ())):
            raise Refusal("forbidden", "It answers to localhost only; `--set hosts=[NAME]` adds a name.")
        origin = headers.get("origin")
        if origin is not None and not self._welcome(origin, headers.get("host", "")):
            raise Refusal("forbidden", "This web page may not ask here; `--set origins=[PAGE]` lets it.")
        if self.key is not None and method != "OPTIONS" and self._locked(path):
            given = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("x-api-key", "")
            if not hmac.compare_digest(given.encode(), self.key.encode()):
                raise Refusal("key", "This server wants a key: send it as `Authorization: Bearer KEY`.")

    def _locked(self, path: str) -> bool:
        return path != _OPEN and any(path == at or path.startswith(f"{at}/") for at in self.keyed)

    def _welcome(self, origin: str, host: str) -> bool:
        """Whether a web page may ask: the server's own, one of this machine, or one that was let in."""
        try:
            page = urlsplit(origin)
        except ValueError:
            return False
        if origin in (self.settings.origins or ()) or page.netloc == host:
            return True
        return self.settings.loopback and page.hostname in LOOPBACK


class Users:
    """Lets through what the user asks: by the app's own pages, or by a program that says so."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Refusal], dict[str, object]]) -> None:
        self.app, self.refuse = app, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if HEADER in headers and headers.get("sec-fetch-site", "same-origin") == "same-origin":
            await self.app(scope, receive, send)
            return
        no = Refusal("forbidden", f"Only the web app, and programs that send {HEADER}, may ask for this.")
        await JSONResponse(self.refuse(no), no.status)(scope, receive, send)


def _host(header: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
