"""`twofold app`: apps, folders with instructions, permissions and tests: made, tried, shared, installed."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from twofold.apps.installing import Proposal
    from twofold.apps.trial import Outcome

SECTION = "Use"
EXAMPLE = ("twofold app list", "the apps here; app new, test, install, publish make and share them")
Action = Literal["list", "show", "new", "test", "install", "publish", "remove", "undo", "key"]


def command(
    action: Annotated[
        Action,
        typer.Argument(
            metavar="WHAT", help="list, show, new, test, install, publish, remove, undo, or key (your own)."
        ),
    ] = "list",
    name: Annotated[
        str | None,
        typer.Argument(metavar="APP", help="A name, a folder, an archive, git+https://…, or NAME@VERSION."),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store", metavar="STORE", help="The folder or address of a store; default: apps.toml's."
        ),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FOLDER", help="With new: where; with publish: the store."),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="FINGERPRINT", help="With install: the publisher's key, as you know it."
        ),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="With install: take what nobody signed.")
    ] = False,
    untested: Annotated[
        bool, typer.Option("--untested", help="With install: take what fails its own tests.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With install: grant what it asks for.")] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="With test: ask this model, not the scripts."),
    ] = None,
) -> None:
    """Make, test, share and install apps.

    An app is a folder: app.toml, instructions, tests, files. What it may do stands in app.toml and is
    shown before it is installed, against what is there now; its tests are run first. Nothing is
    downloaded unasked.
    """
    from twofold.apps import installing, shelf
    from twofold.base.errors import UsageError
    from twofold.cli import terminal

    console = terminal.console()
    if action == "list":
        _list(store)
    elif action == "key":
        _own_key()
    elif name is None:
        raise UsageError(f"Say which: twofold app {action} NAME.")
    elif action == "show":
        _show(name)
    elif action == "new":
        folder = installing.starter(name, into or Path())
        console.print(f"{folder}: app.toml, instructions.md, tests/", markup=False, soft_wrap=True)
        console.print(f"twofold app test {folder}", style="cyan", markup=False, soft_wrap=True)
    elif action == "test":
        _test(name, model)
    elif action == "install":
        with installing.proposed(name, store, key=key, unsigned=unsigned) as proposal:
            _install(proposal, untested=untested, yes=yes)
    elif action == "publish":
        _publish(name, into)
    elif action == "remove":
        shelf.remove(name)
        console.print(f"{name} is removed; twofold app undo {name} brings it back.", markup=False)
    else:
        before = shelf.undo(name)
        now = f"{before.version} again" if before else "not installed"
        console.print(f"Undone: {name} is {now}.", markup=False)


def _list(store: str | None) -> None:
    from rich.table import Table

    from twofold.apps import origin, shelf, signing
    from twofold.apps import store as stores
    from twofold.base.errors import TwofoldError
    from twofold.cli import terminal

    console = terminal.console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("app", "version", "from", "what it does"):
        table.add_column(title, no_wrap=title != "what it does")
    for name in shelf.names():
        try:
            app = shelf.find(name)
        except TwofoldError as error:
            table.add_row(_plain(name), "", "damaged", _plain(str(error), "red"))
            continue
        there = shelf.present(name)
        by = (
            "built in"
            if there is None
            else signing.fingerprint(there.key)[:15] + "…"
            if there.key
            else "unsigned"
        )
        table.add_row(_plain(name, "bold"), app.manifest.version, by, _plain(app.manifest.description))
    console.print(table)
    if store is not None or origin.store_of(None) is not None:
        where = origin.store_of(store) or ""
        console.print(_plain(f"\nIn {where}:", "dim"), soft_wrap=True)
        for offer in stores.offers(where):
            by = signing.fingerprint(offer.key) if offer.key else "nobody"
            line = f"  {offer.name} {offer.version}  {terminal.size(offer.size)}, {by}: {offer.description}"
            console.print(_plain(line), soft_wrap=True)


def _show(name: str) -> None:
    from twofold.apps import manifest, shelf
    from twofold.cli import terminal

    app = manifest.read(Path(name)) if Path(name).is_dir() else shelf.find(name)
    console = terminal.console()
    console.print(_plain(f"{app.name} {app.manifest.version}, {app.origin}", "bold"), soft_wrap=True)
    console.print(_plain(app.manifest.description), soft_wrap=True)
    console.print("It may:", style="dim")
    for change in manifest.difference(None, app.manifest):
        console.print(_line(" ", change.text, change.why), soft_wrap=True)
    console.print("Its instructions:", style="dim")
    console.print(_plain(app.instructions()), soft_wrap=True)


def _install(proposal: "Proposal", *, untested: bool, yes: bool) -> None:
    from twofold.apps import signing, trial
    from twofold.base.errors import TwofoldError, UsageError
    from twofold.cli import terminal

    notes, new = terminal.error_console(), proposal.app.manifest
    before = f", now {proposal.before.version}" if proposal.before else ""
    notes.print(_plain(f"{new.name} {new.version}{before}: {new.description}", "bold"), soft_wrap=True)
    notes.print(_plain(f"from {proposal.source}"), soft_wrap=True)
    if proposal.key:
        notes.print(_plain(f"signed by {signing.fingerprint(proposal.key)}"), soft_wrap=True)
    for note in proposal.notes:
        notes.print(_plain(note, "yellow"), soft_wrap=True)
    notes.print("It may:" if proposal.before is None else "It may (+ new, - no more):", style="dim")
    for change in proposal.changes:
        notes.print(_line(change.sign if proposal.before else " ", change.text, change.why), soft_wrap=True)
    with notes.status("Running its tests"):
        outcomes = trial.run(proposal.app)
    _tell(outcomes)
    if not all(outcome.passed for outcome in outcomes) and not untested:
        raise TwofoldError(f"{new.name} fails its own tests, so it is not installed; --untested takes it.")
    if proposal.widens and not yes:
        if not terminal.interactive():
            raise UsageError("Nobody is there to grant this: --yes does.")
        if not typer.confirm("Grant this and install it?", default=False, err=True):
            raise TwofoldError("Nothing was installed.")
    app = proposal.accept()
    terminal.console().print(f"{app.name} {app.manifest.version} is installed.", markup=False)
    terminal.console().print(f'twofold run {app.name} "…"', style="cyan", markup=False)


def _test(name: str, model: str | None) -> None:
    from twofold.apps import manifest, shelf, trial
    from twofold.cli import terminal

    app = manifest.read(Path(name)) if Path(name).is_dir() else shelf.find(name)
    with terminal.error_console().status("Running its tests"):
        outcomes = trial.run(app, model=model)
    _tell(outcomes)
    failed = sum(not outcome.passed for outcome in outcomes)
    terminal.console().print(f"{len(outcomes) - failed} passed, {failed} failed", markup=False)
    if failed:
        sys.exit(1)


def _tell(outcomes: Sequence["Outcome"]) -> None:
    from twofold.cli import terminal

    notes = terminal.error_console()
    if not outcomes:
        notes.print("It has no tests.", style="yellow")
    for outcome in outcomes:
        mark, style = ("✓", "green") if outcome.passed else ("✗", "red")
        notes.print(_plain(f"{mark} {outcome.name}: {outcome.about}", style), soft_wrap=True)
        for reason in outcome.failures:
            notes.print(_plain(f"    {reason}"), soft_wrap=True)


def _publish(name: str, into: Path | None) -> None:
    from twofold.apps import manifest, shelf, signing, trial
    from twofold.apps import store as stores
    from twofold.base.errors import TwofoldError, UsageError
    from twofold.cli import terminal

    if into is None:
        raise UsageError("Say into which store's folder: twofold app publish FOLDER --into STORE.")
    app = manifest.read(Path(name))
    outcomes = trial.run(app)
    _tell(outcomes)
    if not all(outcome.passed for outcome in outcomes):
        raise TwofoldError(f"{app.name} fails its own tests, so it is not published.")
    key = signing.own_key(shelf.folder() / "publisher.pem")
    offer = stores.publish(app.folder, into, key)
    told = (
        f"{into / offer.file}: {terminal.size(offer.size)}, signed by {signing.fingerprint(offer.key or '')}"
    )
    terminal.console().print(_plain(told), soft_wrap=True)
    terminal.console().print(
        f"Serve {into} by any web server, and: twofold app install {app.name} --store ADDRESS", markup=False,
        soft_wrap=True,
    )  # fmt: skip


def _own_key() -> None:
    from twofold.apps import shelf, signing
    from twofold.cli import terminal

    path = shelf.folder() / "publisher.pem"
    public = signing.public_of(signing.own_key(path))
    console = terminal.console()
    console.print(f"{signing.fingerprint(public)}\n{public}", markup=False, soft_wrap=True)
    console.print(_plain(f"{path}: keep it to yourself, and keep a copy.", "dim"), soft_wrap=True)


def _line(sign: str, text: str, why: str) -> "Text":
    style = {"+": "green", "-": "red"}.get(sign, "")
    line = _plain(f"  {sign} {text}", style)
    return line.append(f" ({_plain(why).plain})", "dim") if why else line


def _plain(text: str, style: str = "") -> "Text":
    """Return a text of strangers that cannot steer the terminal."""
    from rich.text import Text

    from twofold.cli import terminal

    return Text(terminal.clean(text), style)
