"""What people type for a model from elsewhere, and what it means.

owner/repo                  the repository's best file for this program
owner/repo:Q4_K_M           its file of that type
owner/repo:name.gguf        its file of that name, with or without its folder
https://HUB/owner/repo…     the same, also with /tree/REVISION, /blob/REVISION/FILE, /resolve/REVISION/FILE
HUB/owner/repo:…            as other programs spell it, for the hubs people know
a path                      a .gguf file, or a folder with config.json and *.safetensors
"""

import os
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

from twofold.base.errors import UsageError

_PART = r"[A-Za-z0-9](?:[\w.-]{0,95})"
_REPO = re.compile(rf"({_PART})/({_PART})(?::(.+))?")
_HUBS = ("huggingface.co", "hf.co")
_FILE = re.compile(r"/(?:blob|resolve|raw)/([^/]+)/(.+)|/tree/([^/]+)/?")


@dataclass(frozen=True)
class Asked:
    """A model that was asked for: a `path` here, or a `repo` ("owner/repo") with what to take of it.

    `what`: a file or a type of file, None for the best. `revision`: a branch, tag or commit.
    """

    text: str
    path: Path | None = None
    repo: str = ""
    what: str | None = None
    revision: str = "main"


def parse(text: str, endpoint: str) -> Asked:
    """Return what `text` asks for; `endpoint` is the hub's address. Raises UsageError."""
    text = text.strip()
    if (path := there(text)) is not None:
        return Asked(text, path=path)
    hub = urllib.parse.urlsplit(endpoint).netloc
    if "://" in text:
        return _address(text, hub)
    bare = text
    for host in (hub, *_HUBS):
        bare = bare.removeprefix(f"{host}/")
    found = _REPO.fullmatch(bare)
    if found is None or ".." in bare:
        raise UsageError(
            f"{text[:80]!r} is no model's name: give owner/repo, owner/repo:Q4_K_M, the address of its page "
            "on the hub, or the path of a .gguf file or a Hugging Face folder that is there."
        )
    return Asked(text, repo=f"{found[1]}/{found[2]}", what=found[3])


def there(text: str) -> Path | None:
    """Return the path that `text` is, None when there is nothing of that name on this machine."""
    path = os.path.expanduser(text.strip())
    return Path(path) if path and os.path.exists(path) else None


def _address(text: str, hub: str) -> Asked:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or parts.netloc not in (hub, *_HUBS):
        raise UsageError(
            f"{text!r} is not on the hub ({hub}): another hub is named by the variable HF_ENDPOINT."
        )
    path = urllib.parse.unquote(parts.path).strip("/")
    owner_repo, rest = "/".join(path.split("/")[:2]), "/" + "/".join(path.split("/")[2:])
    found = _REPO.fullmatch(owner_repo)
    if found is None or ".." in path:
        raise UsageError(f"{text!r} is not the address of a model: it looks like https://{hub}/owner/repo.")
    inside = _FILE.fullmatch(rest)
    if rest != "/" and inside is None:
        raise UsageError(f"{text!r} leads to no model and no file of one.")
    revision = (inside[1] or inside[3]) if inside else "main"
    return Asked(text, repo=owner_repo, what=inside[2] if inside else found[3], revision=revision)
