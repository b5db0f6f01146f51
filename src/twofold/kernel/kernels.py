"""Open and closed kernels: which models on other servers have a name here, and asking one of them.

`kernels.toml` in the user's data folder names them; nothing is contacted before it is asked for by its name.

    [gpt]
    family = "openai"          # a file of backends/: openai (and what speaks like it), anthropic, ollama
    model = "gpt-5"
    key = "env:OPENAI_API_KEY" # or "keyring:service/user"; never the key itself
    url = "https://…/v1"       # default: the family's own server
    timeout_s = 120            # for how long nothing may come
    context = 32768            # tokens that a process may show it
    price_in = 1.25            # of a million tokens read, and price_out written: what budgets of money count

With a url of one's own no key is sent that the section does not name.
"""

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from twofold.base import config, home
from twofold.base.errors import UsageError
from twofold.kernel import keys, wire
from twofold.kernel.backends import BACKENDS
from twofold.kernel.elsewhere import Chat, ElsewhereError, Event, Kernel, complaint

_NAME = re.compile(r"[\w][\w.:/-]{0,99}")
_BUSY, _INVALID = (408, 429, 503, 529), (400, 413, 422)


@dataclass(frozen=True, kw_only=True)
class _Section:
    """A section of kernels.toml."""

    family: str
    model: str
    url: str | None = None
    key: str | None = None
    timeout_s: float = 120.0
    context: int = 32_768
    price_in: float = 0.0
    price_out: float = 0.0


def file() -> Path:
    """Return where the user names kernels; it need not exist."""
    return home.data_folder() / "kernels.toml"


def known(path: Path | None = None) -> dict[str, Kernel]:
    """Return the kernels of kernels.toml by name. Raises UsageError, which never repeats a key."""
    path = path or file()
    try:
        sections = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from None
    except ValueError as error:
        where = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "it is not UTF-8"
        raise UsageError(f"{path} is not a TOML file: {where}.") from None
    return {name: _kernel(name, section, path) for name, section in sections.items()}


def _kernel(name: str, section: object, path: Path) -> Kernel:
    if not isinstance(section, dict) or not _NAME.fullmatch(name):
        raise UsageError(f"{path} holds sections only, such as [gpt]: {name[:40]!r} is none, or no name.")
    if not isinstance(section.get("key", ""), str):
        raise _in_clear(f"{path}: [{name}]")
    found = config.build(_Section, section, at=f"{name}.")
    return _checked(name, found, f"{path}: [{name}]")


def _checked(name: str, found: _Section, where: str) -> Kernel:
    family = BACKENDS.get(found.family)
    url = (found.url or family.URL).rstrip("/")
    if wrong := wire.wrong(url):
        raise UsageError(f"{where}: its url {wrong}.")
    key = found.key
    if key is None and found.url is None and family.KEY:
        key = f"env:{family.KEY}"
    if key is not None and not keys.is_place(key):
        raise _in_clear(where)
    if key is not None and not wire.private(url):
        raise UsageError(
            f"{where}: over http:// others could read the key: its url must begin with https://."
        )
    if not found.model or not 0 < found.timeout_s <= 86_400:
        raise UsageError(f"{where} needs a model, and a timeout_s above 0.")
    if found.context < 512 or min(found.price_in, found.price_out) < 0:
        raise UsageError(f"{where} needs a context of 512 or more, and prices of 0 or more.")
    return Kernel(
        name=name, family=found.family, model=found.model, url=url, key=key, timeout_s=found.timeout_s,
        context=found.context, price_in=found.price_in, price_out=found.price_out,
    )  # fmt: skip


def _in_clear(where: str) -> UsageError:
    return UsageError(
        f'{where}: `key` says where the key is ("env:VARIABLE" or "keyring:service/user") and is not the '
        "key itself: what stands in files is read by others."
    )


def named(name: str) -> Kernel | None:
    """Return the kernel that FAMILY:MODEL names, on the family's own server; None when it names none."""
    family, _, model = name.partition(":")
    if family not in BACKENDS.names() or not model:
        return None
    return _checked(name, _Section(family=family, model=model), name)


def find(name: str) -> Kernel | None:
    """Return the kernel of that name: of kernels.toml, or FAMILY:MODEL; None when there is none."""
    return known().get(name) or named(name)


def _secret(kernel: Kernel) -> str | None:
    """Return a kernel's key. Raises ElsewhereError when it is not where it should be."""
    try:
        return None if kernel.key is None else keys.look_up(kernel.key)
    except keys.NoKeyError as error:
        raise ElsewhereError(str(error)) from None


class Stream:
    """An answer that is being written elsewhere: `begin`, iterate once, `close` at any time."""

    def __init__(self, kernel: Kernel, chat: Chat) -> None:
        """Put the request together. Raises ElsewhereError for what the family cannot do."""
        self._kernel, self._backend = kernel, BACKENDS.get(kernel.family)
        path, self._body = self._backend.request(kernel, chat)
        self._post = wire.Post(kernel.url + path, kernel.timeout_s)
        self._key: str | None = None

    async def begin(self) -> None:
        """Ask, and wait for the other side to begin its answer. Raises TwofoldError when it does not."""
        try:
            self._key = await asyncio.to_thread(_secret, self._kernel)
            status = await self._post.send(self._backend.headers(self._key), self._body)
            if status != 200:
                raise self._no(status, await self._post.error())
        except BaseException as error:
            self.close()
            raise self._named(error) from None

    async def __aiter__(self) -> AsyncIterator[Event]:
        """Yield the pieces, and at last an End. Raises ElsewhereError when it breaks off."""
        try:
            async for event in self._backend.events(self._post.lines()):
                yield event
        except ElsewhereError as error:
            raise self._named(error) from None
        finally:
            self.close()

    def close(self) -> None:
        """Hang up."""
        self._post.close()

    def _no(self, status: int, body: object) -> ElsewhereError:
        """Return a refusal of the other side. What it says of the key is not repeated."""
        said = f": {complaint(body)}" if complaint(body) else ""
        if status in (401, 403):
            where = f"look at {self._kernel.key}" if self._kernel.key else "its section names none"
            return ElsewhereError(f"the key is not accepted ({where}).")
        if 300 <= status < 400:
            return ElsewhereError("it sends us on to another address, which is not followed: mend its url.")
        if status in _BUSY:
            return ElsewhereError(f"it is busy (status {status}){said}", "busy")
        if status in _INVALID:
            return ElsewhereError(f"it refuses the request{said}", "invalid")
        return ElsewhereError(f"it answers with status {status}{said}")

    def _named(self, error: BaseException) -> BaseException:
        """Return an error with the kernel's name and without its key."""
        if not isinstance(error, ElsewhereError):
            return error
        sentence = f"{self._kernel.name} ({self._kernel.family}): {error}"
        if self._key:
            sentence = sentence.replace(self._key, "…")
        return ElsewhereError(sentence, error.kind)
