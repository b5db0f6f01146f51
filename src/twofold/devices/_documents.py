"""Documents as pages of plain text with places to cite: text, Markdown, HTML, PDF and Word.

A document is a list of pages: those of a PDF, one for everything else. A place in it is page, line and
offset, and `Document.at` finds a quote again, so a citation can be checked. The bytes come from strangers:
sizes are bounded before anything is unpacked, foreign parsers run apart (_confined.py), and what nobody sees
when reading (controls, marks that reorder text, tags that spell out hidden letters) is left out.

Not covered: pictures of text (scans), old .doc, formulas, comments and tracked changes in Word files.
"""

import re
import unicodedata
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.parsers import expat

from twofold.base.errors import BadFileError, MissingExtraError
from twofold.devices import _confined

MOST_BYTES = 32_000_000  # of a file
MOST_CHARACTERS = 8_000_000  # of its text
_MOST_PAGES = 5_000
_PLAIN = (
    "txt", "text", "md", "markdown", "rst", "org", "tex", "csv", "tsv", "json", "jsonl", "yaml", "yml",
    "toml", "ini", "cfg", "log", "xml", "py", "c", "h", "js", "ts", "css", "sh", "sql", "rs", "go", "java",
    "svelte",
)  # fmt: skip


@dataclass(frozen=True)
class Document:
    """The text of a document: its pages, and whether they are pages one can turn to (`paged`)."""

    pages: tuple[str, ...]
    paged: bool = False
    title: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "\n\n".join(self.pages)

    def at(self, quote: str) -> "Place | None":
        """Return where a quote stands, whatever its white space; None when it does not stand there."""
        words = quote.split()
        if not words:
            return None
        pattern = re.compile(r"\s+".join(map(re.escape, words)))
        for number, page in enumerate(self.pages):
            match = pattern.search(page)
            if match:
                return self.place(number, match.start(), match.end())
        return None

    def place(self, page: int, start: int, end: int) -> "Place":
        """Return the place of characters `start` to `end` of a page (counted from 0)."""
        text = self.pages[page]
        first = text.count("\n", 0, start) + 1
        return Place(
            page=page + 1 if self.paged else None,
            lines=(first, first + text.count("\n", start, max(start, end - 1))),
            offsets=(start, end),
        )


@dataclass(frozen=True)
class Place:
    """Where something stands: its page (from 1, or None), lines (from 1), characters of the page (from 0)."""

    page: int | None
    lines: tuple[int, int]
    offsets: tuple[int, int]

    def __str__(self) -> str:
        """Return it as a citation has it: page 3, lines 4-9."""
        first, last = self.lines
        lines = f"line {first}" if first == last else f"lines {first}-{last}"
        return f"page {self.page}, {lines}" if self.page is not None else lines


def kind(name: str) -> str | None:
    """Return how a file of that name is read: plain, html, pdf or docx; None when it is not."""
    extension = name.rpartition(".")[2].casefold() if "." in name else ""
    if extension in _PLAIN:
        return "plain"
    return {"html": "html", "htm": "html", "xhtml": "html", "pdf": "pdf", "docx": "docx"}.get(extension)


def read(path: Path, data: bytes | None = None) -> Document:
    """Return a document; `data`: its bytes, when they are there already.

    Raises BadFileError for what cannot be read, MissingExtraError when a package is missing.
    """
    found = kind(path.name)
    if found is None:
        raise BadFileError(
            f"{path.name}: this kind of file cannot be read; known are text, HTML, PDF and Word."
        )
    if data is None:
        data = content(path)
    return parse(data, found, path.name)


def content(path: Path) -> bytes:
    """Return the bytes of a file. Raises BadFileError when it cannot be opened or is too large."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadFileError(f"{path.name}: {error.strerror}.") from None
    if len(data) > MOST_BYTES:
        raise BadFileError(f"{path.name}: it is larger than {MOST_BYTES // 1_000_000} MB.")
    return data


def parse(data: bytes, found: str, name: str) -> Document:
    """Return the document in some bytes of a kind (see `kind`). Raises as `read`."""
    if len(data) > MOST_BYTES:
        raise BadFileError(f"{name}: it is larger than {MOST_BYTES // 1_000_000} MB.")
    try:
        document = _READERS[found](data)
    except (BadFileError, _confined.ConfinedError) as error:
        raise BadFileError(f"{name}: {error}" + ("" if str(error).endswith(".") else ".")) from None
    if sum(map(len, document.pages)) > MOST_CHARACTERS:
        raise BadFileError(f"{name}: it holds more than {MOST_CHARACTERS:,} characters.")
    return document


def visible(text: str) -> str:
    """Return a text without what nobody sees: controls, marks of direction, tags; lines end in \\n."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(one for one in text if one in "\n\t" or _seen(one))


def _seen(character: str) -> bool:
    # Joiners shape Arabic, Indic letters and emoji; every other format character is invisible.
    return (
        unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn") or character in "\u200c\u200d"
    )


# --- one kind after the other


def _plain(data: bytes) -> Document:
    for mark, coding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return Document((visible(data.decode(coding, "replace")),))
    if b"\0" in data[:4096]:
        raise BadFileError("these bytes are no text")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("cp1252", "replace")
    return Document((visible(text),))


def _html(data: bytes) -> Document:
    from twofold.devices import _pages

    page = _pages.parse(data, None, "")
    if not page.text.strip():
        raise BadFileError("no text found in this page")
    return Document((page.text,), title=page.title)


def _pdf(data: bytes) -> Document:
    try:
        import pypdf  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("Reading PDF", "os") from error
    if b"%PDF-" not in data[:1024]:
        raise BadFileError("this is no PDF")
    found = _confined.run(f"{__name__}.pages_of_pdf", data)
    if "error" in found:
        raise BadFileError(found["error"])
    pages = tuple(visible(page) for page in found["pages"])
    if not any(page.strip() for page in pages):
        raise BadFileError("no text in this PDF; its pages may be scanned pictures")
    return Document(pages, paged=True, title=visible(found["title"]))


def pages_of_pdf(data: bytes) -> dict[str, object]:
    """Return `{"pages", "title"}` of a PDF, or `{"error"}`; called in a process of its own."""
    import logging

    import pypdf

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it warns about every crooked object it repairs
    try:
        reader = pypdf.PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return {"error": "this PDF is locked with a password"}
        if len(reader.pages) > _MOST_PAGES:
            return {"error": f"this PDF has more than {_MOST_PAGES:,} pages"}
        pages = [page.extract_text().encode("utf-8", "replace").decode() for page in reader.pages]
        metadata: Any = reader.metadata or {}
        title = str(metadata.get("/Title") or "")
    except MemoryError:
        return {"error": "this PDF needs too much memory"}
    except Exception as error:  # a broken PDF makes pypdf raise nearly anything
        return {"error": f"this PDF cannot be read ({str(error)[:100] or type(error).__name__})"}
    return {"pages": pages, "title": title.encode("utf-8", "replace").decode()}


def _docx(data: bytes) -> Document:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive, archive.open("word/document.xml") as file:
            inner = file.read(MOST_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, OSError, ValueError, RuntimeError, EOFError):
        raise BadFileError("this is no Word document that can be read") from None
    except Exception as error:  # zlib.error and lzma.LZMAError have no common ground but Exception
        raise BadFileError(f"this Word document is damaged ({error})") from None
    if len(inner) > MOST_BYTES:
        raise BadFileError(f"unpacked it is larger than {MOST_BYTES // 1_000_000} MB")
    return Document((visible(_Word().read(inner)),))


class _Word:
    """Reads the XML of a Word document: paragraphs as lines, a table's row as cells between bars."""

    _SPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
    _STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main "

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._run: list[str] = []
        self._cells: list[str] | None = None
        self._depth = self._writing = 0
        self._heading = ""

    def read(self, data: bytes) -> str:
        """Return the text. Raises BadFileError."""
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _no_doctype
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise BadFileError(f"this Word document is damaged ({error})") from None
        return "\n".join(self._lines).strip("\n")

    def _name(self, name: str) -> str:
        for space in (self._SPACE, self._STRICT):
            if name.startswith(space):
                return name.removeprefix(space)
        return ""

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        tag = self._name(name)
        self._depth += 1
        if self._depth > 200:
            raise BadFileError("this Word document is nested too deeply")
        if tag == "t":
            self._writing += 1
        elif tag in ("tab", "br", "cr"):
            self._run.append("\t" if tag == "tab" else "\n")
        elif tag == "tr":
            self._cells = []
        elif tag == "pStyle":
            style = next((value for key, value in attributes.items() if self._name(key) == "val"), "")
            level = re.fullmatch(r"[Hh]eading([1-6])", style)
            self._heading = "#" * int(level[1]) + " " if level else ""

    def _end(self, name: str) -> None:
        tag = self._name(name)
        self._depth -= 1
        if tag == "t":
            self._writing -= 1
        elif tag == "p":
            text = "".join(self._run)
            if self._cells is None:
                self._lines += [self._heading + text, ""] if text.strip() else []
                self._run = []
            else:
                self._run.append(" ")
            self._heading = ""
        elif tag == "tc" and self._cells is not None:
            self._cells.append(" ".join("".join(self._run).split()))
            self._run = []
        elif tag == "tr" and self._cells is not None:
            self._lines.append(f"| {' | '.join(self._cells)} |")
            self._cells, self._run = None, []
        elif tag == "tbl":
            self._lines.append("")

    def _characters(self, text: str) -> None:
        if self._writing:
            self._run.append(text)


def _no_doctype(*_: object) -> None:
    raise BadFileError("it declares entities, which no Word document does")


_READERS: Mapping[str, Callable[[bytes], Document]] = {
    "plain": _plain, "html": _html, "pdf": _pdf, "docx": _docx,
}  # fmt: skip
