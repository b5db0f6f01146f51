"""`twofold labels`: what you have said about answers, and the instructions you said it under."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from twofold.kernel.labels import Label, Labels

SECTION = "Talk"
EXAMPLE = ("twofold labels", "see what you said about answers (/fix, /better, /worse in the chat)")


def command(
    what: Annotated[
        Literal["count", "show", "path", "instructions", "edit"],
        typer.Argument(metavar="WHAT", help="count, show, path, instructions, or edit (the instructions)."),
    ] = "count",
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="With edit: the new instructions, instead of an editor."),
    ] = None,
    last: Annotated[
        int, typer.Option("--last", "-n", metavar="N", min=1, help="With show: the last N labels.")
    ] = 20,
) -> None:
    """Show the labels made in the chat, or the instructions for making them.

    Instructions have versions: a change makes the next one, and every label says under which it was made.
    """
    from twofold.base.errors import UsageError
    from twofold.cli import terminal
    from twofold.kernel.labels import Labels

    if file is not None and what != "edit":
        raise UsageError("--file goes with `twofold labels edit`.")
    labels, console = Labels(), terminal.console()
    if what == "path":
        console.print(str(labels.path), markup=False, soft_wrap=True)
    elif what == "instructions":
        console.print(terminal.clean(labels.instructions().rstrip()), markup=False, soft_wrap=True)
    elif what == "edit":
        before = labels.version()
        text = file.read_text(encoding="utf-8") if file is not None else _edited(labels.instructions())
        version = labels.instruct(text)
        changed = "nothing has changed" if version == before else f"version {before} is kept, too"
        console.print(f"Labelling instructions, version {version}: {changed}.")
    elif what == "show":
        for label in labels.all()[-last:]:
            _show(label)
    else:
        _count(labels)


def _count(labels: "Labels") -> None:
    from twofold.cli import terminal

    console = terminal.console()
    counts = labels.counts()
    good = f"{counts['good']:,} good answers, " if counts["good"] else ""
    console.print(
        f"{good}{counts['fix']:,} corrections and {counts['compare']:,} comparisons, under version "
        f"{labels.version()} of the instructions."
    )
    console.print(f"[dim]{labels.path}[/]", soft_wrap=True)
    told = (
        "`twofold tune` learns from them."
        if sum(counts.values())
        else "Make some in `twofold chat`: /fix TEXT."
    )
    console.print(told, markup=False)


def _show(label: "Label") -> None:
    from rich.text import Text

    from twofold.cli import terminal

    console = terminal.console()
    head = f"{label.time} · {label.who} · {label.model.get('name', '?')} · instructions {label.instructions}"
    console.print(Text(terminal.clean(head), "dim"), soft_wrap=True)
    earlier = len(label.messages) - 1
    if earlier:
        console.print(Text(f"  … {earlier} messages before", "dim"))
    rows = [("»", str(label.messages[-1]["content"]), "cyan")]
    rows += [("✗", label.answer, "red")] if label.answer != label.better else []
    rows += [("✓", label.better, "green")] + ([("why", label.why, "default")] if label.why else [])
    for mark, text, style in rows:
        console.print(Text(f"  {mark} {terminal.clean(text)}", style), soft_wrap=True)


def _edited(text: str) -> str:
    """Return what the user's editor makes of a text. Raises UsageError when none is set, or it fails."""
    from twofold.base.errors import UsageError

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError("Set EDITOR to the name of your editor, or give the new text by --file.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "instructions.md"
        path.write_text(text, encoding="utf-8")
        try:
            done = subprocess.run([*shlex.split(editor), str(path)])
        except OSError as error:
            raise UsageError(f"The editor {editor} cannot be started: {error.strerror}.") from error
        if done.returncode:
            raise UsageError(f"The editor ended with {done.returncode}; the instructions stay as they are.")
        return path.read_text(encoding="utf-8")
