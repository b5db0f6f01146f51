"""A page with its scripts run, in the system's Chromium, by Playwright; called by devices/browser.py alone.

Chromium gets no network: names do not resolve in it, its proxy is a port where nobody listens, and each
request of a page is answered here, by `_web.fetch`, or not at all. Answered is what is read (GET) from the
page's own host, hosts beneath it, and what the process's scope names. Pictures, fonts and films are left out.
Each page has a browser of its own that is thrown away, so no page finds what another left.
"""

import os
import shutil
import time
from dataclasses import dataclass
from typing import Any

from twofold.base.errors import BadFileError, MissingExtraError
from twofold.devices import _pages, _web
from twofold.devices._pages import WebPage
from twofold.kernel.device import DeviceError

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SECONDS = 30.0
_MOST_REQUESTS = 80
_WANTED = ("document", "script", "xhr", "fetch", "stylesheet", "other")
_QUIET_MS = 700  # nothing was asked for so long: the page is there
# Port 9 is `discard`: where a request slips past the answers below, nobody listens.
_FLAGS = (
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=<-loopback>", "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-pings", "--disable-domain-reliability",
    "--disable-breakpad", "--disable-dev-shm-usage",
)  # fmt: skip
_PASSED_ON = ("content-type", "content-security-policy", "access-control-allow-origin",
              "access-control-allow-headers", "access-control-allow-credentials")  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """program: Chromium's path; found where it usually is unless said. sandbox: Chromium's own."""

    program: str | None = None
    sandbox: bool = True


def program(settings: Settings) -> str:
    """Return Chromium's path. Raises DeviceError when there is none, or when it would run unprotected."""
    found = settings.program or next((path for name in _NAMES if (path := shutil.which(name))), None)
    if found is None:
        raise DeviceError("There is no Chromium on this machine: install it, or use browser_read.")
    if settings.sandbox and hasattr(os, "geteuid") and os.geteuid() == 0:
        raise DeviceError(
            "Chromium's own sandbox does not work for root: run twofold as a user, or set `sandbox = false` "
            "under [browser] in devices.toml."
        )
    return found


def render(url: str, reach: _web.Reach, settings: Settings) -> tuple[str, WebPage]:
    """Return where a page ended up, and what it shows once its scripts have run. Raises DeviceError."""
    path = program(settings)
    try:
        import playwright.sync_api as api
    except ImportError as error:
        raise DeviceError(str(MissingExtraError("Rendering pages", "browser"))) from error
    first = _web.address(url)
    visit = _Visit(first, reach)
    try:
        with api.sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=path, args=list(_FLAGS), chromium_sandbox=settings.sandbox, timeout=30_000
            )
            try:
                return visit.read(browser)
            finally:
                browser.close()
    except api.Error as error:
        if visit.refused:
            raise visit.refused from None
        raise DeviceError(f"Chromium cannot show {first.url} ({str(error).splitlines()[0][:100]}).") from None


class _Visit:
    """One page being opened; `refused` is why its own document did not come."""

    def __init__(self, first: _web.Address, reach: _web.Reach) -> None:
        self._first, self._reach = first, reach
        self._end = time.monotonic() + _SECONDS
        self._count = 0
        self._last = time.monotonic()
        self.refused: DeviceError | None = None

    def read(self, browser: Any) -> tuple[str, WebPage]:
        """Open the page, wait until it asks for nothing more, and read it."""
        context = browser.new_context(
            accept_downloads=False, service_workers="block", java_script_enabled=True, locale="en-GB"
        )
        context.set_default_timeout(_SECONDS * 1_000)
        page = context.new_page()
        page.on("popup", lambda opened: opened.close())
        context.route("**/*", self._answer)
        page.goto(self._first.url, wait_until="domcontentloaded")
        while time.monotonic() < self._end and not self._reach.cancelled():
            page.wait_for_timeout(100)
            if (time.monotonic() - self._last) * 1_000 > _QUIET_MS:
                break
        if self.refused:
            raise self.refused
        try:
            found = _pages.parse(page.content().encode(), "utf-8", page.url)
        except BadFileError as error:
            raise DeviceError(f"{page.url}: {error}") from None
        return page.url, found

    def _answer(self, route: Any) -> None:
        request = route.request
        self._last = time.monotonic()
        top = request.is_navigation_request() and request.frame.parent_frame is None
        try:
            if not self._may(request, top):
                route.abort("blockedbyclient")
                return
            left = self._end - time.monotonic()
            reach = _web.Reach(
                scope=self._reach.scope, private=self._reach.private, cancelled=self._reach.cancelled,
                resolve=self._reach.resolve, seconds=max(0.1, min(left, _web.SECONDS)),
            )  # fmt: skip
            answer = _web.fetch(request.url, reach)
        except DeviceError as error:
            if top:
                self.refused = error
            route.abort("failed")
            return
        headers = {name: answer.headers[name] for name in _PASSED_ON if name in answer.headers}
        route.fulfill(status=200, headers=headers, body=answer.body)
        self._last = time.monotonic()

    def _may(self, request: Any, top: bool) -> bool:
        """Return whether a request of the page is answered."""
        self._count += 1
        if request.method != "GET" or request.resource_type not in _WANTED or self._count > _MOST_REQUESTS:
            return False
        where = _web.address(request.url)
        own = self._first.host.removeprefix("www.")
        same = where.host == self._first.host or where.host.removeprefix("www.") == own
        beneath = where.host.endswith(f".{own}") and not _web.literal(own)
        inside = (same and where.port == self._first.port) or beneath or _web.within(where, self._reach.scope)
        if top and not inside:
            self.refused = DeviceError(
                f"{self._first.place} sends on to {where.url}, which has to be asked for itself."
            )
        return inside
