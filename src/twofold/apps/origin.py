"""Where an app comes from: a folder, an archive, a git address, or a name in a store.

    ./my-app                              a folder
    my-app-1.0.0.tar.gz                   an archive
    git+https://example.org/my-app.git    git; #v1.0 behind it names a tag or branch
    my-app, my-app@1.0.0                  a name in the store (--store, or `store` in apps.toml)

Everything ends up as plain files in an empty folder; nothing of an app is run to get it there. Git runs
without hooks, submodules, links and prompts, and speaks https, ssh or files only.
"""

import os
import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from twofold.apps import store as stores
from twofold.apps import tree
from twofold.base import home
from twofold.base.errors import BadFileError, TwofoldError, UsageError

_GIT_S = 300.0
_GIT = re.compile(r"(git\+)?((https|ssh|file)://[^\s#]+|[\w.-]+@[\w.-]+:[^\s#]+)(#[\w./-]{1,100})?")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a text names. `where`: a path or an address, for people, too. `store`: of a name."""

    kind: Literal["folder", "archive", "git", "store"]
    where: str
    store: str | None = None


def store_of(given: str | None) -> str | None:
    """Return the store to ask: the one given, else that of apps.toml in the data folder, else None."""
    if given is not None:
        return given
    path = home.data_folder() / "apps.toml"
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("store")
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UsageError(f"{path} is not a TOML file: {error}.") from None
    if found is not None and not isinstance(found, str):
        raise UsageError(f"{path}: `store` is the address or the folder of a store.")
    return found


def parse(text: str, store: str | None) -> Source:
    """Return what a text names. Raises UsageError when it names nothing."""
    path = Path(text).expanduser()
    if path.is_dir():
        return Source(kind="folder", where=str(path.resolve()))
    if path.is_file():
        return Source(kind="archive", where=str(path.resolve()))
    if _GIT.fullmatch(text) and (text.startswith("git+") or re.search(r"\.git(#|$)", text)):
        return Source(kind="git", where=text.removeprefix("git+"))
    if re.fullmatch(r"[a-z][a-z0-9-]{0,39}(@[0-9.]{5,24})?", text):
        if store is None:
            raise UsageError(
                f"There is no folder or archive {text}, and no store to look in: name one by --store, or as "
                f"`store` in {home.data_folder() / 'apps.toml'}."
            )
        return Source(kind="store", where=text, store=store)
    raise UsageError(
        f"{text} is not there. An app comes from a folder, an archive, git+https://… or, by its name, "
        "from a store."
    )


def fetch(source: Source, into: Path, work: Path) -> None:
    """Write the app's files into an empty folder; `work` is another one to use. Raises TwofoldError."""
    if source.kind == "folder":
        tree.copy(Path(source.where), into)
    elif source.kind == "archive":
        _unpack(Path(source.where), into, source.where)
    elif source.kind == "git":
        _clone(source.where, work / "clone")
        tree.copy(work / "clone", into)
    else:
        store = source.store or ""
        offer = stores.choose(store, source.where)
        stores.bring(store, offer, work / offer.file)
        _unpack(work / offer.file, into, offer.file)
        if not (into / tree.SIGNATURE).is_file():
            raise BadFileError(f"{offer.file} in {store} is not signed, which a store's apps always are.")


def _unpack(path: Path, into: Path, where: str) -> None:
    with open(path, "rb") as archive:
        tree.unpack(archive, into, where)


def _clone(where: str, into: Path) -> None:
    """Clone the newest state of a repository, as plain files."""
    address, _, branch = where.partition("#")
    safe = {
        "protocol.allow": "never", "protocol.https.allow": "always", "protocol.ssh.allow": "always",
        "protocol.file.allow": "always", "core.hooksPath": os.devnull, "core.symlinks": "false",
        "core.fsmonitor": "false", "filter.lfs.smudge": "", "filter.lfs.required": "false",
        "submodule.recurse": "false", "init.templateDir": "",
    }  # fmt: skip
    options = [part for key, value in safe.items() for part in ("-c", f"{key}={value}")]
    named = ["--branch", branch] if branch else []
    command = [
        "git", *options, "clone", "--quiet", "--depth=1", "--single-branch", "--no-tags",
        "--no-recurse-submodules", *named, "--", address, str(into),
    ]  # fmt: skip
    # GIT_ALLOW_PROTOCOL of the user's own would go before the protocols above.
    environment = {name: value for name, value in os.environ.items() if name != "GIT_ALLOW_PROTOCOL"}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=_GIT_S, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise TwofoldError("An app from a git address needs the program git, which is not here.") from None
    except subprocess.TimeoutExpired:
        raise TwofoldError(f"{address} did not answer within {_GIT_S:.0f} seconds.") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["the reason is unknown"]
        raise TwofoldError(f"{address} cannot be cloned: {lines[-1]}")
