"""Browser: a page of the web as text, with its tables and numbered links; with its scripts run, where asked.

`read` fetches (see _web.py for how far it may go) and keeps the main part. `render` opens the page in the
system's Chromium first, for pages that scripts put together: Chromium itself has no network at all, every
request is answered by the same fetch under the same scope, and nothing can be downloaded, sent or remembered.

What a page says is a stranger's word: ring TOOL, with its host as source. Not covered: forms, clicks, logins.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.base.errors import BadFileError, UsageError
from twofold.devices import _chromium, _documents, _forms, _pages, _web
from twofold.devices._pages import WebPage
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import Label, Ring, Tainted

DESCRIPTION = "Fetches web pages and reads them: text, tables, numbered links."
PART = 6_000  # characters that are shown at a time

_URL = _forms.text("its address", longest=2_000)
_PART = {
    "type": "integer",
    "minimum": 1,
    "maximum": 2_000,
    "description": "of a long page; the first unless said",
}
_LINKS = 12  # that are read in one call
_LINK = {
    "type": ["integer", "array"],
    "minimum": 1,
    "maximum": 500,
    "items": {"type": "integer", "minimum": 1, "maximum": 500},
    "maxItems": _LINKS,
    "description": "of its numbered links the one to read, or a list of some, in place of the page itself",
}
_FUNCTIONS = (
    Function(
        name="read",
        description="Reads a web page, or what its numbered links lead to.",
        parameters=_forms.object_of({"url": _URL, "link": _LINK, "part": _PART}, required=("url",)),
        effect=Effect.FETCH,
        targets=("url",),
        contents=("link",),  # it says no more than a number, and the scope still holds
    ),
    Function(
        name="links",
        description="Lists where a web page leads.",
        parameters=_forms.object_of({"url": _URL}, required=("url",)),
        effect=Effect.FETCH,
        targets=("url",),
    ),
    Function(
        name="render",
        description="Reads a web page that needs its scripts, in a real browser. Slower.",
        parameters=_forms.object_of({"url": _URL, "part": _PART}, required=("url",)),
        effect=Effect.FETCH,
        targets=("url",),
    ),
)  # fmt: skip


class Browser:
    """The device. It remembers nothing from one call to the next."""

    def __init__(self, private: Sequence[str], chromium: _chromium.Settings) -> None:
        self._private, self._chromium = tuple(private), chromium

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return _FUNCTIONS

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return a page, or its links. Raises DeviceError."""
        _forms.check(_FUNCTIONS, function, arguments)
        reach = _web.Reach(scope=context.scope, private=self._private, cancelled=context.cancelled)
        if function == "render":
            url, page = _chromium.render(arguments["url"], reach, self._chromium)
        else:
            answer = _web.fetch(arguments["url"], reach)
            url, page = answer.url, _read(answer)
            link = arguments.get("link")
            if isinstance(link, list):
                found = [_followed(page, url, number, reach) for number in link]
                parts = [(where, text, arguments.get("part", 1), _label(where)) for where, text in found]
                label = Label(Ring.USER, None, _label(url).sources)  # how many there are, the caller said
                return Returned(value=[Tainted(_shown(*part).text, part[-1]) for part in parts], label=label)
            if link is not None:
                url, page = _followed(page, url, link, reach)
        label = _label(url)
        if function == "links":
            return Returned(value={"url": url, "links": _numbered(page)}, text=_listed(page), label=label)
        return _shown(url, page, arguments.get("part", 1), label)

    def close(self) -> None:
        """Do nothing: no browser is left open."""


def _label(url: str) -> Label:
    return Label(Ring.TOOL, None, frozenset({f"web:{_web.address(url).host}"}))


def _followed(page: WebPage, url: str, number: int, reach: _web.Reach) -> tuple[str, WebPage]:
    """Return address and page behind a numbered link. Raises DeviceError."""
    answer = _web.fetch(_target(page, url, number, reach), reach)
    return answer.url, _read(answer)


def _read(answer: _web.Answer) -> WebPage:
    """Return what was fetched as a page, whatever its kind."""
    name = _web.address(answer.url).path.partition("?")[0].rpartition("/")[2]
    media = answer.media or "text/html"
    try:
        if media in ("text/html", "application/xhtml+xml"):
            return _pages.parse(answer.body, answer.charset, answer.url)
        if media == "application/pdf" or media.startswith(("application/octet-stream", "application/vnd.")):
            kind = "pdf" if media == "application/pdf" else _documents.kind(name)
            if kind is None:
                raise DeviceError(f"{answer.url} is a file of the kind {media}, which cannot be read.")
            document = _documents.parse(answer.body, kind, name or "it")
            return WebPage(document.title or name, document.text, ())
        if media == "application/json" or media.endswith("+json"):
            return WebPage(name, _json(answer.body), ())
        if media.startswith("text/") or media.endswith(("xml", "javascript")):
            return WebPage(name, _documents.parse(answer.body, "plain", name or "it").text, ())
    except BadFileError as error:
        raise DeviceError(f"{answer.url}: {error}") from None
    raise DeviceError(f"{answer.url} is of the kind {media[:60]!r}, which cannot be read as text.")


def _json(data: bytes) -> str:
    text = _documents.parse(data, "plain", "it").text
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _parts(text: str) -> list[str]:
    """Return a text in parts of about PART characters, cut between lines or words where that can be."""
    parts = []
    while len(text) > PART:
        cut = max(text.rfind("\n", PART // 2, PART), text.rfind(" ", PART * 9 // 10, PART))
        cut = cut if cut > 0 else PART
        parts.append(text[:cut])
        text = text[cut:].lstrip()
    return [*parts, text] if text or not parts else parts


def _shown(url: str, page: WebPage, part: int, label: Label) -> Returned:
    parts = _parts(page.text)
    if part > len(parts):
        raise DeviceError(f"{url} has {len(parts)} parts, not {part}.")
    text = parts[part - 1]
    links = [link for link in _numbered(page) if f"[{link['number']}]" in text]
    head = [page.title or url, url, *([f"(part {part} of {len(parts)})"] if len(parts) > 1 else [])]
    tail = "\n".join(f"[{link['number']}] {link['url']}" for link in links)
    value = {
        "url": url, "title": page.title, "text": text, "part": part, "parts": len(parts), "links": links,
    }  # fmt: skip
    return Returned(value=value, text="\n\n".join(filter(None, ("\n".join(head), text, tail))), label=label)


def _target(page: WebPage, url: str, number: int, reach: _web.Reach) -> str:
    """Return where a numbered link leads. Raises DeviceError when there is none, or it leaves the scope."""
    if number > len(page.links):
        raise DeviceError(f"{url} has {len(page.links)} links, and none with the number {number}.")
    found = _web.address(page.links[number - 1].url)
    if reach.scope and not _web.within(found, reach.scope):
        raise DeviceError(f"Link {number} leads to {found.url}, which has to be asked for itself.")
    return found.url


def _numbered(page: WebPage) -> list[dict[str, Any]]:
    return [{"number": n, "text": link.text, "url": link.url} for n, link in enumerate(page.links, 1)]


def _listed(page: WebPage) -> str:
    lines = [f"[{link['number']}] {link['text']}: {link['url']}" for link in _numbered(page)]
    return "\n".join(lines) or "There are no links on this page."


def open(settings: Mapping[str, Any]) -> Device:
    """Return the browser.

    Settings: `private`, hosts on private addresses that may be read; `chromium`, the browser's program;
    `sandbox = false`, which lets Chromium run as root, without its own sandbox.
    """
    _forms.settings("browser", settings, ("private", "chromium", "sandbox"))
    private = settings.get("private", ())
    if not isinstance(private, list | tuple) or any(not isinstance(one, str) for one in private):
        raise UsageError("devices.toml, [browser]: `private` is a list of hosts.")
    return Browser(
        private,
        _chromium.Settings(settings.get("chromium"), sandbox=settings.get("sandbox", True) is not False),
    )
