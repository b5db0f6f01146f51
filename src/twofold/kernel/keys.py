"""Where a key is: a variable of the environment, or the system's keyring; never a file that others may read.

    env:OPENAI_API_KEY
    keyring:service/user

The sentences of `NoKeyError` begin with "it": whoever asks says who that is.
"""

import os
import re

from twofold.base.errors import MissingExtraError, TwofoldError

_PLACE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|keyring:[^/\s]+/\S+")


class NoKeyError(TwofoldError):
    """A key is not where it should be."""


def is_place(text: str) -> bool:
    """Return whether a text says where a key is; else it may be the key itself."""
    return _PLACE.fullmatch(text) is not None


def look_up(place: str) -> str:
    """Return the key that is there. Raises NoKeyError, which never repeats a key."""
    kind, _, rest = place.partition(":")
    if kind == "env":
        key = os.environ.get(rest, "").strip()
        missing = f"the variable {rest}, which is not set"
    else:
        service, _, user = rest.partition("/")
        key = _from_keyring(service, user)
        missing = f"the system's keyring under {rest}, where there is none"
    if not key:
        raise NoKeyError(f"it needs the key in {missing}.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise NoKeyError("its key must be one line of plain characters.")
    return key


def _from_keyring(service: str, user: str) -> str:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        sentence = str(MissingExtraError("a key in the system's keyring", "keyring"))
        raise NoKeyError(sentence) from None
    try:
        return (keyring.get_password(service, user) or "").strip()
    except keyring.errors.KeyringError:
        raise NoKeyError("the system's keyring does not hand out its key.") from None
