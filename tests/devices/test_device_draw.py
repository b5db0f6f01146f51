"""Drawings: shown when they are harmless, and nothing else passes the check."""

import random
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.devices import _drawings, draw
from twofold.kernel.device import Context, DeviceError, Returned

HOUSE = """<svg viewBox="0 0 200 100"><defs>
<linearGradient id="sky"><stop offset="0" stop-color="#00f"/></linearGradient>
<g id="tree"><circle cx="5" cy="5" r="5" fill="green"/></g></defs>
<rect width="200" height="100" fill="url(#sky)"/>
<use href="#tree" x="20"/><text x="10" y="50" font-family="Comic Sans MS">Acme &amp; Sons</text></svg>"""


@pytest.fixture
def call(tmp_path: Path) -> Any:
    pytest.importorskip("resvg_py")

    def calling(svg: str, **more: Any) -> Returned:
        return draw.open({}).call("draw", {"svg": svg, **more}, Context(pid=1, workspace=tmp_path, call="c"))

    return calling


def pixels(path: Path) -> tuple[int, int, list[bytes]]:
    """Return width, height and rows of a PNG of 8 bits and 4 channels."""
    data, at, packed, width, height = path.read_bytes(), 8, b"", 0, 0
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, bits, colours = struct.unpack(">IIBB", body[:10])
            assert (bits, colours) == (8, 6)
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw, step, rows = zlib.decompress(packed), width * 4 + 1, []
    before = bytes(width * 4)
    for n in range(height):
        kind, row = raw[n * step], bytearray(raw[n * step + 1 : (n + 1) * step])
        for i in range(width * 4):  # PNG's five filters
            left, up, corner = (row[i - 4] if i > 3 else 0), before[i], (before[i - 4] if i > 3 else 0)
            guess = left + up - corner
            near = min(
                (abs(guess - left), 0, left), (abs(guess - up), 1, up), (abs(guess - corner), 2, corner)
            )[2]
            row[i] = (row[i] + (0, left, up, (left + up) // 2, near)[kind]) & 255
        before = bytes(row)
        rows.append(before)
    return width, height, rows


def test_a_drawing_is_a_picture(call: Any, tmp_path: Path) -> None:
    drawn = call(f"Here you are:\n```svg\n{HOUSE}\n```", width=100)
    assert (drawn.text, drawn.files) == ("image-1.png", ("image-1.png", "image-1.svg"))
    width, height, rows = pixels(tmp_path / "image-1.png")
    assert (width, height) == (100, 50)
    assert rows[2][:4] == bytes((0, 0, 255, 255))  # the sky
    assert rows[2][12 * 4 : 13 * 4] == bytes((0, 128, 0, 255))  # the tree, where `use` puts it
    assert call(HOUSE).text == "image-2.png"


def test_letters_are_drawn_on_any_machine(call: Any, tmp_path: Path) -> None:
    call(
        '<svg viewBox="0 0 50 50"><text x="0" y="40" font-size="40" font-family="Unknown">W</text></svg>',
        width=50,
    )
    _, _, rows = pixels(tmp_path / "image-1.png")
    assert sum(row[i] < 128 for row in rows for i in range(0, 200, 4)) > 100


def test_what_is_not_known_is_left_out_and_told(call: Any, tmp_path: Path) -> None:
    drawn = call(
        '<svg viewBox="0 0 9 9"><image href="#a"/><rect width="9" foo="1" style="fill:red;-x:1"/></svg>'
    )
    assert drawn.value["left_out"] == ["<image>", "foo of <rect>", "-x in the style of <rect>"]
    text = (tmp_path / "image-1.svg").read_text()
    assert "image" not in text
    assert "foo" not in text
    assert 'style="fill:red"' in text


@pytest.mark.parametrize(
    ("svg", "says"),
    [
        ("no drawing", "no drawing"), ("<svg><g>", "no drawing"), ("<svg><g></svg>", "well-formed"),
        ("<svg><script>x()</script></svg>", "<script>"), ("<svg onload='x()'/>", "events"),
        ("<svg><g ONCLICK='x()'/></svg>", "events"),
        ("<svg><foreignObject><p/></foreignObject></svg>", "foreignObject"),
        ("<svg><use href='http://h/#a'/></svg>", "own parts"),
        ("<svg><use href='//h/a'/></svg>", "own parts"),
        ("<svg><use href='data:image/svg+xml,x'/></svg>", "own parts"),
        ("<svg xmlns:l='http://www.w3.org/1999/xlink'><use l:href='file:///etc/passwd'/></svg>", "own parts"),
        ("<svg><rect fill='url(http://h/)'/></svg>", "own parts"),
        ("<svg><rect fill='URL( \"http://h/\" )'/></svg>", "own parts"),
        ("<svg><rect style='fill:url(http://h)'/></svg>", "own parts"),
        ("<svg><rect fill='url(#a'/></svg>", "cannot be read"),
        ("<!DOCTYPE svg [<!ENTITY a 'b'>]><svg><text>&a;</text></svg>", "entities"),
        ("<svg>&a;</svg>", "well-formed"),
        ("<svg><!DOCTYPE x></svg>", "well-formed|entities"), ("<svg viewBox='0 0 0 1'/>", "viewBox"),
        ("<svg viewBox='a'/>", "viewBox"), ("<svg>" + "<g>" * 50 + "</g>" * 50 + "</svg>", "40 deep"),
        ("<svg>" + "<g/>" * 6000 + "</svg>", "5,000 elements"),
        ("<svg><g id='a'><use href='#a'/></g></svg>", "unfolds"),
        ("<svg><filter><feGaussianBlur stdDeviation='1e9'/></filter></svg>", "blur"),
        ("<svg><pattern width='0.0001' height='1'/></svg>", "tiles"), ("<html><svg/></html>", "no drawing"),
    ],
)  # fmt: skip
def test_what_could_do_harm_is_refused(svg: str, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        _drawings.check(svg)


def test_what_unfolds_without_end_is_refused() -> None:
    tens = [f"<use href='#g{n}'/>" * 10 for n in range(8)]
    laughs = "".join(f"<g id='g{n}'>{inner}</g>" for n, inner in enumerate(tens, 1))
    with pytest.raises(DeviceError, match="unfolds"):
        _drawings.check(f"<svg><g id='g0'><rect/></g>{laughs}</svg>")
    ring = "".join(f"<pattern id='p{n}'><rect fill='url(#p{(n + 1) % 3})'/></pattern>" for n in range(3))
    with pytest.raises(DeviceError, match="unfolds"):
        _drawings.check(f"<svg>{ring}</svg>")


def test_a_size_is_found() -> None:
    for head, size in (("viewBox='0 0 30 20'", (30, 20)), ("width='40px' height='10'", (40, 10)),
    ("", (512, 512)),
                       ("width='100%' viewBox='0 0 4 2'", (4, 2)),
                       ("width='1e9' height='-3'", (512, 512))):  # fmt: skip
        drawing = _drawings.check(f"<svg {head}/>")
        assert (drawing.width, drawing.height) == size


# --- any text


def harmless(svg: str) -> None:
    """Fail unless a drawing that passed the check holds nothing but what may be in one."""
    root = ET.fromstring(svg)
    for element in root.iter():
        assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in _drawings._ELEMENTS
        for name, value in element.attrib.items():
            assert name in _drawings._ATTRIBUTES
            assert not re.search(r"(?i)script:|@import|expression", value) or name in (
                "id",
                "class",
                "d",
                "style",
                "role",
            )
            for target in re.findall(r"(?i)url\s*\(\s*['\"]?([^)]*)", value):
                assert target.startswith("#")
            if name == "href":
                assert value.strip().startswith("#")


BITS = (
    "<svg>", "</svg>", "<svg ", "<g>", "</g>", "<rect ", "/>", ">", "<use href='#a'/>",
    "<use href='http://h'/>", "<script>",
    "</script>", "<!--", "-->", "<![CDATA[", "]]>", "<?xml?>", "<!DOCTYPE svg>", "&lt;", "&#x41;",
    "&#0;", "id='a' ", "fill='url(#a)' ",
    "fill='url(x)'", "style='fill:u\\72l(x)' ", "xmlns='http://www.w3.org/2000/svg' ",
    "xmlns:x='http://x' ", "<x:g/>", "onload='1' ",
    "<text>a</text>", "<style>a{}</style>", "'", '"', "\0", "\ud7ff", "<a href='#b'>", "</a>",
    "<animate/>", "<set attributeName='href'/>",
)  # fmt: skip


@given(
    st.lists(st.sampled_from(BITS), max_size=20).map("".join).map(lambda inner: f"<svg>{inner}</svg>")
    | st.text(max_size=80)
)
@settings(max_examples=400, deadline=None)
def test_what_passes_is_harmless(text: str) -> None:
    try:
        drawing = _drawings.check(text)
    except DeviceError as error:
        assert "\n" not in str(error)
    else:
        harmless(drawing.svg)
        assert _drawings.check(drawing.svg).svg == drawing.svg  # what was checked passes again unchanged


def test_damaged_drawings_do_no_harm() -> None:
    rng, passed = random.Random(5), 0
    for _ in range(400):
        broken = list(HOUSE)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(broken))
            broken[at : at + rng.randint(0, 3)] = rng.choice(
                ("", "<", ">", "'", '"', "&", "#", "/", "0", "e9", "-", " ")
            )
        try:
            harmless(_drawings.check("".join(broken)).svg)
            passed += 1
        except DeviceError:
            continue
    assert passed > 10
