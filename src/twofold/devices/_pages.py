"""A web page as text: its main part by `trafilatura`, tables kept, links as numbers in brackets.

What a person would not see (hidden elements, scripts, comments) is not read either: it is where strangers
leave words for models. A page with no main part, such as a list of links, is given whole.

What lies more than 255 elements deep is left out (by libxml2). Not covered: what scripts would put there (the
browser's `render` runs them first), frames, forms.
"""

import re
import urllib.parse
from dataclasses import dataclass
from typing import Any

from twofold.base.errors import BadFileError, MissingExtraError

MOST_LINKS = 500
_HIDDEN = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d])|opacity\s*:\s*0(?![.\d])|"
    r"(?:text-indent|left|top)\s*:\s*-\d{3,}",
    re.IGNORECASE,
)
_DROPPED = ("script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "head", "select")
_BLOCKS = (
    "p", "div", "section", "article", "h1", "h2", "h3", "h4", "h5", "h6", "li", "ul", "ol", "tr", "table",
    "br", "header", "footer", "nav", "main", "aside", "pre", "blockquote", "dt", "dd", "form",
)  # fmt: skip
_MARKS = re.compile("⟦(\\d+)⟧")  # a link's number while the page is read: brackets that pages do not use


@dataclass(frozen=True)
class Link:
    """A link of a page: what it says and where it leads."""

    text: str
    url: str


@dataclass(frozen=True)
class WebPage:
    """A page that was read. In `text`, [3] follows what the third of `links` says."""

    title: str
    text: str
    links: tuple[Link, ...]


def parse(data: bytes, charset: str | None, url: str) -> WebPage:
    """Return a page. `charset`: as the server says; `url`: what its links are relative to ("" for a file).

    Raises BadFileError when it is no page, MissingExtraError without trafilatura.
    """
    try:
        import lxml.etree
        import lxml.html
    except ImportError as error:
        raise MissingExtraError("Reading web pages", "os") from error
    try:
        parser = lxml.html.HTMLParser(encoding=_coding(data, charset), remove_comments=True, remove_pis=True)
        tree = lxml.html.document_fromstring(data, parser=parser)
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        raise BadFileError("this is no web page that can be read") from None
    title = _line(tree.findtext(".//title") or "")
    _drop_hidden(tree)
    links = _mark_links(tree, url)
    text = _main(tree)
    return WebPage(title, _numbered(text), tuple(links))


def _coding(data: bytes, charset: str | None) -> str:
    """Return the coding of a page: as the server says, as it says itself, else UTF-8 where it is that."""
    declared = re.search(
        rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w-]{1,40})", data[:4096], re.IGNORECASE
    )
    for name in (charset, declared[1].decode() if declared else None):
        try:
            b"".decode(name or "?")
        except (LookupError, ValueError):
            continue
        return name or "utf-8"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _drop_hidden(tree: Any) -> None:
    for element in list(tree.iter()):
        if not isinstance(element.tag, str) or element.getparent() is None:
            continue
        gone = (
            element.tag in _DROPPED
            or "hidden" in element.attrib
            or element.get("aria-hidden") == "true"
            or (element.tag == "input" and element.get("type") == "hidden")
            or _HIDDEN.search(element.get("style") or "")
        )
        if gone:
            element.clear(keep_tail=True)


def _mark_links(tree: Any, url: str) -> list[Link]:
    """Number the links of a page: a mark behind each that `_numbered` finds again. Return them in order."""
    from twofold.devices._documents import visible

    base = next((element.get("href") for element in tree.iter("base") if element.get("href")), None)
    url = _joined(url, base) or url if base else url
    numbers: dict[str, int] = {}
    links: list[Link] = []
    for element in list(tree.iter("a")):
        target = _joined(url, element.get("href"))
        text = _line("".join(element.itertext()))
        if target and text and (target in numbers or len(links) < MOST_LINKS):
            if target not in numbers:
                links.append(Link(text[:200], target))
                numbers[target] = len(links)
            mark = f" ⟦{numbers[target]}⟧"
            if len(element):
                element[-1].tail = visible(element[-1].tail or "") + mark
            else:
                element.text = visible(element.text or "") + mark
        element.attrib.pop("href", None)
    return links


def _joined(url: str, target: str | None) -> str | None:
    """Return where a link leads, None unless that is a page of the web."""
    if not target or not target.strip():
        return None
    try:
        joined = urllib.parse.urldefrag(urllib.parse.urljoin(url, target.strip()))[0]
        parts = urllib.parse.urlsplit(joined)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return None
    except ValueError:
        return None
    return joined if len(joined) <= 2_000 and joined.isprintable() and " " not in joined else None


def _main(tree: Any) -> str:
    """Return the main text of a page with its tables, or all of its text."""
    try:
        import trafilatura
    except ImportError as error:
        raise MissingExtraError("Reading web pages", "os") from error
    import copy

    whole = _plain(tree)
    try:
        found = trafilatura.extract(
            copy.deepcopy(tree), output_format="markdown", include_tables=True, include_comments=False,
            include_links=False, favor_recall=True, deduplicate=False,
        )  # fmt: skip
    except (ValueError, TypeError, AttributeError, RecursionError, KeyError):
        found = None  # it stumbles over some broken pages
    found = (found or "").strip()
    if "|" not in found and next(tree.iter("td"), None) is not None:
        return whole  # where it finds no main part, it takes tables apart
    # A page of little text is not worth a guess at which part of it counts.
    return found if len(found) > 200 and len(found) > len(whole) / 20 else whole


def _plain(tree: Any) -> str:
    """Return all text of a page, a line for each block, a table's row as cells between bars."""
    parts: list[str] = []

    def block(element: Any) -> bool:
        return isinstance(element.tag, str) and element.tag in _BLOCKS

    import lxml.etree

    for event, element in lxml.etree.iterwalk(tree, events=("start", "end")):
        if not isinstance(element.tag, str):
            continue
        if event == "start":
            if block(element):
                parts.append("\n")
            if element.tag in ("h1", "h2", "h3"):
                parts.append("\n" + "#" * int(element.tag[1]) + " ")
            elif element.tag == "li":
                parts.append("- ")
            elif element.tag in ("td", "th"):
                parts.append("| ")
            parts.append(re.sub(r"\s+", " ", element.text or ""))
        else:
            if element.tag == "tr":
                parts.append("|")
            if block(element):
                parts.append("\n\n" if element.tag in ("p", "h1", "h2", "h3", "table") else "\n")
            elif element.tag in ("td", "th"):
                parts.append(" ")
            if element is not tree:
                parts.append(re.sub(r"\s+", " ", element.tail or ""))
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in "".join(parts).split("\n")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _numbered(text: str) -> str:
    from twofold.devices._documents import visible

    marked = _MARKS.sub(lambda match: f"[{match[1]}]", text)
    return "\n".join(line.rstrip() for line in visible(marked).strip().split("\n"))


def _line(text: str) -> str:
    from twofold.devices._documents import visible

    return " ".join(visible(text).split())
