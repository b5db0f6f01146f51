"""Which MCP servers the user has named: `mcp.toml` in the data folder, and files that other programs use.

    also = ["~/.config/editor/mcp.json"]  # of the form {"mcpServers": {…}}; mcp.json here is read anyway

    [servers.notes]
    command = ["notes-server", "--folder", "~/Notes"]
    environment = ["NOTES_TOKEN"]         # variables of yours that it is given; it sees no other
    folder = "~/Notes"                    # where it runs; default: an empty folder

    [servers.library]
    url = "https://library.example.org/mcp"
    key = "env:LIBRARY_KEY"               # or "keyring:service/user"; sent as `Authorization: Bearer …`

    [servers.library.effects]             # what you know about its tools; all others count as "send"
    search = "fetch"

Nothing is started or contacted by reading these. Not covered: the older HTTP+SSE transport, OAuth.
"""

import json
import os
import re
import tomllib
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from twofold.base import config, home
from twofold.base.errors import TwofoldError, UsageError
from twofold.kernel import keys, wire
from twofold.kernel.device import Effect

# A name stands before "_" in the names of functions, so that no two servers can share one.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_MOST = 1 << 20  # bytes of a file that names servers
_ELSEWHERE = (Effect.FETCH, Effect.SEND)  # what asking another machine can be


class ServerError(TwofoldError):
    """A server did not do what was asked. said: its own words, which nobody should trust.

    answered: whether they are its answer to a call. lost: nobody knows whether a call was carried out.
    """

    def __init__(self, sentence: str, *, said: str = "", answered: bool = False, lost: bool = False) -> None:
        super().__init__(sentence)
        self.said, self.answered, self.lost = said, answered, lost


class LeftError(TwofoldError):
    """Nobody waits for an answer any more."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server: a program to start, or an address to ask.

    `environment`: the variables that the program is given besides PATH. `headers`: sent with each request;
    `key`: where the key is that goes with them. `timeout_s`: for one call; `start_s`: until it is ready.
    `believe`: what its tools say of themselves counts. `file`: where the user has named it.
    """

    name: str
    command: tuple[str, ...] = ()
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    key: str | None = None
    timeout_s: float = 60.0
    start_s: float = 60.0
    believe: bool = False
    effects: Mapping[str, Effect] = field(default_factory=dict)
    file: Path = Path("mcp.toml")

    @property
    def here(self) -> bool:
        """Whether it runs on this machine."""
        return not self.url or urllib.parse.urlsplit(self.url).hostname in wire.LOOPBACK

    @property
    def spelled(self) -> str:
        """How it is started or where it is, for people, and to see that it is still the same."""
        return self.url or " ".join(self.command)


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A section [servers.NAME] of mcp.toml."""

    command: list[str] | None = None
    environment: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    url: str | None = None
    key: str | None = None
    timeout_s: float = 60.0
    start_s: float = 60.0
    believe: bool = False
    effects: dict[str, Literal["none", "read", "fetch", "write", "send"]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _File:
    """mcp.toml."""

    also: list[Path] = field(default_factory=list)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)


def file() -> Path:
    """Return where the user names servers; it need not exist."""
    return home.data_folder() / "mcp.toml"


def known(path: Path | None = None) -> dict[str, Server]:
    """Return the user's servers by name. Raises UsageError, which repeats no value of a variable."""
    path = path or file()
    found: dict[str, Server] = {}
    content = _File()
    if (text := _text(path)) is not None:
        try:
            content = config.build(_File, tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path} is not a TOML file: {error}.") from None
    for also in (path.with_name("mcp.json"), *(one.expanduser() for one in content.also)):
        found.update(_others(also, must=also.name != "mcp.json" or also.parent != path.parent))
    for name, section in content.servers.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{path}: a server's name has small letters, digits and '-' only, not {name!r}.")
        found[name] = _own(name, config.build(_Section, section, at=f"servers.{name}."), path)
    return found


def _own(name: str, section: _Section, path: Path) -> Server:
    where = f"{path}: [servers.{name}]"
    if section.key is not None and not keys.is_place(section.key):
        raise UsageError(
            f'{where}: `key` says where the key is ("env:VARIABLE" or "keyring:service/user") and is not the '
            "key itself: what stands in files is read by others."
        )
    given = {one: os.environ[one] for one in section.environment if one in os.environ}
    return _checked(
        Server(
            name=name,
            command=tuple(_home(word) for word in section.command or ()),
            folder=section.folder.expanduser() if section.folder else None,
            environment={**given, **section.variables},
            url=section.url or "",
            key=section.key,
            timeout_s=section.timeout_s,
            start_s=section.start_s,
            believe=section.believe,
            effects={tool: Effect(effect) for tool, effect in section.effects.items()},
            file=path,
        ),
        where,
    )


def _others(path: Path, *, must: bool) -> dict[str, Server]:
    """Return the servers of a file in the form of other programs. What else it says is not looked at."""
    text = _text(path)
    if text is None:
        if must:
            raise UsageError(f"There is no {path}, which `also` in mcp.toml names.")
        return {}
    try:
        content = json.loads(text)
        sections = content["mcpServers"].items()
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise UsageError(f'{path} is not of the form {{"mcpServers": {{NAME: {{"command": …}}}}}}.') from None
    found = {}
    for name, section in sections:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "server"
        where = f"{path}: {name[:40]!r}"
        if not isinstance(section, dict) or plain in found:
            raise UsageError(f"{where} is no server, or another has the same name in small letters.")
        if section.get("disabled") is not True:
            found[plain] = _checked(_foreign(plain, section, path, where), where)
    return found


def _foreign(name: str, section: dict[str, Any], path: Path, where: str) -> Server:
    if section.get("type") == "sse":
        raise UsageError(
            f"{where} speaks the older HTTP+SSE, which is not covered: look for its /mcp address."
        )
    try:
        command = section.get("command")
        return Server(
            name=name,
            command=() if command is None else (_set(command), *map(_set, section.get("args") or ())),
            folder=Path(_set(section["cwd"])).expanduser() if section.get("cwd") else None,
            environment={_set(key): _set(value) for key, value in (section.get("env") or {}).items()},
            url=_set(section.get("url") or section.get("serverUrl") or ""),
            headers={_set(key): _set(value) for key, value in (section.get("headers") or {}).items()},
            file=path,
        )
    except (TypeError, AttributeError, ValueError):
        raise UsageError(f"{where}: command, args, env, cwd, url and headers are texts.") from None


def _checked(server: Server, where: str) -> Server:
    if bool(server.command) == bool(server.url):
        raise UsageError(f"{where} needs a command to start or the url to ask, and not both.")
    if not all(0 < seconds <= 86_400 for seconds in (server.timeout_s, server.start_s)):
        raise UsageError(f"{where}: timeout_s and start_s are above 0, and a day at most.")
    if any("\0" in word for word in (*server.command, *server.environment, *server.environment.values())):
        raise UsageError(f"{where}: a command and its variables are without NUL characters.")
    if server.url and (wrong := wire.wrong(server.url)):
        raise UsageError(f"{where}: its url {wrong}.")
    if server.url and not wire.private(server.url):
        raise UsageError(f"{where}: over http:// others could read along: its url must begin with https://.")
    if any(not (text.isascii() and text.isprintable()) for pair in server.headers.items() for text in pair):
        raise UsageError(f"{where}: headers are lines of plain characters.")
    for tool, effect in server.effects.items():
        if not server.here and effect not in _ELSEWHERE:
            raise UsageError(
                f"{where}: asking another machine is never {effect.value!r}: "
                f"{tool} can be 'fetch' (the request itself goes there) or 'send'."
            )
    return server


def _text(path: Path) -> str | None:
    """Return what a file says, None when it is not there. Raises UsageError."""
    try:
        if path.stat().st_size > _MOST:
            raise UsageError(f"{path} is larger than {_MOST >> 20} MB: it names no servers.")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8.") from None


def _set(text: Any) -> str:
    """Return a text of another program's file, with the variables filled in that it names: ${NAME}."""
    if not isinstance(text, str):
        raise TypeError
    return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[2] or ""), text)


def _home(word: str) -> str:
    return os.path.expanduser(word) if word.startswith("~") else word
