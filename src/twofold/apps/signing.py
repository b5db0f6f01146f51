"""Who made an app: a signature over the hashes of all its files, and the key that is remembered for its name.

Ed25519 (RFC 8032). What is signed is a line that says what it is for, and the canonical JSON of {name:
SHA-256}; so the signature holds for the files, however they came: folder, archive, git. A public key is
spelled as OpenSSH spells it (RFC 8709), and so is its fingerprint: `ssh-keygen -lf` shows the same one.

Trust on first use: the first signed install of a name remembers the key, also after the app is removed;
another key is refused until the user says its fingerprint. A first key that is wrong is not noticed:
compare the fingerprint with what the publisher tells elsewhere.
"""

import base64
import binascii
import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twofold.apps.tree import SIGNATURE
from twofold.base import files
from twofold.base.errors import BadFileError, MissingExtraError, TwofoldError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KIND = b"ssh-ed25519"
_PURPOSE = b"twofold app, format 1\n"
_MOST = 10_000  # bytes of a signature's file


def statement(contents: Mapping[str, str]) -> bytes:
    """Return what is signed: the name and the SHA-256 of each file, without that of the signature."""
    listed = {name: digest for name, digest in contents.items() if name != SIGNATURE}
    return _PURPOSE + json.dumps(listed, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def digest(contents: Mapping[str, str]) -> str:
    """Return one SHA-256 for all files of an app, as 64 hex digits."""
    return hashlib.sha256(statement(contents)).hexdigest()


def spelled(public: bytes) -> str:
    """Return a public key of 32 bytes as OpenSSH spells it: "ssh-ed25519 AAAA…"."""
    return f"{_KIND.decode()} {base64.b64encode(_wire(public)).decode()}"


def fingerprint(key: str) -> str:
    """Return the fingerprint of a spelled key: "SHA256:…" in 43 characters."""
    hashed = hashlib.sha256(_wire(_raw(key))).digest()
    return "SHA256:" + base64.b64encode(hashed).decode().rstrip("=")


def own_key(path: Path) -> "Ed25519PrivateKey":
    """Return the user's signing key, made on first use and readable by this user only."""
    ed25519, serialization = _library()
    if path.exists():
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise BadFileError(f"{path} holds no Ed25519 key: move it away, and a new one is made.")
        found: Ed25519PrivateKey = key
        return found
    made: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    pem = made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return made


def public_of(key: "Ed25519PrivateKey") -> str:
    """Return the public half of a key, spelled."""
    return spelled(key.public_key().public_bytes_raw())


def sign(contents: Mapping[str, str], key: "Ed25519PrivateKey") -> bytes:
    """Return the bytes of the signature's file."""
    made = base64.b64encode(key.sign(statement(contents))).decode()
    return (json.dumps({"key": public_of(key), "signature": made}, indent=1) + "\n").encode()


def verified(folder: Path, contents: Mapping[str, str]) -> str | None:
    """Return the spelled key that signed these files, None when they are not signed.

    Raises BadFileError when there is a signature and it does not fit: files were changed after they were
    signed.
    """
    path = folder / SIGNATURE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_bytes()[:_MOST])
        key, made = record["key"], base64.b64decode(record["signature"], validate=True)
        public = _raw(key)
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error, BadFileError):
        raise BadFileError(
            f"{SIGNATURE} is no signature: the app is damaged, or was tampered with."
        ) from None
    ed25519, _ = _library()
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(made, statement(contents))
    except (InvalidSignature, ValueError):
        raise BadFileError(
            f"The signature by {fingerprint(key)} does not fit the files: they were changed after they "
            "were signed."
        ) from None
    return spelled(public)


class Trust:
    """Which key each app's name belongs to, on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def known(self, name: str) -> str | None:
        """Return the spelled key remembered for a name. Raises BadFileError when the file is damaged."""
        return self._read().get(name)

    def check(self, name: str, key: str | None, expected: str | None) -> None:
        """Raise TwofoldError when a name is another key's. `expected`: a fingerprint that the user gives."""
        known = self.known(name)
        shown = fingerprint(key) if key else "nobody"
        if expected is not None and expected != shown:
            raise TwofoldError(f"{name} is signed by {shown}, not by {expected}: it is not installed.")
        if known is not None and key != known and expected is None:
            raise TwofoldError(
                f"{name} was signed by {fingerprint(known)} so far, and this one by {shown}: it may come "
                "from somebody else, so it is not installed. If the publisher tells you of the new key, say "
                f"so: --key {shown if key else 'FINGERPRINT'}."
            )

    def remember(self, name: str, key: str) -> None:
        """Note that a name belongs to a key from now on."""
        record = {**self._read(), name: key}
        files.write_text(self._path, json.dumps(record, indent=1, sort_keys=True) + "\n")

    def _read(self) -> dict[str, str]:
        try:
            record: Any = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict) or not all(isinstance(key, str) for key in record.values()):
            raise BadFileError(
                f"{self._path}, which remembers the keys of publishers, cannot be read: mend it or move it "
                "away."
            )
        return record


def _wire(public: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in (_KIND, public))


def _raw(key: object) -> bytes:
    """Return the 32 bytes of a spelled key. Raises BadFileError when it is none."""
    kind, _, text = str(key).partition(" ")
    try:
        wire = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        wire = b""
    public = wire[-32:]
    if kind.encode() != _KIND or len(public) != 32 or wire != _wire(public):
        raise BadFileError("That is no Ed25519 key as OpenSSH spells it.")
    return public


def _library() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("signing apps and checking signatures", "os") from None
    return ed25519, serialization
