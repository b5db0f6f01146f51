"""A store: a folder with index.json and archives, which any web server can serve.

    {"format": "twofold apps 1", "apps": {"researcher": {"1.0.0": {"file": "researcher-1.0.0.tar.gz",
      "size": 4101, "sha256": "…", "key": "ssh-ed25519 …", "description": "…", "permissions": ["…"]}}}}

The index only helps to find an app and to notice a damaged download. What is believed of an app is what
its own signature says (signing.py); so a store, or whoever stands between, can hold a version back but
not change one. Only https:// is asked, or http:// on this machine, without a password or a cookie, and no
redirect to another host is followed.
"""

import contextlib
import hashlib
import http.client
import json
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from twofold import __version__
from twofold.apps import manifest, signing, tree
from twofold.base import files
from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.base.names import unknown

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

INDEX = "index.json"
FORMAT = "twofold apps 1"
_MOST_INDEX = 8_000_000  # bytes
_FILE = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}\.tar\.gz")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TIMEOUT_S = 30.0
_PIECE = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A version of an app in a store."""

    name: str
    version: str
    file: str
    size: int
    sha256: str
    description: str
    key: str | None = None


def publish(folder: Path, into: Path, key: "Ed25519PrivateKey") -> Offer:
    """Sign the app in a folder, pack it into a store's folder and list it there.

    Raises UsageError when that version is there already with other files: a version never changes.
    """
    app = manifest.read(folder)
    name, version = app.name, app.manifest.version
    index = _read(into)
    archive = into / f"{name}-{version}.tar.gz"
    with tempfile.TemporaryDirectory() as temporary:
        staged, packed = Path(temporary) / "app", Path(temporary) / "packed"
        tree.copy(folder, staged)
        signature = signing.sign(tree.contents(staged), key)  # Ed25519: the same files, the same signature
        (staged / tree.SIGNATURE).write_bytes(signature)
        with open(packed, "wb") as out:
            tree.pack(staged, out)
        digest = files.sha256(packed)
        there = index["apps"].get(name, {}).get(version)
        if there is not None and there["sha256"] != digest:
            raise UsageError(
                f"{name} {version} is in {into} already, with other files or by another key: a version that "
                f"was published never changes; give this one a higher version in {manifest.MANIFEST}."
            )
        with files.atomic_write(archive) as out, open(packed, "rb") as file:
            shutil.copyfileobj(file, out)
    told = {k: v for k, v in manifest.record(app.manifest).items() if k not in ("name", "version")}
    entry = {
        "file": archive.name, "size": archive.stat().st_size, "sha256": digest,
        "key": signing.public_of(key), **told,
    }  # fmt: skip
    index["apps"].setdefault(name, {})[version] = entry
    files.write_text(into / INDEX, json.dumps(index, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return _offer(name, version, entry, str(into))


def offers(store: str) -> list[Offer]:
    """Return every version of every app in a store, by name, the newest first."""
    found = [
        _offer(name, version, entry, store)
        for name, versions in sorted(_read(store)["apps"].items())
        for version, entry in versions.items()
    ]
    return sorted(found, key=lambda one: (one.name, [-part for part in _number(one.version)]))


def choose(store: str, wanted: str) -> Offer:
    """Return the newest version of an app in a store, or the one asked for by NAME@VERSION."""
    name, _, version = wanted.partition("@")
    there = [one for one in offers(store) if one.name == name]
    if not there:
        raise UsageError(unknown(f"app in {store} called", name, {one.name for one in offers(store)}))
    chosen = next((one for one in there if one.version == version), None) if version else there[0]
    if chosen is None:
        raise UsageError(unknown(f"version of {name}", version, [one.version for one in there]))
    return chosen


def bring(store: str, offer: Offer, into: Path) -> None:
    """Write an offer's archive to a file. Raises BadFileError when it is not what the index says."""
    hashed, left = hashlib.sha256(), offer.size
    with _open(store, offer.file) as source, open(into, "wb") as out:
        while piece := source.read(min(_PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                break
            hashed.update(piece)
            out.write(piece)
    if left or hashed.hexdigest() != offer.sha256:
        raise BadFileError(
            f"{offer.file} is not the file that the index of {store} lists: it was not unpacked."
        )


def _read(store: str | Path) -> dict[str, Any]:
    """Return a store's index; a folder without one is an empty store.

    Raises BadFileError for anything else.
    """
    if not remote(str(store)) and not (Path(store) / INDEX).exists():
        return {"format": FORMAT, "apps": {}}
    with _open(str(store), INDEX) as source:
        raw = source.read(_MOST_INDEX + 1)
    try:
        index = json.loads(raw) if len(raw) <= _MOST_INDEX else None
    except (ValueError, RecursionError):
        index = None
    if (
        not isinstance(index, dict)
        or index.get("format") != FORMAT
        or not isinstance(index.get("apps"), dict)
    ):
        raise BadFileError(
            f"{store} is no store of apps: its {INDEX} is not one that `twofold app publish` makes."
        )
    for name, versions in index["apps"].items():
        for version, entry in versions.items() if isinstance(versions, dict) else [("", None)]:
            _offer(name, version, entry, str(store))
    return index


def _offer(name: str, version: str, entry: object, store: str) -> Offer:
    """Return an entry of an index, checked."""
    try:
        _number(version)
        if not isinstance(entry, Mapping):
            raise TypeError
        found = Offer(
            name=name, version=version, file=entry["file"], size=entry["size"], sha256=entry["sha256"],
            description=str(entry.get("description", "")), key=entry.get("key"),
        )  # fmt: skip
        good = (
            manifest.NAME.fullmatch(name) and _FILE.fullmatch(found.file) and _SHA256.fullmatch(found.sha256)
        )
        if not good or type(found.size) is not int or found.size < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise BadFileError(f"The index of {store} is damaged at {str(name)[:40]!r}.") from None
    return found


def _number(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
        raise ValueError(version)
    return tuple(map(int, parts))


# --- reading from a folder or from a server


def remote(store: str) -> bool:
    """Return whether a store is an address and not a folder."""
    return "://" in store


@contextlib.contextmanager
def _open(store: str, name: str) -> Iterator[IO[bytes]]:
    """Yield a file of a store open for reading. Raises TwofoldError when it cannot be had."""
    if not remote(store):
        try:
            with open(Path(store) / name, "rb") as file:
                yield file
        except FileNotFoundError:
            raise TwofoldError(f"There is no {name} in {store}.") from None
        return
    address = store.rstrip("/") + "/" + name
    there = urllib.parse.urlsplit(address)
    if there.scheme != "https" and not (there.scheme == "http" and there.hostname in _LOOPBACK):
        raise UsageError(f"{store} is not asked: a store's address begins with https://.")
    request = urllib.request.Request(address, headers={"User-Agent": f"twofold/{__version__}"})
    try:
        with _opener.open(request, timeout=_TIMEOUT_S) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        raise TwofoldError(f"{there.netloc} has no {there.path} for us (status {error.code}).") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TwofoldError(f"{there.netloc} cannot be reached, or broke off ({reason}).") from None


class _SameHost(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        there = urllib.parse.urlsplit(newurl)
        if (there.scheme, there.netloc) != (req.type, req.host):
            raise UsageError(f"{req.host} sends us on to {there.netloc}, which is not followed.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_SameHost)
