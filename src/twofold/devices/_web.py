"""Fetching for a process: one GET, to the address that was looked at, no further than granted.

A name is resolved once, its addresses are looked at, and the connection goes to one of those that passed: a
name cannot point at this machine between the look and the leap (DNS rebinding). Private addresses (loopback,
the home network, cloud metadata) are refused unless the process's scope names the address itself, or the
user's settings the host. A redirection is followed on the same host or within the scope; any other is told,
and is asked for anew, so that the policy sees it. Sizes are bounded before and after unpacking, time as a
whole.

No cookies, no referrer, no proxy from the environment. Not covered: HTTP/2, brotli, authentication.
"""

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from twofold import __version__
from twofold.kernel.device import DeviceError

MOST_BYTES = 8_000_000  # of what is fetched, packed or not
SECONDS = 20.0  # for all of it, redirections too
_MOST_REDIRECTIONS = 5
_CHUNK = 65_536
# Addresses that hold another one in them: what they lead to is not looked at twice.
_ODD = tuple(map(ipaddress.ip_network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))
_PORTS = {"http": 80, "https": 443}
_UNSEEN = re.compile(r"[\s\x00-\x20\x7f]")

Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Answer:
    """What a server gave: the address it came from, its media type, the charset it names, the bytes."""

    url: str
    media: str
    charset: str | None
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a fetch may go. scope: the process's patterns; private: hosts of the settings that may be on
    private addresses; cancelled: whether nobody waits any more; resolve: a name's addresses."""

    scope: Sequence[str] = ()
    private: Sequence[str] = ()
    cancelled: Callable[[], bool] = lambda: False
    resolve: Resolve = lambda host, port: _resolved(host, port)
    seconds: float = SECONDS
    most_bytes: int = MOST_BYTES


def _resolved(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


@dataclass(frozen=True)
class Address:
    """A web address in its parts; `url` is its one spelling."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def place(self) -> str:
        """Host, and port unless it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The address as it is written."""
        return f"{self.scheme}://{self.place}{self.path}"


def address(url: str) -> Address:
    """Return the parts of an address. Raises DeviceError for one that is none, or that holds a password."""
    if len(url) > 2_000 or _UNSEEN.search(url) or "\\" in url:
        raise DeviceError(f"{url[:80]!r} is no web address.")
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise DeviceError(f"{url[:80]!r} is no web address.") from None
    if parts.scheme not in _PORTS or not host:
        raise DeviceError(f"{url[:80]!r} is no address of the web, which begins with https:// or http://.")
    if parts.username is not None or parts.password is not None:
        raise DeviceError("An address with a name or password in it is not fetched.")
    try:
        host = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise DeviceError(f"{host[:80]!r} is no name of a host.") from None
    if not re.fullmatch(r"[a-z0-9._:-]{1,253}", host):
        raise DeviceError(f"{host[:80]!r} is no name of a host.")
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
    return Address(
        parts.scheme, host.rstrip("."), port or _PORTS[parts.scheme], path + (f"?{query}" if query else "")
    )


def within(where: Address, scope: Sequence[str]) -> bool:
    """Return whether a pattern of the scope is for this address, its host, or its host with port."""
    names = (where.url, where.place, where.host)
    return any(fnmatchcase(name, pattern) for pattern in scope for name in names)


def fetch(url: str, reach: Reach) -> Answer:
    """Return what is at an address. Raises DeviceError that says why not."""
    end = time.monotonic() + reach.seconds
    where = address(url)
    for _ in range(_MOST_REDIRECTIONS + 1):
        status, headers, body = _get(where, reach, end)
        if status in (301, 302, 303, 307, 308) and headers.get("location"):
            where = _onward(where, headers["location"], reach)
            continue
        if status >= 400:
            reason = http.client.responses.get(status, "")
            raise DeviceError(f"{where.place} answers with {status} {reason}".rstrip() + ".")
        media, _, rest = headers.get("content-type", "").partition(";")
        charset = re.search(r"charset\s*=\s*[\"']?([\w-]{1,40})", rest, re.IGNORECASE)
        return Answer(where.url, media.strip().lower(), charset[1] if charset else None, body, headers)
    raise DeviceError(f"{where.place} sends from one address to the next without an end.")


def _onward(where: Address, target: str, reach: Reach) -> Address:
    """Return where a redirection leads. Raises DeviceError when that is not ours to follow."""
    try:
        following = address(urllib.parse.urljoin(where.url, target.strip()))
    except ValueError:
        raise DeviceError(f"{where.place} sends on to an address that is none.") from None
    same = following.host.removeprefix("www.") == where.host.removeprefix("www.")
    usual = following.port == _PORTS[following.scheme] and where.port == _PORTS[where.scheme]
    safer = where.scheme == "http" or following.scheme == "https"
    if (same and safer and (usual or following.port == where.port)) or within(following, reach.scope):
        return following
    raise DeviceError(f"{where.place} sends on to {following.url}, which has to be asked for itself.")


def allowed(where: Address, found: str, reach: Reach) -> bool:
    """Return whether a host's address may be connected to: a public one, or one that is named."""
    ip = ipaddress.ip_address(found.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    inside = isinstance(ip, ipaddress.IPv6Address) and any(ip in network for network in _ODD)
    if ip.is_global and not ip.is_multicast and not inside:
        return True
    if ip.is_unspecified or ip.is_multicast:
        return False
    if any(name.casefold() in (where.host, where.place) for name in reach.private):
        return True
    return literal(where.host) and any(_names(pattern, where) for pattern in reach.scope)


def literal(host: str) -> bool:
    """Return whether a host is an address itself, which no name server can point elsewhere."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _names(pattern: str, where: Address) -> bool:
    """Return whether a pattern spells out the host: `http://127.0.0.1:8000/*` does, `*` does not."""
    rest = pattern.partition("://")[2] if "://" in pattern else pattern
    place = rest.partition("/")[0]
    host = place if place == where.host else place.rpartition(":")[0] or place
    return host.strip("[]") == where.host and (pattern == where.place or within(where, (pattern,)))


class _Pinned(http.client.HTTPConnection):
    """A connection to one of a host's addresses that were looked at, whatever its name would lead to now."""

    def __init__(self, where: Address, ips: Sequence[str], seconds: float) -> None:
        super().__init__(where.host, where.port, timeout=seconds)
        self._ips, self._tls = ips, where.scheme == "https"
        self.wire: socket.socket | None = None  # `sock` is gone once an answer has begun
        if where.port == _PORTS[where.scheme]:
            self.default_port = where.port  # so that the Host header goes without it

    def connect(self) -> None:
        for number, ip in enumerate(self._ips, 1):
            try:
                self.sock = self.wire = socket.create_connection((ip, self.port), self.timeout)
                break
            except OSError:
                if number == len(self._ips):
                    raise
        if self._tls:
            self.sock = self.wire = ssl.create_default_context().wrap_socket(
                self.sock, server_hostname=self.host
            )

    def hang_up(self) -> None:
        """End the connection at once, whoever is reading from it."""
        if self.wire is not None:
            with contextlib.suppress(OSError):
                self.wire.shutdown(socket.SHUT_RDWR)


def _get(where: Address, reach: Reach, end: float) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers in small letters, and body of one request."""
    try:
        found = list(reach.resolve(where.host, where.port))
    except (OSError, UnicodeError):
        raise DeviceError(f"There is no host {where.host}, or no connection.") from None
    open_ = [ip for ip in found if allowed(where, ip, reach)]
    if not open_:
        raise DeviceError(
            f"{where.host} is a private address, which is reached only when a permission names it itself."
        )
    left = end - time.monotonic()
    if left <= 0:
        raise DeviceError(f"{where.place} takes too long.")
    connection = _Pinned(where, open_[:4], min(left, 10.0))
    # However slowly the other side drips, this ends it.
    watch = threading.Timer(left, connection.hang_up)
    watch.daemon = True
    watch.start()
    try:
        connection.request("GET", where.path, headers={
            "User-Agent": f"twofold/{__version__}",
            "Accept": "text/html, text/plain, application/json, */*;q=0.5",
            "Accept-Encoding": "gzip", "Connection": "close",
        })  # fmt: skip
        with connection.getresponse() as response:
            headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, headers, _body(response, headers, where, reach, end)
    except ssl.SSLError as error:
        raise DeviceError(f"{where.place} has no valid certificate ({error.reason or 'broken'}).") from None
    except TimeoutError:
        raise DeviceError(f"{where.place} takes too long.") from None
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        late = time.monotonic() >= end
        text = "takes too long" if late else "cannot be reached, or breaks off"
        raise DeviceError(f"{where.place} {text}.") from None
    finally:
        watch.cancel()
        connection.close()


def _body(
    response: http.client.HTTPResponse, headers: Mapping[str, str], where: Address, reach: Reach, end: float
) -> bytes:
    too_large = DeviceError(f"{where.url} is larger than {reach.most_bytes // 1_000_000} MB.")
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", "x-gzip", ""):
        raise DeviceError(f"{where.place} answers in the coding {coding[:20]!r}, which nobody asked for.")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if "gzip" in coding else None
    parts: list[bytes] = []
    packed = size = 0
    while chunk := response.read1(_CHUNK):
        packed += len(chunk)
        if reach.cancelled():
            raise DeviceError("This was cancelled.")
        if time.monotonic() >= end:
            raise DeviceError(f"{where.place} takes too long.")
        if unpack is not None:
            try:
                chunk = unpack.decompress(chunk, reach.most_bytes + 1 - size)
            except zlib.error:
                raise DeviceError(f"{where.place} sends what cannot be unpacked.") from None
        parts.append(chunk)
        size += len(chunk)
        if max(size, packed) > reach.most_bytes:
            raise too_large
    if time.monotonic() >= end:  # its end is that it was hung up on
        raise DeviceError(f"{where.place} takes too long.")
    length = headers.get("content-length", "")
    if length.isdigit() and packed < int(length):
        raise DeviceError(f"{where.place} breaks off in the middle.")
    if unpack is not None and (unpack.unconsumed_tail or not unpack.eof) and packed:
        raise DeviceError(f"{where.place} breaks off in the middle.")
    return b"".join(parts)
