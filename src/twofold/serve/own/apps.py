"""Apps: what is here, what the store offers, and installing after the user has seen what it would allow.

Installing takes two requests, as it takes a look and a yes in the terminal. The first fetches, checks and
tests an app and says what it may do; the second grants that, and installs the very files that were looked at.
Nothing is asked of a store on another machine unless the request says so.
"""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from starlette.routing import BaseRoute

from twofold.apps import installing, manifest, origin, shelf, signing, tools, tree, trial
from twofold.apps import store as stores
from twofold.apps.installing import Proposal
from twofold.apps.manifest import App
from twofold.apps.shelf import Installed
from twofold.apps.trial import Outcome
from twofold.base.errors import TwofoldError
from twofold.devices import DEVICES
from twofold.serve.fields import flag, record, text
from twofold.serve.operations import Operation, Result
from twofold.serve.own import users_routes
from twofold.serve.refusals import Refusal
from twofold.serve.request import Request
from twofold.serve.state import State

_HELD = 4  # apps that were looked at and neither taken nor left

LOOKS = record(
    {
        "from": text(
            "A folder, an archive, git+https://…, or a name in the store, as for `twofold app install`."
        ),
        "key": text("The publisher's fingerprint, as the user has it from elsewhere."),
        "unsigned": flag("Take what nobody signed."),
    },
    ["from"],
)
TAKES = record(
    {
        "grant": flag("The user has seen what it may do, and grants it."),
        "untested": flag("The user takes it although it fails its own tests."),
    }
)
DOES = record({"do": text(choices=("test", "undo"))}, ["do"])


# ---- what is here


async def listing(request: Request) -> Result:
    """Return the apps at hand."""
    return await asyncio.to_thread(lambda: [_summary(name) for name in shelf.names()])


async def one(request: Request) -> Result:
    """Return all about an app."""
    return await _of(request, _whole)


async def _of(request: Request, work: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Return what `work` makes of the app in the address, in a thread. Raises Refusal."""
    name = request.path["name"]

    def look() -> dict[str, Any]:
        if name not in shelf.names():
            raise Refusal("unknown", f"There is no app {name[:40]!r} here.")
        return work(name)

    return await asyncio.to_thread(look)


def _summary(name: str) -> dict[str, Any]:
    """Return what the list shows of an app; one whose files were changed has a `problem` and little else."""
    there = shelf.present(name)
    found: dict[str, Any] = {
        "name": name, "installed": there is not None, "at": there.at if there else None,
        "signed": _fingerprint(there.key if there else None), "source": there.source if there else None,
    }  # fmt: skip
    try:
        told = shelf.find(name).manifest
    except TwofoldError as error:
        return {**found, "version": there.version if there else "", "description": "", "problem": str(error)}
    return {
        **found, "version": told.version, "description": told.description, "problem": None,
        "model": told.model.weights or told.model.name, "budget": asdict(told.budget),
    }  # fmt: skip


def _whole(name: str) -> dict[str, Any]:
    summary = _summary(name)
    if summary["problem"]:
        return summary
    app = shelf.find(name)
    told = app.manifest
    searched = set(app.files())
    return {
        **summary,
        "license": told.license,
        "instructions": app.instructions(),
        "may": [asdict(change) for change in manifest.difference(None, told)],
        "tools": [asdict(tool) for tool in tools.tools(app)],
        "files": [
            {"name": path, "bytes": at.stat().st_size, "searched": at in searched}
            for path, at in tree.walk(app.folder)
        ],
        "tests": _tests(app),
    }


def _tests(app: App) -> list[dict[str, Any]]:
    """Return what an app's tests are about; one that cannot be read is told when they are run."""
    with contextlib.suppress(TwofoldError):
        return [{"name": name, "about": one.about} for name, one in trial.tests(app).items()]
    return []


async def does(request: Request) -> Result:
    """Run an app's tests, or take back its last installation or removal."""
    name = request.path["name"]
    if request.body["do"] == "test":
        return await _of(request, lambda name: {"tests": _told(trial.run(shelf.find(name)))})

    def undo() -> dict[str, Any]:
        if not manifest.NAME.fullmatch(name):
            raise Refusal("unknown", f"There is no app {name[:40]!r} here.")
        before = shelf.undo(name)
        return {"name": name, "version": before.version if before else None}

    return await asyncio.to_thread(undo)


async def removes(request: Request) -> Result:
    """Take an app away; its last state can be had again."""

    def remove(name: str) -> dict[str, Any]:
        shelf.remove(name)
        return {"removed": name}

    return await _of(request, remove)


def _told(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [{**asdict(one), "passed": one.passed} for one in outcomes]


def _fingerprint(key: str | None) -> str | None:
    return signing.fingerprint(key) if key else None


async def devices(request: Request) -> Result:
    """Return what a process without an app may be given."""
    return [{"name": name, "description": DEVICES.get(name).DESCRIPTION} for name in DEVICES.names()]


# ---- the store


async def store(request: Request) -> Result:
    """Return which store there is, and what it offers; one on another machine is asked by ?ask=1 only."""
    asked = request.query.get("ask") == "1"

    def look() -> dict[str, Any]:
        where = origin.store_of(None)
        far = where is not None and stores.remote(where)
        offers = stores.offers(where) if where is not None and (asked or not far) else None
        return {
            "store": where,
            "remote": far,
            "offers": None if offers is None else list(map(_offer, offers)),
        }

    return await asyncio.to_thread(look)


def _offer(one: stores.Offer) -> dict[str, Any]:
    signed = _fingerprint(one.key)
    told = {"name": one.name, "version": one.version, "bytes": one.size, "description": one.description}
    return {**told, "signed": signed}


# ---- installing


@dataclass(frozen=True)
class _Held:
    """An app as it was looked at, and what was installed under its name then."""

    proposal: Proposal
    tests: Sequence[Outcome]
    there: Installed | None
    folders: contextlib.ExitStack

    def record(self, id: str) -> dict[str, Any]:
        proposal = self.proposal
        told = proposal.app.manifest
        return {
            "id": id, "name": told.name, "version": told.version, "description": told.description,
            "license": told.license, "before": proposal.before.version if proposal.before else None,
            "source": proposal.source, "signed": _fingerprint(proposal.key), "notes": proposal.notes,
            "changes": [asdict(change) for change in proposal.changes], "widens": proposal.widens,
            "tests": _told(self.tests), "instructions": proposal.app.instructions(),
        }  # fmt: skip


class Looked:
    """The apps that were looked at and are not decided on, under names that nobody can guess."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def look(self, text: str, key: str | None, unsigned: bool) -> dict[str, Any]:
        """Fetch, check and test an app; hold it and return what there is to know. Raises TwofoldError."""
        folders = contextlib.ExitStack()
        try:
            proposal = folders.enter_context(installing.proposed(text, key=key, unsigned=unsigned))
            tests = trial.run(proposal.app)
            held = _Held(proposal, tests, shelf.present(proposal.app.name), folders)
            found = held.record(secrets.token_urlsafe(16))
        except BaseException:
            folders.close()
            raise
        with self._lock:
            self._held[found["id"]] = held
            old = [self._held.pop(id) for id in list(self._held)[:-_HELD]]
        for one in old:
            one.folders.close()
        return found

    def take(self, id: str, *, grant: bool, untested: bool) -> App:
        """Install what was looked at. Raises Refusal without the user's word for what needs it."""
        with self._lock:
            held = self._held.get(id)
            if held is None:
                raise Refusal("unknown", "That was not looked at, or too long ago: look again.")
            name = held.proposal.app.name
            if held.proposal.widens and not grant:
                raise Refusal("invalid", f"What {name} may do was not granted.", where="grant")
            if not untested and not all(one.passed for one in held.tests):
                raise Refusal("invalid", f"{name} fails its own tests.", where="untested")
            del self._held[id]
        with held.folders:
            if shelf.present(name) != held.there:
                raise Refusal("invalid", f"Another {name} was installed or removed meanwhile: look again.")
            return held.proposal.accept()

    def leave(self, id: str) -> None:
        """Forget an app that was looked at."""
        with self._lock:
            held = self._held.pop(id, None)
        if held is not None:
            held.folders.close()

    def close(self) -> None:
        """Forget all."""
        for id in list(self._held):
            self.leave(id)


def _looked(state: State) -> Looked:
    found = state.extras.get("apps")
    if found is None:
        found = state.extras["apps"] = Looked()
        state.closing.append(found.close)
    assert isinstance(found, Looked)
    return found


async def looks(request: Request) -> Result:
    """Fetch, check and test an app, and say what it would be allowed; nothing is installed."""
    body, looked = request.body, _looked(request.state)

    def look() -> Mapping[str, Any]:
        source = origin.parse(body["from"].strip(), origin.store_of(None))
        here = source.kind in ("folder", "archive") or source.where.startswith("file:")
        if here and not request.state.settings.loopback:
            raise Refusal("forbidden", "A path is installed only on the machine itself.")
        return looked.look(body["from"].strip(), body.get("key") or None, bool(body.get("unsigned")))

    try:
        return await asyncio.to_thread(look)
    except Refusal:
        raise
    except TwofoldError as error:  # an app that is not to be installed is no mistake of the server's
        raise Refusal("invalid", str(error)) from error


async def takes(request: Request) -> Result:
    """Install what was looked at, and return it."""
    body, looked = request.body, _looked(request.state)

    def take() -> dict[str, Any]:
        app = looked.take(
            request.path["id"], grant=bool(body.get("grant")), untested=bool(body.get("untested"))
        )
        return _whole(app.name)

    return await asyncio.to_thread(take)


async def leaves(request: Request) -> Result:
    """Forget what was looked at."""
    await asyncio.to_thread(_looked(request.state).leave, request.path["id"])
    return {}


OPERATIONS = [
    Operation("GET", "/twofold/apps", "The apps that are here.", listing),
    Operation("POST", "/twofold/apps", "Fetch, check and test one, and say what it may do.", looks, LOOKS),
    Operation("GET", "/twofold/apps/{name}", "All about one.", one),
    Operation("POST", "/twofold/apps/{name}", "Run its tests; undo its last installation.", does, DOES),
    Operation("DELETE", "/twofold/apps/{name}", "Remove one.", removes),
    Operation("POST", "/twofold/apps/looked/{id}", "Install what was looked at.", takes, TAKES),
    Operation("DELETE", "/twofold/apps/looked/{id}", "Forget what was looked at.", leaves),
    Operation("GET", "/twofold/store", "What the store offers; a far one is asked by ?ask=1 only.", store),
    Operation("GET", "/twofold/devices", "What a process without an app may be given.", devices),
]


def routes(state: State) -> list[BaseRoute]:
    """Return the routes."""
    return users_routes(state, OPERATIONS)
