"""A terminal: shell commands in a sandbox, on a draft of the process's folder; nothing is changed before
commit.

A command sees a copy of the folder and can change only that. What it added, changed and deleted comes back as
a list with a name; who commits says the name, so that exactly what was shown is what happens. Commit makes
all changes or none, keeps what was there before, and can be taken back.

Settings (`[terminal]` of devices.toml): `folder` (default: the process's own), `readable` (a list of more
folders that commands may look into), `ask` (whether the user is shown every change list; default true), and
the limits `seconds`, `cpu_s`, `memory_bytes`, `processes`, `disk_bytes`, `output_bytes`.

Not covered: a network, even a part of it; programs that go on after their command; /proc and /tmp (TMPDIR is
there); what differs from the copy only in owner, dates or extended attributes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twofold.base.home import data_folder
from twofold.devices import _changes, _sandbox
from twofold.devices._beneath import Folder
from twofold.devices._draft import Draft
from twofold.kernel.device import Context, DeviceError, Effect, Function, Returned

DESCRIPTION = (
    "Runs shell commands in a sandbox on a draft of a folder; changes are shown first and then committed."
)

_LONGEST_DIFF = 40_000  # characters of all diffs together, as they are shown
_ENDS = {
    "time": "it took more than {seconds} s",
    "cpu": "it used more than {cpu_s} s of processor time",
    "memory": "it used more than {memory_bytes:,} bytes of memory",
    "disk": "it wrote more than {disk_bytes:,} bytes, or hid what it wrote",
    "processes": "it started more than {processes} processes",
    "cancelled": "it was cancelled",
}
_DRAFT = {"type": "string", "description": "its name as run returned it, to be sure that it is this one"}
_FUNCTIONS = (
    Function(
        name="run",
        description=(
            "Run a shell command in the folder. It works on a draft: commit makes the changes. "
            "python has numpy, pandas and matplotlib where the user has them. There is no network."
        ),
        parameters={
            "type": "object",
            "properties": {"command": {"type": "string"}, "seconds": {"type": "integer", "minimum": 1}},
            "required": ["command"],
            "additionalProperties": False,
        },
        effect=Effect.READ,
        contents=("command",),
    ),
    Function(
        name="changes",
        description="Show what the draft would change, with differences of texts.",
        parameters={"type": "object", "properties": {}, "additionalProperties": False},
        effect=Effect.READ,
    ),
    Function(
        name="commit",
        description="Make the changes of the draft in the folder, all or none.",
        parameters={
            "type": "object",
            "properties": {"draft": _DRAFT},
            "additionalProperties": False,
        },
        effect=Effect.WRITE,
    ),
    Function(
        name="drop",
        description="Drop the draft; the folder stays as it is.",
        parameters={"type": "object", "properties": {}, "additionalProperties": False},
        effect=Effect.NONE,
    ),
    Function(
        name="undo",
        description="Take back a commit.",
        parameters={
            "type": "object",
            "properties": {"change": {"type": "string", "description": "its name, as commit returned it"}},
            "required": ["change"],
            "additionalProperties": False,
        },
        effect=Effect.WRITE,
    ),
)


class Terminal:
    """The device."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        kept = Path(settings.get("kept", data_folder() / "os"))
        self._drafts, self._undo = kept / "drafts", _changes.Undo(kept / "changes")
        folder = settings.get("folder")
        self._folder = Path(folder).expanduser() if folder else None
        self._readable = [Path(path).expanduser() for path in settings.get("readable", ())]
        self._ask = bool(settings.get("ask", True))
        self._limits = {name: int(settings.get(name, most)) for name, most in _sandbox.LIMITS.items()}

    def functions(self) -> Sequence[Function]:
        """Return run, changes, commit, drop and undo."""
        return _FUNCTIONS

    def close(self) -> None:
        """Do nothing: no command outlives its call."""

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Carry out one of them. Raises DeviceError."""
        draft = Draft(self._drafts / str(context.pid), self._folder or context.workspace)
        if function == "run":
            return self._run(draft, arguments["command"], arguments.get("seconds"), context)
        if function == "changes":
            return self._shown(draft)
        if function == "commit":
            return self._commit(draft, arguments.get("draft", ""), context)
        if function == "drop":
            draft.drop()
            return Returned(value={"dropped": True}, text="The draft is dropped.")
        return self._take_back(arguments["change"], context)

    def _run(self, draft: Draft, command: str, seconds: int | None, context: Context) -> Returned:
        limits = dict(self._limits)
        if seconds:
            limits["seconds"] = min(seconds, limits["seconds"])
        if "\0" in command or len(command) > 100_000:
            raise DeviceError(
                "The command is not one: it holds a zero byte, or more than 100,000 characters."
            )
        draft.begin()
        try:
            ran = _sandbox.run(
                command, folder=draft.tree, scratch=draft.scratch, shown_as=draft.folder,
                readable=self._readable, limits=limits, cancelled=context.cancelled,
            )  # fmt: skip
            if ran.ended == "exited":
                draft.keep()
        except BaseException:
            draft.back()
            raise
        if ran.ended != "exited":
            draft.back()
            why = _ENDS[ran.ended].format(**limits)
            raise DeviceError(f"The command was ended: {why}. It changed nothing. Its output:\n{ran.output}")
        changes = draft.changes() if draft.pending else []
        value = {"exit": ran.exit, "output": ran.output, "changes": [_changes.described(c) for c in changes]}
        text = ran.output + f"\n[exit {ran.exit}]"
        if changes:
            value["draft"] = _changes.name_of(changes)
            text += (
                "\n"
                + _listed(changes)
                + f"\nNothing is changed yet: commit draft {value['draft']}, or drop it."
            )
        return Returned(value=value, text=text.strip())

    def _shown(self, draft: Draft) -> Returned:
        changes = draft.changes() if draft.pending else []
        if not changes:
            return Returned(value={"changes": []}, text="There is no draft.")
        name = _changes.name_of(changes)
        text = self._in_words(draft, changes)
        value = {
            "draft": name,
            "changes": [_changes.described(change) for change in changes],
            "differences": text,
        }
        return Returned(value=value, text=f"Draft {name}:\n{text}")

    def _in_words(self, draft: Draft, changes: Sequence[_changes.Change]) -> str:
        parts = [_listed(changes)]
        room = _LONGEST_DIFF
        with Folder(draft.folder) as folder, Folder(draft.tree) as tree:
            for change in changes:
                difference = _changes.diff(change, folder.reading, tree.reading)
                if len(difference) > room:
                    parts.append("[differences of the rest are too long to be shown]")
                    break
                if difference:
                    room -= len(difference)
                    parts.append(f"{change.path}:\n{difference}")
        return "\n\n".join(parts)

    def _commit(self, draft: Draft, name: str, context: Context) -> Returned:
        changes = draft.changes() if draft.pending else []
        if not changes:
            raise DeviceError("There is no draft to commit.")
        draft_name = _changes.name_of(changes)
        if name not in ("", draft_name):
            raise DeviceError(f"The draft is not {name!r} any more, but {draft_name!r}; look at it first.")
        if why := draft.refused(changes):
            raise DeviceError(why)
        if self._ask:
            question = f"Make these changes in {draft.folder}?\n{self._in_words(draft, changes)}"
            # The answer may come much later: it is good for this list of changes and no other.
            answer = context.ask_user(question, [f"commit {draft_name}", "drop"])
            if answer == "drop":
                draft.drop()
                raise DeviceError("The user did not want the changes; the draft is dropped.")
            if answer != f"commit {draft_name}":
                raise DeviceError(f"The user has not agreed to the draft {draft_name}; it is still there.")
        with Folder(draft.folder) as root, Folder(draft.tree) as tree:
            change = self._undo.make(root, changes, tree.reading, context.pid)
        draft.drop()
        made = [_changes.described(change) for change in changes]
        return Returned(
            value={"change": change, "changes": made}, text=f"Committed as {change}:\n{_listed(changes)}",
            files=tuple(c.path for c in changes if c.after and c.after.kind == "file"),
        )  # fmt: skip

    def _take_back(self, name: str, context: Context) -> Returned:
        with Folder(self._folder or context.workspace) as root:
            changes = self._undo.take_back(name, root, context.pid)
        made = [_changes.described(change) for change in changes]
        return Returned(value={"changes": made}, text=f"Taken back:\n{_listed(changes)}")


def _listed(changes: Sequence[_changes.Change]) -> str:
    lines = [_changes.described(change) for change in changes[:200]]
    if len(changes) > 200:
        lines.append(f"and {len(changes) - 200:,} more")
    return "\n".join(lines)


def open(settings: Mapping[str, Any]) -> Terminal:
    """Return the device."""
    return Terminal(settings)
