"""Tools of MCP servers, each a function that a process may be allowed to call (Model Context Protocol).

Which servers there are says `mcp.toml` (servers.py); which of their tools a process sees, `twofold mcp trust`
(tools.py). A server is started when one of its tools is first called, and once more where it has died since.
What a tool does is unknown: a call counts as "send" unless the user knows better, and what it returns is the
text of a stranger, whatever the server claims.

Not covered: resources, prompts, sampling, elicitation, OAuth. A server that is a program has the rights of
the user: sandboxing it is left to how it is started.
"""

import base64
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.base.errors import MissingExtraError
from twofold.devices.mcp import servers, tools
from twofold.devices.mcp.servers import LeftError, Server, ServerError
from twofold.devices.mcp.tools import Tool
from twofold.kernel.device import Context, Device, DeviceError, Function, Returned
from twofold.kernel.flow import Label, Ring

if TYPE_CHECKING:
    import mcp_types

    from twofold.devices.mcp.sessions import Loop, Session

DESCRIPTION = "Tools of the MCP servers that you have named in mcp.toml and looked at."

_MOST_TEXT, _MOST_FILES, _MOST_FILE = 1_000_000, 16, 16 << 20  # characters, files, bytes of one
_MOST_DEPTH = 40  # of a value
_ENDINGS = {
    "image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp", "audio/wav": "wav",
    "audio/mpeg": "mp3", "application/pdf": "pdf", "text/plain": "txt", "text/csv": "csv",
}  # fmt: skip


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device. settings: `only`, the names of servers to take; default: all."""
    only = settings.get("only")
    found = {name: one for name, one in servers.known().items() if only is None or name in only}
    return Servers(found, {name: tools.trusted(one) for name, one in found.items()})


def look(server: Server) -> tuple[list[Tool], str]:
    """Return what a server offers now, and what it calls itself: start it, ask, end it.

    Raises ServerError, whose `said` is not to be trusted, and MissingExtraError.
    """
    device = Servers({server.name: server}, {})
    try:
        return device.offered(server.name)
    finally:
        device.close()


class Servers:
    """The device: the tools that the user has looked at, on servers that are started when needed."""

    def __init__(self, known: Mapping[str, Server], trusted: Mapping[str, Mapping[str, Tool]]) -> None:
        self._known = known
        self._tools = {
            f"{name}_{tool.call}": (known[name], tool)
            for name, offered in trusted.items()
            for tool in offered.values()
        }
        self._sessions: dict[str, Session] = {}
        self._live: dict[str, dict[str, str]] = {}  # by server: the digests of its tools as they are now
        self._locks = {name: threading.Lock() for name in known}
        self._lock = threading.Lock()
        self._loop: Loop | None = None

    def functions(self) -> Sequence[Function]:
        return [
            Function(
                name=name,
                description=tool.description,
                parameters=tool.parameters,
                effect=tool.effect(server),  # which arguments say where to is unknown: each counts as that
            )
            for name, (server, tool) in self._tools.items()
        ]

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        server, tool = self._tools[function]
        again = tool.effect(server).repeatable
        while True:
            try:
                session = self._session(server, context.cancelled)
                self._same(server, tool)
                result = self._running().run(session.call(tool.name, arguments), context.cancelled)
                return _read(result, server, context)
            except ServerError as error:
                if error.answered:  # it is the server's, and labelled as such
                    return _returned({"error": _plain(error.said)}, None, server, ())
                if error.lost and again:
                    again = False
                    continue
                doubt = " Nobody knows whether the call was carried out." if error.lost else ""
                raise DeviceError(f"{error}{doubt}") from None
            except (LeftError, MissingExtraError) as error:
                raise DeviceError(str(error)) from None

    def offered(self, name: str) -> tuple[list[Tool], str]:
        """Return the tools that a server offers, and what it calls itself."""
        session = self._session(self._known[name])
        return self._running().run(self._list(session)), session.title

    def close(self) -> None:
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            for session in self._sessions.values():
                loop.run(session.end())
            self._sessions.clear()
            loop.close()

    def _running(self) -> "Loop":
        with self._lock:
            if self._loop is None:
                try:
                    from twofold.devices.mcp.sessions import Loop
                except ImportError:
                    raise MissingExtraError("asking MCP servers", "os") from None
                self._loop = Loop()
            return self._loop

    def _same(self, server: Server, tool: Tool) -> None:
        """Raise DeviceError where a server says otherwise of a tool than when the user looked at it."""
        if self._live[server.name].get(tool.name) != tool.digest:
            raise DeviceError(
                f"The server {server.name!r} says otherwise of {tool.call} than when the user looked at it: "
                f"`twofold mcp trust {server.name}` shows what."
            )

    def _session(self, server: Server, cancelled: Callable[[], bool] = lambda: False) -> "Session":
        """Return a conversation with a server, begun now where there is none, or where it has ended."""
        with self._locks[server.name]:
            loop = self._running()
            session = self._sessions.get(server.name)
            if session is None or session.over:
                if session is not None:
                    loop.run(session.end())
                session = loop.run(_begun(server), cancelled)
                self._sessions[server.name] = session
            if not session.fresh:
                listed = loop.run(self._list(session), cancelled)
                self._live[server.name] = {tool.name: tool.digest for tool in listed}
            return session

    async def _list(self, session: "Session") -> list[Tool]:
        offered = await session.tools()
        return [tools.read(one.model_dump(mode="json", by_alias=True)) for one in offered]


async def _begun(server: Server) -> "Session":
    from twofold.devices.mcp.sessions import Session

    session = Session(server)
    await session.begin()
    return session


# --- results


def _read(result: "mcp_types.CallToolResult", server: Server, context: Context) -> Returned:
    """Return what a tool returned: its structured content, else its text; pictures and such as files."""
    texts: list[str] = []
    files: list[str] = []
    for block in result.content:
        resource = getattr(block, "resource", block)  # what is embedded lies one level deeper
        data = getattr(block, "data", None) or getattr(resource, "blob", None)
        text = getattr(resource, "text", None)
        if data is not None:
            kept = _keep(data, getattr(resource, "mime_type", None), len(files), context)
            files += [kept] if kept else []
            texts.append(f"[file {kept}]" if kept else "[a file that was left out]")
        elif text is not None:
            texts.append(text)
        elif (uri := getattr(block, "uri", None)) is not None:
            texts.append(f"[link: {uri}]")
    text = _plain("\n".join(texts))
    value = text if result.structured_content is None else _plain(result.structured_content)
    if result.is_error:
        return _returned({"error": text}, None, server, files)
    return _returned(value, text or None, server, files)


def _returned(value: Any, text: str | None, server: Server, files: Sequence[str]) -> Returned:
    # A server may hand on what only the user may see (mail, files), so nobody else may see it by default.
    source = f"mcp:{server.name}"
    label = Label(Ring.TOOL, frozenset({"user", source}), frozenset({source}))
    return Returned(value=value, label=label, files=tuple(files), text=text)


def _keep(data: str, kind: str | None, number: int, context: Context) -> str | None:
    """Return the name of a file in the process's folder, written from base64; None when it is none."""
    if number >= _MOST_FILES or len(data) > _MOST_FILE * 4 // 3:
        return None
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        return None
    call = re.sub(r"[^A-Za-z0-9-]", "-", context.call)
    name = f"mcp-{call}-{number}.{_ENDINGS.get((kind or '').lower(), 'bin')}"
    context.workspace.mkdir(parents=True, exist_ok=True)
    Path(context.workspace, name).write_bytes(content)
    return name


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value as JSON that everybody can read: whole characters, finite numbers, not too deep."""
    if isinstance(value, str):
        whole = value.encode("utf-8", "replace").decode()
        left = len(whole) - _MOST_TEXT
        return whole if left <= 0 else f"{whole[:_MOST_TEXT]} … [{left:,} characters more]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping | list) and depth > _MOST_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return value
