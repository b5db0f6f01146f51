"""Search: passages of the user's own files, by words and by meaning, each with the place where it stands.

Text, Markdown, HTML, PDF and Word files of the granted folders are read as they change (_library.py). A hit
names file, page, lines and characters; `check` looks a quotation up in the file itself, as it is now, so that
a citation can be trusted. Paths are those of the files device: /papers/a.pdf is a.pdf in the folder `papers`.

What an app brings for its processes (`files` of app.toml) stands in /app for them, in an index of its own.
Who signed the app's instructions signed these, too, so they are trusted as much; what is found among the
user's files may be a stranger's.

Settings (`[search]` of devices.toml): `folders`, a table of name = path; `embedder` (kernel/embedders);
`meaning`, the weight of vectors against words. How good it is: benchmarks/search.py, docs/devices.md.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from twofold.base.errors import BadFileError, MissingExtraError, UsageError
from twofold.base.home import data_folder
from twofold.devices import _forms
from twofold.devices._library import Found, Freshness, Library, telling
from twofold.kernel import embedders
from twofold.kernel.device import Context, Device, DeviceError, Effect, Function, Returned
from twofold.kernel.flow import Label, Ring, join
from twofold.kernel.recall import MEANING

DESCRIPTION = "Searches the user's files, and says where things stand in them."
_SECONDS = 30.0  # of a search may be spent on reading new files
_MOST = 20
_APP = "app"  # the folder in which a process finds what its app brings
Within = Callable[[str], bool]

_FUNCTIONS = (
    Function(
        name="search",
        description="Searches the files.",
        parameters=_forms.object_of(
            {
                "query": _forms.text("what to look for, in a few words or a question", longest=2_000),
                "folder": _forms.text("where, such as /papers; everywhere unless said", longest=1_000),
                "count": {
                    "type": "integer", "minimum": 1, "maximum": _MOST,
                    "description": "how many; 5 unless said",
                },
            },
            required=("query",),
        ),
        effect=Effect.READ,
        targets=("folder",),
    ),
    Function(
        name="check",
        description="Tells whether a quotation stands in a file, and where.",
        parameters=_forms.object_of(
            {
                "path": _forms.text("the file, such as /papers/a.pdf", longest=1_000),
                "quote": _forms.text("the words, exactly; white space does not matter", longest=4_000),
            },
            required=("path", "quote"),
        ),
        effect=Effect.READ,
        targets=("path",),
    ),
)  # fmt: skip


class Search:
    """The device."""

    def __init__(self, folders: Mapping[str, Path], indexes: Path, embedder: str, meaning: float) -> None:
        self._folders = folders
        self._settings = indexes, embedder, meaning
        self._libraries: dict[str, Library] = {}
        self._lock = threading.Lock()

    def functions(self) -> Sequence[Function]:
        """Return what it can do."""
        return _FUNCTIONS

    def call(self, function: str, arguments: Mapping[str, Any], context: Context) -> Returned:
        """Return passages with their places, or where a quotation stands. Raises DeviceError."""
        _forms.check(_FUNCTIONS, function, arguments)
        if not self._folders and not context.files:
            raise DeviceError("No folders are open to searching: name some under [search] in devices.toml.")
        with telling():
            if function == "check":
                return self._check(arguments["path"], arguments["quote"], context)
            return self._search(arguments, context)

    def close(self) -> None:
        """Close the indexes."""
        with self._lock:
            for library in self._libraries.values():
                library.close()
            self._libraries.clear()

    def _library(self, folders: Mapping[str, Path]) -> Library:
        indexes, chosen, meaning = self._settings
        # Folders and embedder name the index: others have another one, and nothing is mixed up.
        spelled = json.dumps([{name: str(path) for name, path in sorted(folders.items())}, chosen])
        key = hashlib.sha256(spelled.encode()).hexdigest()[:16]
        with self._lock:
            if key not in self._libraries:
                embedder = embedders.find(chosen) if chosen != "none" else None
                self._libraries[key] = Library(folders, indexes / f"{key}.db", embedder, meaning=meaning)
            return self._libraries[key]

    def _among(self, folder: str, context: Context) -> list[tuple[Library, Within, Label]]:
        """Return the libraries that hold what is beneath a folder, which files count there, and their label.

        Raises DeviceError where there is no such folder.
        """
        top = folder.split("/")[1]
        within = _within(folder, context.scope)
        found: list[tuple[Library, Within, Label]] = []
        if self._folders and (not top or top in self._folders):
            # Strangers wrote some of the user's files.
            label = Label(Ring.TOOL, frozenset({"user"}), frozenset())
            found.append((self._library(self._folders), within, label))
        if context.folder and context.files and top in ("", _APP):
            brought = _within("/", [f"/{_APP}/{name}" for name in context.files])
            label = Label(Ring.DEVELOPER, None, frozenset({context.app}))
            library = self._library({_APP: context.folder})
            found.append((library, lambda one: within(one) and brought(one), label))
        if not found:
            there = [*self._folders, *([_APP] if context.files else [])]
            raise DeviceError(
                f"There is no folder /{top}; there are {', '.join(f'/{one}' for one in there)}."
            )
        return found

    def _search(self, arguments: Mapping[str, Any], context: Context) -> Returned:
        count = arguments.get("count", 5)
        found: list[Found] = []
        state, labels = Freshness(0, 0, {}), []
        for library, within, label in self._among("/" + arguments.get("folder", "/").strip("/"), context):
            fresh = library.refresh(within, seconds=_SECONDS, cancelled=context.cancelled)
            state = Freshness(
                state.files + fresh.files, state.unread + fresh.unread, {**state.wrong, **fresh.wrong}
            )
            found += library.search(arguments["query"], count, within)
            labels.append(label)
        found = sorted(found, key=lambda one: -one.score)[:count]
        value = {
            "results": [_record(one) for one in found], "files": state.files, "unread": state.unread,
            "wrong": dict(state.wrong),
        }  # fmt: skip
        return Returned(
            value=value, text=_told(found, state), label=_label(labels, [one.path for one in found])
        )

    def _check(self, path: str, quote: str, context: Context) -> Returned:
        if not _within("/", context.scope)(path):
            raise DeviceError(f"{path!r} is outside of what this process may read.")
        library, within, label = self._among(f"/{path.split('/')[1]}", context)[0]
        if not within(path):
            raise DeviceError(f"{path!r} is outside of what this process may read.")
        try:
            document = library.document(path)
        except (BadFileError, MissingExtraError) as error:
            raise DeviceError(str(error)) from None
        place = document.at(quote)
        label = _label([label], [path])
        if place is None:
            value: dict[str, Any] = {"found": False}
            return Returned(value=value, text=f"That does not stand in {path}.", label=label)
        value = {
            "found": True,
            "page": place.page,
            "lines": list(place.lines),
            "offsets": list(place.offsets),
        }
        return Returned(value=value, text=f"It stands in {path}, {place}.", label=label)


def _within(folder: str, scope: Sequence[str]) -> Callable[[str], bool]:
    """Return which files count: those beneath a folder, as far as the process's scope goes."""
    start = folder.rstrip("/") + "/"
    return lambda path: (
        path.startswith(start)
        and (
            not scope
            or any(
                fnmatchcase(path, pattern) or path.startswith(pattern.rstrip("/") + "/") for pattern in scope
            )
        )
    )


def _label(among: Sequence[Label], paths: Sequence[str]) -> Label:
    """Return the label of what stands in files of these libraries."""
    sources = frozenset(f"file:{path}" for path in paths if not path.startswith(f"/{_APP}/"))
    return join([*among, Label(Ring.SYSTEM, None, sources)])


def _place(one: Found) -> str:
    first, last = one.lines
    lines = f"line {first}" if first == last else f"lines {first}-{last}"
    return f"page {one.page}, {lines}" if one.page is not None else lines


def _record(one: Found) -> dict[str, Any]:
    return {
        "path": one.path, "page": one.page, "lines": list(one.lines), "offsets": list(one.offsets),
        "headings": one.headings, "text": one.text, "score": round(one.score, 4),
    }  # fmt: skip


def _told(found: Sequence[Found], state: Freshness) -> str:
    parts = []
    for number, one in enumerate(found, 1):
        under = f" ({one.headings})" if one.headings else ""
        parts.append(f"[{number}] {one.path}, {_place(one)}{under}\n{one.text}")
    if not parts:
        parts.append("Nothing was found." if state.files else "There are no files that can be read.")
    if state.unread:
        parts.append(f"{state.unread} files are not read yet: search again to go on.")
    return "\n\n".join(parts)


def open(settings: Mapping[str, Any]) -> Device:
    """Return the device. Nothing is read before the first search."""
    _forms.settings("search", settings, ("folders", "embedder", "meaning", "index"))
    folders = settings.get("folders", {})
    if not isinstance(folders, Mapping) or any(
        not isinstance(path, str) or not name or "/" in name or name.startswith(".")
        for name, path in folders.items()
    ):
        raise UsageError('devices.toml, [search]: `folders` is a table such as { papers = "~/Papers" }.')
    meaning = settings.get("meaning", MEANING)
    if isinstance(meaning, bool) or not isinstance(meaning, int | float) or not 0 <= meaning <= 1:
        raise UsageError("devices.toml, [search]: `meaning` is a number from 0 to 1.")
    embedder = str(settings.get("embedder", embedders.DEFAULT))
    if embedder != "none" and embedder not in embedders.EMBEDDERS.names():
        with contextlib.suppress(UsageError):
            embedders.EMBEDDERS.get(embedder)
        raise UsageError(f"devices.toml, [search]: there is no embedder {embedder!r}.")
    if _APP in folders:
        raise UsageError(f"devices.toml, [search]: /{_APP} is for the files of apps: name it otherwise.")
    known = {name: Path(path).expanduser().absolute() for name, path in folders.items()}
    return Search(known, Path(settings.get("index", data_folder() / "os" / "search")), embedder, meaning)
