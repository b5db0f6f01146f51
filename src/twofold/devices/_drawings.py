"""Checking a drawing (SVG) that a model wrote: only shapes, colours and text, nothing that reaches outside.

The text is read by expat, without entities, and written anew from what is allowed (SVG 2, chapters 5 to 14):
no scripts, no events, no pictures from elsewhere, no style sheets, no frames. What is not known is left out
with a note; what is meant to do harm is refused. `use` and patterns can unfold to millions of shapes: how
many there would be is counted before anything is drawn.

Not covered: animation, filters but for blur and shadow, fonts of one's own.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from twofold.kernel.device import DeviceError

LONGEST = 200_000  # characters
_MOST_ELEMENTS, _DEEPEST, _MOST_UNFOLDED = 5_000, 40, 20_000
_SPACE = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_ELEMENT_NAMES = """
svg g defs symbol use title desc path rect circle ellipse line polyline polygon text tspan textPath
linearGradient radialGradient stop clipPath mask pattern marker filter feGaussianBlur feOffset feMerge
feMergeNode feDropShadow
"""
_ATTRIBUTE_NAMES = """
id class x y x1 y1 x2 y2 cx cy r rx ry fx fy fr d points width height viewBox transform pathLength
preserveAspectRatio version fill fill-opacity fill-rule stroke stroke-width stroke-opacity stroke-linecap
stroke-linejoin stroke-miterlimit stroke-dasharray stroke-dashoffset opacity color display visibility
font-family font-size font-weight font-style font-variant text-anchor dominant-baseline alignment-baseline
letter-spacing word-spacing text-decoration dx dy rotate textLength lengthAdjust startOffset
baseline-shift offset stop-color stop-opacity gradientUnits gradientTransform spreadMethod clip-path
clip-rule clipPathUnits mask maskUnits maskContentUnits patternUnits patternContentUnits patternTransform
marker-start marker-mid marker-end markerWidth markerHeight markerUnits refX refY orient filter
filterUnits primitiveUnits in in2 result stdDeviation flood-color flood-opacity paint-order mix-blend-mode
isolation vector-effect shape-rendering text-rendering overflow href style role aria-label
"""
_ELEMENTS, _ATTRIBUTES = frozenset(_ELEMENT_NAMES.split()), frozenset(_ATTRIBUTE_NAMES.split())
_EVIL = frozenset(("script", "foreignObject", "iframe", "object", "embed", "handler", "listener"))
_REFERENCE = re.compile(r"url\(\s*(['\"]?)(.*?)\1\s*\)", re.IGNORECASE)
_LOCAL = re.compile(r"#[\w.:-]{1,200}")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_STYLE = re.compile(r"[\w-]{1,40}")


@dataclass
class _Node:
    """An element: its children, and the element that it repeats (`use`, a pattern's tiles)."""

    tag: str
    id: str = ""
    repeats: set[str] = field(default_factory=set)
    children: list["_Node"] = field(default_factory=list)


@dataclass(frozen=True)
class Drawing:
    """A drawing that was checked: its text written anew, its size, and what was left out."""

    svg: str
    width: float
    height: float
    left_out: tuple[str, ...]


def check(text: str) -> Drawing:
    """Return a drawing that is safe to show. Raises DeviceError in one sentence."""
    text = _bare(text)
    if len(text) > LONGEST:
        raise DeviceError(f"The drawing is too long: at most {LONGEST:,} characters.")
    reader = _Reader()
    reader.read(text)
    return reader.drawing()


def _bare(text: str) -> str:
    """Return the SVG in what a model wrote: without a fence and words around it."""
    start, end = text.find("<svg"), text.rfind("</svg>")
    if start < 0 or (end < 0 and not text.rstrip().endswith("/>")):
        raise DeviceError("There is no drawing: it must be SVG, from <svg …> to </svg>.")
    if "<!DOCTYPE" in text[:start].upper() or "<!ENTITY" in text.upper():
        raise DeviceError("A drawing may not declare a document type or entities.")
    return text[start : end + len("</svg>")] if end >= 0 else text[start:].rstrip()


class _Reader:
    """Reads the elements of a drawing, and writes those that are allowed."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._open: list[str | None] = []  # tags as written; None for one that is left out
        self._nodes = [_Node("")]
        self._skipping = self._count = 0
        self._left_out: dict[str, None] = {}
        self._named: dict[str, _Node] = {}
        self._size: tuple[float, float] | None = None

    def read(self, text: str) -> None:
        """Read a whole drawing. Raises DeviceError."""
        if not re.match(r"<svg[^>]*\sxmlns\s*=", text):
            text = text.replace("<svg", f'<svg xmlns="{_SPACE}"', 1)
        if "xlink:" in text and "xmlns:xlink" not in text:
            text = text.replace("<svg", f'<svg xmlns:xlink="{_XLINK}"', 1)
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = _refuse_entities
        parser.ProcessingInstructionHandler = lambda *_: self._note("a processing instruction")
        parser.buffer_text = True
        try:
            parser.Parse(text.encode("utf-8", "replace"), True)
        except expat.ExpatError as error:
            said = expat.ErrorString(error.code)
            raise DeviceError(f"The drawing is no well-formed XML: line {error.lineno}, {said}.") from None

    def drawing(self) -> Drawing:
        """Return what was read. Raises DeviceError when it would unfold to too much."""
        if self._size is None:
            raise DeviceError("There is no drawing: its first element must be <svg>.")
        if _unfolded(self._nodes[0], self._named, {}, frozenset()) > _MOST_UNFOLDED:
            raise DeviceError(f"The drawing unfolds to more than {_MOST_UNFOLDED:,} shapes.")
        return Drawing("".join(self._out), *self._size, tuple(self._left_out))

    def _note(self, what: str) -> None:
        if len(self._left_out) < 10:
            self._left_out[what[:60]] = None

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        space, _, tag = name.rpartition(" ")
        self._count += 1
        if self._count > _MOST_ELEMENTS or len(self._open) >= _DEEPEST:
            raise DeviceError(
                f"The drawing is too large: at most {_MOST_ELEMENTS:,} elements, {_DEEPEST} deep."
            )
        if tag in _EVIL:
            raise DeviceError(f"A drawing may not hold <{tag}>.")
        if not self._open and tag != "svg":
            raise DeviceError("There is no drawing: its first element must be <svg>.")
        if self._skipping or space != _SPACE or tag not in _ELEMENTS:
            if not self._skipping:
                self._note(f"<{tag}>")
            self._skipping += 1
            self._open.append(None)
            return
        node = _Node(tag, attributes.get("id", ""))
        given = self._attributes(tag, attributes, node)
        if not self._open:
            self._size = _size(given)
            size = {"width": f"{self._size[0]:g}", "height": f"{self._size[1]:g}"}
            given = {"xmlns": _SPACE, **given, **size}
        if node.id:
            self._named.setdefault(node.id, node)
        self._nodes[-1].children.append(node)
        self._nodes.append(node)
        self._open.append(tag)
        written = "".join(f" {key}={quoteattr(value)}" for key, value in given.items())
        self._out.append(f"<{tag}{written}>")

    def _end(self, _: str) -> None:
        tag = self._open.pop()
        if tag is None:
            self._skipping -= 1
        else:
            self._nodes.pop()
            self._out.append(f"</{tag}>")

    def _characters(self, text: str) -> None:
        worded = self._open and self._open[-1] in ("text", "tspan", "textPath", "title", "desc")
        if not self._skipping and self._open and (text.isspace() or worded):
            self._out.append(escape(text))

    def _attributes(self, tag: str, attributes: Mapping[str, str], node: _Node) -> dict[str, str]:
        """Return the attributes that are allowed, without references to anything outside."""
        found: dict[str, str] = {}
        for name, value in attributes.items():
            space, _, key = name.rpartition(" ")
            if key.lower().startswith("on"):
                raise DeviceError(f"A drawing may not react to events ({key[:40]}).")
            if key not in _ATTRIBUTES or space not in ("", _XLINK):
                self._note(f"{key} of <{tag}>")
                continue
            if key == "href":
                if not _LOCAL.fullmatch(value.strip()):
                    raise DeviceError(f"A drawing may refer to its own parts only, not to {value[:60]!r}.")
                node.repeats.add(value.strip()[1:])
            elif key == "style":
                value = self._style(tag, value)
            _only_local(value, node)
            value = _font(value) if key == "font-family" else value
            if key == "stdDeviation" and any(abs(one) > 200 for one in _numbers(value)):
                raise DeviceError("A blur may be at most 200 wide.")
            if tag == "pattern" and key in ("width", "height") and 0 < (_numbers(value) or [1])[0] < 0.01:
                raise DeviceError("The tiles of a pattern are too small.")
            found[key] = value
        return found

    def _style(self, tag: str, text: str) -> str:
        """Return the declarations of a style that would be allowed as attributes."""
        kept = []
        for part in text.split(";"):
            key, _, value = part.partition(":")
            key, value = key.strip(), value.strip()
            if (
                _STYLE.fullmatch(key)
                and key in _ATTRIBUTES
                and key not in ("style", "href")
                and "\\" not in value
            ):
                kept.append(f"{key}:{_font(value) if key == 'font-family' else value}")
            elif key:
                self._note(f"{key} in the style of <{tag}>")
        return ";".join(kept)


def _refuse_entities(*_: object) -> None:
    raise DeviceError("A drawing may not declare a document type or entities.")


def _font(families: str) -> str:
    """Return the kind of letters that fonts stand for: no machine has all of them, and ours come along."""
    wanted = families.lower()
    if re.search(r"mono|courier|consol|code", wanted):
        return "monospace"
    return "serif" if re.search(r"times|georgia|garamond|(?<!sans-)(?<!sans )serif", wanted) else "sans-serif"


def _only_local(value: str, node: _Node) -> None:
    """Raise DeviceError unless every url(…) is a part of the drawing itself."""
    references = _REFERENCE.findall(value)
    if len(references) != value.lower().count("url("):
        raise DeviceError(f"A reference of the drawing cannot be read: {value[:60]!r}.")
    for _, target in references:
        if not _LOCAL.fullmatch(target.strip()):
            raise DeviceError(f"A drawing may refer to its own parts only, not to {target[:60]!r}.")
        node.repeats.add(target.strip()[1:])


def _numbers(value: str) -> list[float]:
    return [float(one) for one in re.findall(_NUMBER, value)]


def _size(given: dict[str, str]) -> tuple[float, float]:
    """Return the width and height of a drawing: its own, else its viewBox's, else 512."""
    box = _numbers(given.get("viewBox", ""))
    if "viewBox" in given and (len(box) != 4 or box[2] <= 0 or box[3] <= 0):
        raise DeviceError("The viewBox of the drawing must be four numbers, the last two above zero.")
    found = []
    for n, key in enumerate(("width", "height")):
        own = re.fullmatch(rf"\s*({_NUMBER})\s*(?:px)?\s*", given.get(key, ""))
        value = float(own[1]) if own else box[2 + n] if box else 512.0
        if not 1 <= value <= 10_000:
            value = box[2 + n] if box and 1 <= box[2 + n] <= 10_000 else 512.0
        found.append(value)
    return found[0], found[1]


def _unfolded(node: _Node, named: Mapping[str, _Node], known: dict[int, int], above: frozenset[int]) -> int:
    """Return how many shapes an element is with all that it repeats; too many for what repeats itself."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in above:
        return _MOST_UNFOLDED + 1
    inner = above | {id(node)}
    total = 1
    for part in [*node.children, *(named[name] for name in node.repeats if name in named)]:
        total += _unfolded(part, named, known, inner)
        if total > _MOST_UNFOLDED:
            break
    known[id(node)] = total
    return total


def png(data: bytes, width: int, height: int) -> bytes:
    """Return a checked drawing as PNG; called in a process of its own."""
    import importlib.util
    from pathlib import Path

    import resvg_py

    # matplotlib's own fonts, so that text looks the same on a machine without any.
    spec = importlib.util.find_spec("matplotlib")
    fonts = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" if spec and spec.origin else None
    return bytes(
        resvg_py.svg_to_bytes(
            svg_string=data.decode(), width=width, height=height, background="white", skip_system_fonts=True,
            font_dirs=[str(fonts)] if fonts and fonts.is_dir() else None, font_family="DejaVu Sans",
            sans_serif_family="DejaVu Sans", serif_family="DejaVu Serif", monospace_family="DejaVu Sans Mono",
        )
    )  # fmt: skip
