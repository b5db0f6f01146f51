"""Installing an app: everything is known before anything is changed.

    with proposed("./my-app") as proposal:
        print(proposal.changes, proposal.key)     # what it may do, against what is installed; who signed it
        proposal.accept()

What is proposed lies in a folder of its own, which is gone afterwards unless it was accepted; the tests
are run on those very files.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from twofold.apps import manifest, origin, shelf, signing, tree
from twofold.apps.manifest import App, Change, Manifest
from twofold.base.errors import TwofoldError, UsageError


@dataclass
class Proposal:
    """An app that may be installed. key: who signed it, spelled; None: nobody. before: what is there now.

    changes: what it may do, against what is there now. notes: what else the user should know, a sentence
    each.
    """

    app: App
    source: str
    key: str | None
    before: Manifest | None
    changes: list[Change]
    notes: list[str] = field(default_factory=list)

    @property
    def widens(self) -> bool:
        """Whether it may do more than what is there now; always so when nothing is."""
        return self.before is None or manifest.widens(self.changes)

    def accept(self) -> App:
        """Install it and return it."""
        return shelf.install(self.app.folder, self.key, self.source)


@contextlib.contextmanager
def proposed(
    text: str, store: str | None = None, *, key: str | None = None, unsigned: bool = False
) -> Iterator[Proposal]:
    """Yield what a text names (origin.parse), fetched and checked.

    key: the publisher's fingerprint, as the user has it from elsewhere. unsigned: take one that nobody
    signed; a folder on this machine is taken as it is. Raises TwofoldError for what is not to be
    installed.
    """
    source = origin.parse(text, origin.store_of(store))
    with shelf.stage() as stage:
        files, work = stage / "app", stage / "work"
        files.mkdir()
        work.mkdir()
        origin.fetch(source, files, work)
        app = manifest.read(files)
        signer = signing.verified(files, tree.contents(files))
        if signer is None and source.kind != "folder" and not unsigned:
            raise TwofoldError(
                f"Nobody signed {app.name} from {source.where}, so who made it is not known; --unsigned "
                "takes it all the same."
            )
        shelf.trust().check(app.name, signer, key)
        yield _proposal(app, source, signer)


def _proposal(app: App, source: origin.Source, key: str | None) -> Proposal:
    before = None
    if app.name in shelf.names():
        with contextlib.suppress(TwofoldError):  # what is damaged is replaced
            before = shelf.find(app.name).manifest
    notes = []
    if key is None:
        notes.append("Nobody signed it.")
    elif shelf.trust().known(app.name) is None:
        notes.append(f"It is the first app called {app.name} here; its key is remembered from now on.")
    elif shelf.trust().known(app.name) != key:
        notes.append("It is signed by another key than before, the one that you gave.")
    if before is not None and app.manifest.number() < before.number():
        notes.append(f"It is older than the {before.version} that is there.")
        if source.kind == "store" and "@" not in source.where:
            raise UsageError(
                f"{source.store} offers {app.name} {app.manifest.version}, which is older than the "
                f"{before.version} that is there; {app.name}@{app.manifest.version} takes it all the same."
            )
    changes = manifest.difference(before, app.manifest)
    return Proposal(app, source.where, key, before, changes, notes)


def starter(name: str, into: Path) -> Path:
    """Write the folder of a new app that works, and return it. Raises UsageError when it is there."""
    if not manifest.NAME.fullmatch(name):
        raise UsageError(f"An app's name is made of small letters, digits and -, unlike {name!r}.")
    folder = into / name
    if folder.exists():
        raise UsageError(f"{folder} is there already.")
    template = Path(__file__).with_name("starter")
    for path, _ in tree.walk(template):
        text = (template / path).read_text(encoding="utf-8").replace("my-app", name)
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return folder
