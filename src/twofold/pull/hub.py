"""What a repository on the hub holds: its files with sizes and hashes, at one commit.

The hub's API (huggingface.co/docs/hub/api): /api/models/OWNER/REPO/revision/REVISION?blobs=true. Nothing in
its answer is believed: a file with a strange name is as if it were not there, and sizes and hashes are held
against the bytes that come.
"""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twofold.base.errors import BadFileError
from twofold.pull import web
from twofold.pull.download import Wanted

_NAME = re.compile(r"[\w+=,@()\[\] .-]+(?:/[\w+=,@()\[\] .-]+)*")
_HEX = {40: re.compile(r"[0-9a-f]{40}"), 64: re.compile(r"[0-9a-f]{64}")}


@dataclass(frozen=True)
class HubFile:
    """A file: its `path` in the repository, its size in bytes, and the hash that is known of it."""

    path: str
    size: int
    sha256: str | None
    git_sha1: str | None

    @property
    def name(self) -> str:
        """The last part of the path, the only one that is ever used here."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Repo:
    """A repository at a commit. What the hub knows besides is 0, "" or None where it does not say."""

    id: str
    commit: str
    files: tuple[HubFile, ...]
    license: str
    parameters: int
    architecture: str
    context: int

    def wanted(self, file: HubFile) -> Wanted:
        """Return how to fetch a file of it, exactly as it was at this commit."""
        path = "/".join(urllib.parse.quote(part, safe="") for part in (self.commit, *file.path.split("/")))
        return Wanted(f"{web.endpoint()}/{self.id}/resolve/{path}", file.size, file.sha256, file.git_sha1)


def look(repo: str, revision: str = "main") -> Repo:
    """Return what a repository holds. Raises as web.read_json does."""
    quoted = urllib.parse.quote(revision, safe="")
    record = web.read_json(f"{web.endpoint()}/api/models/{repo}/revision/{quoted}?blobs=true")
    commit, siblings = record.get("sha"), record.get("siblings")
    if not isinstance(commit, str) or not _HEX[40].fullmatch(commit) or not isinstance(siblings, list):
        raise BadFileError(f"{web.endpoint()} does not say what {repo} holds: is HF_ENDPOINT right?")
    files = [_file(item) for item in siblings if isinstance(item, Mapping)]
    facts, card = record.get("gguf"), record.get("cardData")
    facts = facts if isinstance(facts, Mapping) else {}
    license_ = card.get("license") if isinstance(card, Mapping) else None
    return Repo(
        id=repo,
        commit=commit,
        files=tuple(file for file in files if file is not None),
        license=license_ if isinstance(license_, str) else "",
        parameters=_count(facts.get("total")),
        architecture=str(facts.get("architecture") or ""),
        context=_count(facts.get("context_length")),
    )


def _file(item: Mapping[str, Any]) -> HubFile | None:
    """Return a file of the listing, None when its name could lead elsewhere or nothing is known of it."""
    path, size, lfs = item.get("rfilename"), item.get("size"), item.get("lfs")
    if not isinstance(path, str) or not _NAME.fullmatch(path) or len(path) > 400 or type(size) is not int:
        return None
    if any(part.startswith(".") or part.strip() != part for part in path.split("/")):
        return None
    lfs = lfs if isinstance(lfs, Mapping) else {}
    sha256 = _hex(lfs.get("sha256"), 64)
    git_sha1 = None if lfs else _hex(item.get("blobId"), 40)
    return HubFile(path, size, sha256, git_sha1) if size >= 0 and (sha256 or git_sha1) else None


def _hex(value: Any, digits: int) -> str | None:
    return value if isinstance(value, str) and _HEX[digits].fullmatch(value) else None


def _count(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0
