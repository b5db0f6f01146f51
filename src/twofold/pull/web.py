"""Asking a hub over HTTPS: with the user's token and for nothing else, and no as a sentence.

HF_ENDPOINT names another hub, HF_TOKEN is shown to the hub and to no host that it sends us on to. The request
says which program asks, and nothing about the machine or its user. HF_HUB_OFFLINE=1 forbids it all.
"""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from twofold import __version__
from twofold.base.errors import BadFileError, TwofoldError, UsageError

HUB = "https://huggingface.co"
TIMEOUT_S = 30.0
_MOST_JSON = 64_000_000  # bytes
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class BrokenError(TwofoldError):
    """The connection broke, or the hub is out of order: it is worth trying again. `after_s`: when."""

    after_s: float = 0.0


def endpoint() -> str:
    """Return the hub's address, without a slash at its end. Raises UsageError for one that is none."""
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(f"HF_ENDPOINT is {address!r}, which does not begin with https://.")
    return address


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        there = urllib.parse.urlsplit(newurl)
        if there.scheme != "https" and (req.type == "https" or there.scheme != "http"):
            raise UsageError(f"{req.host} sends us on to {there.scheme}://{there.netloc}, which is not safe.")
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and new.host == req.host:
            _show_token(new)
        return new


_opener = urllib.request.build_opener(_Redirects)


def open_url(url: str, headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
    """Return the answer to a GET, its status 200 or 206, open for reading.

    Raises BrokenError when it is worth trying again, otherwise TwofoldError that says what to do.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UsageError("HF_HUB_OFFLINE is set, so nothing is fetched: unset it to pull a model.")
    about = {"User-Agent": f"twofold/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
    request = urllib.request.Request(url, headers=about)
    _show_token(request)
    try:
        found: http.client.HTTPResponse = _opener.open(request, timeout=TIMEOUT_S)
        return found
    except urllib.error.HTTPError as error:
        with error:
            raise _said(url, error) from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        host = urllib.parse.urlsplit(url).netloc
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise TwofoldError(
                f"Who answers as {host} cannot be checked ({reason.verify_message}), so nothing was asked: "
                "the variable SSL_CERT_FILE names the certificates to trust."
            ) from error
        raise BrokenError(
            f"{host} cannot be reached ({_short(reason)}): check the network; HF_ENDPOINT names another hub."
        ) from error


def read_json(url: str) -> dict[str, Any]:
    """Return the JSON object at `url`. Raises as open_url does, and BadFileError when it is none."""
    with open_url(url) as answer:
        try:
            raw = answer.read(_MOST_JSON + 1)
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(f"{urllib.parse.urlsplit(url).netloc} broke off ({_short(error)}).") from error
    try:
        record = json.loads(raw) if len(raw) <= _MOST_JSON else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise BadFileError(f"{url} did not answer as a hub does (no JSON object): is HF_ENDPOINT right?")
    return record


def _show_token(request: urllib.request.Request) -> None:
    """Add the user's token, for the hub itself and over a connection that nobody listens to."""
    token, hub = os.environ.get("HF_TOKEN", "").strip(), urllib.parse.urlsplit(endpoint())
    safe = request.type == "https" or hub.hostname in _LOOPBACK
    if token and token.isascii() and token.isprintable() and request.host == hub.netloc and safe:
        request.add_unredirected_header("Authorization", f"Bearer {token}")


def _said(url: str, error: urllib.error.HTTPError) -> TwofoldError:
    """Return a hub's no as a sentence."""
    host, path = urllib.parse.urlsplit(url)[1:3]
    repo = "/".join([part for part in path.split("/") if part not in ("api", "models", "")][:2])
    code = error.headers.get("X-Error-Code", "")
    page = f"https://{host}/{repo}"
    if error.code == 429 or error.code >= 500:
        broken = BrokenError(f"{host} is out of order or busy (status {error.code}): try again later.")
        after = error.headers.get("Retry-After", "")
        broken.after_s = min(float(after), 60.0) if after.isdigit() else 0.0
        return broken
    if code == "GatedRepo" or error.code == 403:
        return UsageError(
            f"{repo} is given only to people who accepted its terms: do so on {page}, then set HF_TOKEN to a "
            "token of your account."
        )
    if error.code == 401:  # the hub's answer, too, when there is no such model and no token was shown
        had = (
            "HF_TOKEN is not accepted for it"
            if os.environ.get("HF_TOKEN")
            else "if it is private, set HF_TOKEN"
        )
        return UsageError(f"There is no model {repo} that everybody may have on {host}; {had}.")
    if 300 <= error.code < 400:
        return UsageError(
            f"{host} sends us on to where it is not safe to go, or in circles: {_short(error.msg)}."
        )
    if error.code in (404, 410):
        return UsageError(f"There is no model {repo} on {host}, or it lacks what was asked for.")
    return TwofoldError(f"{host} refuses {path} (status {error.code}).")


def _short(reason: object) -> str:
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason).strip().splitlines()[0][:120] if str(reason).strip() else type(reason).__name__
