"""The user's files: list, find, read, write, edit, move, delete; within granted folders, and everything can
be undone.

`notes/a.txt` is in the process's own folder, `/papers/a.pdf` in the folder that the user has granted as
`papers`. A path has one spelling, is walked by descriptor and follows no links (_beneath.py), so that what a
policy has allowed is what is opened. Nothing is ever lost: what a write replaces and what is deleted is kept
(_changes.py).

Settings (`[files]` of devices.toml): `folders`, a table of name = path, and `writable`, a list of those of
these names that may be changed too. Without settings there is only the process's own folder.

Not covered: files of more than 32 MB as texts; owners, dates and extended attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, BinaryIO

from twofold.base.errors import TwofoldError
from twofold.base.home import data_folder
from twofold.devices import _changes, _documents
from twofold.devices._beneath import Folder, kind_of, names_in
from twofold.devices._changes import Change, Thing
from twofold.kernel.device import Context, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import Label, Ring

DESCRIPTION = (
    "Lists, finds, reads and changes files in folders that the user has granted; every change can be undone."
)

MOST_BYTES = 32_000_000
_MOST_LINES, _MOST_CHARACTERS = 400, 40_000  # of one reading
_MOST_FOUND = 100
_PATH = {
    "type": "string",
    "description": "folder/file in your own folder, or /name/folder/file in a granted one",
}
_FOLDER = {
    "type": "string",
    "description": "a folder like a path; your own when left out; / lists those granted",
}


def _function(
    name: str, description: str, effect: Effect, properties: dict[str, Any], optional: Sequence[str] = (),
    targets: Sequence[str] = ("path",), contents: Sequence[str] = (),
) -> Function:  # fmt: skip
    schema = {
        "type": "object", "properties": properties, "additionalProperties": False,
        "required": [key for key in properties if key not in optional],
    }  # fmt: skip
    return Function(
        name=name, description=description, parameters=schema, effect=effect, targets=tuple(targets),
        contents=tuple(contents),
    )  # fmt: skip


_TEXT, _NUMBER = {"type": "string"}, {"type": "integer", "minimum": 1}
_FUNCTIONS = (
    _function("list", "List a folder.", Effect.READ, {"folder": _FOLDER}, ["folder"], ["folder"]),
    _function(
        "find", "Find files by a pattern of their names (*.md), by words in them, or both.", Effect.READ,
        {"folder": _FOLDER, "name": _TEXT, "text": _TEXT}, ["folder", "name", "text"], ["folder"],
    ),
    _function(
        "read", "Read a file as text: also PDF, Word and HTML. Long ones in parts, by lines.", Effect.READ,
        {"path": _PATH, "from_line": _NUMBER, "lines": _NUMBER}, ["from_line", "lines"],
    ),
    _function(
        "write", "Write a text file; one that is there is replaced.", Effect.WRITE,
        {"path": _PATH, "text": _TEXT}, contents=["text"],
    ),
    _function(
        "edit", "Replace a passage of a text file. It must occur exactly once.", Effect.WRITE,
        {"path": _PATH, "old": _TEXT, "new": _TEXT}, contents=["old", "new"],
    ),
    _function(
        "move", "Move or rename a file or folder; nothing may be there yet.", Effect.WRITE,
        {"path": _PATH, "to": _PATH}, targets=["path", "to"],
    ),
    _function("delete", "Delete a file, or a folder with all it holds.", Effect.WRITE, {"path": _PATH}),
    _function(
        "undo", "Take back a change that write, edit, move or delete has made.", Effect.WRITE,
        {"change": {"type": "string", "description": "its name, as it was returned"}}, targets=[],
    ),
)  # fmt: skip


class Files:
    """The device."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._kept = _changes.Undo(Path(settings.get("kept", data_folder() / "os")) / "changes")
        self._granted = {name: Path(path).expanduser() for name, path in settings.get("folders", {}).items()}
        self._writable = set(settings.get("writable", ()))
        if unknown := self._writable - set(self._granted):
            raise TwofoldError(
                f"[files] of devices.toml: {sorted(unknown)} in `writable` are not in `folders`."
            )
        for name in self._granted:
            if names_in(name) != [name]:
                raise TwofoldError(f"[files] of devices.toml: {name!r} in `folders` is a path, not a name.")

    def functions(self) -> Sequence[Function]:
        """Return list, find, read, write, edit, move, delete and undo."""
        return _FUNCTIONS

    def close(self) -> None:
        """Do nothing: no folder stays open between calls."""

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Carry out one of them. Raises DeviceError."""
        carried_out: Returned = getattr(self, f"_{function}")(context=context, **arguments)
        return carried_out

    # ---- reading

    def _list(self, context: Context, folder: str = "") -> Returned:
        if folder == "/":
            named = {
                name: "may be changed" if name in self._writable else "read only" for name in self._granted
            }
            return Returned(
                value=named, text="\n".join(f"/{name} ({how})" for name, how in named.items()) or "none"
            )
        with self._opened(folder, context) as (root, inner):
            state = root.state(inner)
            if state is None or not S_ISDIR(state.st_mode):
                raise DeviceError(f"{folder} is not a folder." if state else f"{folder} does not exist.")
            found = []
            for path, state in root.walk(inner):
                if path.count("/") > (inner.count("/") + 1 if inner else 0):
                    break  # what is in a folder comes after all that is beside it
                found.append(_entry(_joined(folder, inner, path), state))
        lines = (
            f"{e['path']}/" if e["kind"] == "folder" else f"{e['path']} ({e['bytes']:,} bytes)" for e in found
        )
        return Returned(value=found, text="\n".join(lines) or "The folder is empty.", label=_label(folder))

    def _find(self, context: Context, folder: str = "", name: str = "*", text: str = "") -> Returned:
        found: list[dict[str, Any]] = []
        more = False
        with self._opened(folder, context) as (root, inner):
            for path, state in root.walk(inner):
                shown = _joined(folder, inner, path)
                if context.cancelled() or more:
                    break
                if not S_ISREG(state.st_mode) or not fnmatchcase(path.rpartition("/")[2], name):
                    continue
                if context.scope and not any(fnmatchcase(shown, pattern) for pattern in context.scope):
                    continue
                hits = [_entry(shown, state)] if not text else list(_lines_with(root, path, shown, text))
                more = len(found) + len(hits) > _MOST_FOUND
                found += hits[: _MOST_FOUND - len(found)]
        lines = [f"{e['path']}:{e['line']}: {e['text']}" if text else e["path"] for e in found]
        if more:
            lines.append(f"[there are more than {_MOST_FOUND}; say more exactly what you look for]")
        return Returned(value=found, text="\n".join(lines) or "Nothing was found.", label=_label(folder))

    def _read(self, context: Context, path: str, from_line: int = 1, lines: int = _MOST_LINES) -> Returned:
        with self._opened(path, context) as (root, inner):
            content = _content(root, inner, path)
        all_lines = _text(content, path).splitlines()
        if from_line > max(len(all_lines), 1):
            raise DeviceError(f"{path} has {len(all_lines):,} lines; there is no line {from_line:,}.")
        part = all_lines[from_line - 1 : from_line - 1 + min(lines, _MOST_LINES)]
        while len(part) > 1 and sum(map(len, part)) > _MOST_CHARACTERS:
            del part[(len(part) + 1) // 2 :]
        text = "\n".join(part)[:_MOST_CHARACTERS]
        last = from_line + len(part) - 1
        note = (
            f"\n[lines {from_line:,} to {last:,} of {len(all_lines):,}]" if len(part) < len(all_lines) else ""
        )
        value = {"text": text, "from_line": from_line, "to_line": last, "lines": len(all_lines)}
        return Returned(value=value, text=text + note, label=_label(path))

    # ---- changing

    def _write(self, context: Context, path: str, text: str) -> Returned:
        with self._opened(path, context, change=True) as (root, inner):
            return self._replaced(root, inner, path, text.encode("utf-8", "replace"), context)

    def _edit(self, context: Context, path: str, old: str, new: str) -> Returned:
        if not old:
            raise DeviceError("The passage to replace is empty; use write for a new file.")
        with self._opened(path, context, change=True) as (root, inner):
            content = _content(root, inner, path)
            try:
                text = content.decode()
            except UnicodeDecodeError:
                raise DeviceError(f"{path} is not a text in UTF-8, so it cannot be edited.") from None
            count = text.count(old)
            if count != 1:
                where = "does not occur" if not count else f"occurs {count} times"
                raise DeviceError(f"The passage {where} in {path}; copy it exactly, with enough around it.")
            return self._replaced(root, inner, path, text.replace(old, new).encode(), context)

    def _replaced(self, root: Folder, inner: str, path: str, content: bytes, context: Context) -> Returned:
        if len(content) > MOST_BYTES:
            raise DeviceError(f"That is more than {MOST_BYTES:,} bytes; write less.")
        before = _changes.thing(root, inner)
        if before is not None and before.kind != "file":
            raise DeviceError(f"{path} is a {before.kind}, and a file cannot take its place.")
        change = Change(inner, before, _changes.written(before, content))
        return self._made(root, [*_missing_folders(root, inner), change], path, context, {inner: content})

    def _move(self, context: Context, path: str, to: str) -> Returned:
        with (
            self._opened(path, context, change=True) as (root, inner),
            self._opened(to, context, change=True) as there,
        ):
            target, goal = there
            if root.path != target.path:
                raise DeviceError(
                    "Moving goes within one granted folder; write it there, and delete it here."
                )
            if target.state(goal) is not None:
                raise DeviceError(f"{to} exists already.")
            if f"{goal}/".startswith(f"{inner}/"):
                raise DeviceError(f"{to} is within {path}.")
            things = _tree(root, inner, path)
            changes = [Change(p, thing, None) for p, thing in things.items()]
            changes += _missing_folders(root, goal)
            changes += [Change(goal + p[len(inner) :], None, thing) for p, thing in things.items()]
            return self._made(root, changes, to, context, {}, moved=(inner, goal))

    def _delete(self, context: Context, path: str) -> Returned:
        with self._opened(path, context, change=True) as (root, inner):
            changes = [Change(p, thing, None) for p, thing in _tree(root, inner, path).items()]
            return self._made(root, changes, path, context, {})

    def _undo(self, context: Context, change: str) -> Returned:
        where = self._kept.where(change)
        may = [context.workspace, *(self._granted[name] for name in self._writable)]
        for folder in may:
            with Folder(folder) as root:
                if str(root.path) == where:
                    changes = self._kept.take_back(change, root, context.pid)
                    made = [_changes.described(one) for one in changes]
                    return Returned(value={"changes": made}, text="Taken back:\n" + "\n".join(made))
        raise DeviceError(f"There is no change {change!r} to take back here.")

    def _made(
        self, root: Folder, changes: Sequence[Change], path: str, context: Context, new: Mapping[str, bytes],
        moved: tuple[str, str] = ("", ""),
    ) -> Returned:  # fmt: skip
        @contextmanager
        def opening(inner: str) -> Iterator[BinaryIO]:
            if inner in new:
                yield BytesIO(new[inner])
            else:
                source, goal = moved
                with root.reading(source + inner[len(goal) :]) as file:
                    yield file

        name = self._kept.make(root, changes, opening, context.pid)
        made = [_changes.described(change) for change in changes]
        files = (
            ()
            if path.startswith("/")
            else tuple(c.path for c in changes if c.after and c.after.kind == "file")
        )
        shown = made if len(made) <= 20 else [*made[:20], f"and {len(made) - 20:,} more"]
        text = "\n".join(shown) + f"\n[undo: {name}]"
        return Returned(value={"change": name, "changes": made}, text=text, files=files, label=_label(path))

    # ---- where a path leads

    @contextmanager
    def _opened(self, path: str, context: Context, *, change: bool = False) -> Iterator[tuple[Folder, str]]:
        """Yield the folder a path is in, and the path within. Raises DeviceError where it may not lead."""
        if not path.startswith("/"):
            names_in(path)
            context.workspace.mkdir(parents=True, exist_ok=True)
            place, inner = context.workspace, path
        else:
            name, _, inner = path[1:].partition("/")
            names_in(path[1:])
            if name not in self._granted:
                granted = ", ".join(f"/{known}" for known in self._granted) or "none"
                raise DeviceError(
                    f"{path} is not in a folder that the user has granted; those are: {granted}."
                )
            if change and name not in self._writable:
                raise DeviceError(f"/{name} may only be read; the user can add it to `writable`.")
            place = self._granted[name]
        with Folder(place) as root:
            yield root, inner


def _tree(root: Folder, inner: str, path: str) -> dict[str, Thing]:
    """Return all that is at a path and below. Raises DeviceError when nothing is."""
    if not inner:
        raise DeviceError(f"{path or 'Your folder'} itself can be neither moved nor deleted.")
    top = _changes.thing(root, inner)
    if top is None:
        raise DeviceError(f"{path} does not exist.")
    things = {inner: top}
    if top.kind == "folder":
        for found, state in root.walk(inner):
            if (thing := _changes.thing(root, found, state)) is not None:
                things[found] = thing
    return things


def _missing_folders(root: Folder, inner: str) -> list[Change]:
    names = names_in(inner)[:-1]
    above = ["/".join(names[: n + 1]) for n in range(len(names))]
    return [Change(path, None, Thing("folder", 0o755)) for path in above if root.state(path) is None]


def _entry(path: str, state: Any) -> dict[str, Any]:
    changed = datetime.fromtimestamp(state.st_mtime, UTC).isoformat(timespec="seconds")
    kind = kind_of(state.st_mode).partition(" ")[2]
    return {"path": path, "kind": kind, "bytes": state.st_size, "changed": changed}


def _joined(folder: str, inner: str, path: str) -> str:
    """Return a path within a granted folder as a process writes it."""
    return folder[: len(folder) - len(inner)].rstrip("/") + "/" + path if folder.startswith("/") else path


def _content(root: Folder, inner: str, path: str) -> bytes:
    with root.reading(inner) as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DeviceError(f"{path} has more than {MOST_BYTES:,} bytes, too many to be read as a text.")
    return content


def _text(content: bytes, path: str) -> str:
    kind = _documents.kind(path)
    if kind in ("pdf", "docx", "html"):
        try:
            return _documents.parse(content, kind, path).text
        except TwofoldError as error:
            raise DeviceError(str(error)) from None
    if b"\0" in content[:8192]:
        raise DeviceError(f"{path} is not a text ({len(content):,} bytes).")
    return content.decode("utf-8", "replace")


def _lines_with(root: Folder, path: str, shown: str, text: str) -> Iterator[dict[str, Any]]:
    try:
        lines = _text(_content(root, path, shown), shown).splitlines()
    except DeviceError:
        return  # what cannot be read as a text holds no words
    for number, line in enumerate(lines, 1):
        at = line.casefold().find(text.casefold())
        if at >= 0:
            start = max(at - 80, 0)
            yield {"path": shown, "line": number, "text": line[start : start + 240].strip()}


def _label(path: str) -> Label:
    return Label(Ring.TOOL, frozenset({"user"}), frozenset({f"file:{path or '.'}"}))


def open(settings: Mapping[str, Any]) -> Files:
    """Return the device."""
    return Files(settings)
