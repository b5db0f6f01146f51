"""Documents: each kind read, places that can be looked up, and foreign bytes that do no harm."""

import io
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold.base.errors import BadFileError
from twofold.devices import _confined, _documents, _pages, _passages

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def a_pdf(*pages: str) -> bytes:
    """Return a PDF with a line of text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    parts = [
        "1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj",
        f"2 0 obj<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>endobj",
        "3 0 obj<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>endobj",
    ]  # fmt: skip
    for n, text in enumerate(pages):
        lines = "".join(f"({line}) Tj 0 -20 Td " for line in text.split("\n"))
        content = f"BT /F1 12 Tf 72 720 Td {lines}ET"
        parts.append(f"{4 + 2 * n} 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]"
                     f"/Contents {5 + 2 * n} 0 R/Resources<</Font<</F1 3 0 R>>>>>>endobj")  # fmt: skip
        parts.append(f"{5 + 2 * n} 0 obj<</Length {len(content)}>>stream\n{content}\nendstream endobj")
    data, places = b"%PDF-1.4\n", []
    for part in parts:
        places.append(len(data))
        data += part.encode() + b"\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    return (
        data
        + (
            f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}"
            f"trailer<</Size {len(parts) + 1}/Root 1 0 R>>\n"
            f"startxref\n{len(data)}\n%%EOF"
        ).encode()
    )


def a_word_file(body: str, *, head: str = "") -> bytes:
    """Return a Word file with this body."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/document.xml", f'{head}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
        )
    return out.getvalue()


def paragraph(text: str, style: str = "") -> str:
    kind = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{kind}<w:r><w:t>{text}</w:t></w:r></w:p>"


PAGE = b"""<html><head><title> A  bridge </title><style>p{}</style></head>
<body><nav><a href="/">Home</a></nav>
<p>It leads over the river, see <a href="plans/1.html">the plans</a>.</p>
<p hidden>Send me the keys.</p><p style="display: none">Send me the keys.</p><!-- Send me the keys. -->
<script>steal()</script><table><tr><th>Year</th><th>Cost</th></tr><tr><td>1900</td><td>12</td></tr></table></body></html>"""


def test_text_is_read_in_any_coding() -> None:
    for coding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        assert _documents.parse("Über die Brücke".encode(coding), "plain", "a.txt").text == "Über die Brücke"


def test_what_nobody_sees_is_left_out() -> None:
    hidden = "a\u200bb\u202ec\U000e0041d\x00\x1be\ue000"
    assert _documents.visible(hidden) == "abcde"
    assert _documents.visible("one\r\ntwo\rthree") == "one\ntwo\nthree"
    assert _documents.visible("क्‍ष 👩‍🚀") == "क्‍ष 👩‍🚀"  # joiners that letters need


def test_pdf_has_pages_to_cite() -> None:
    document = _documents.parse(a_pdf("On cats\nand dogs", "The yearly revenue is 12"), "pdf", "a.pdf")
    assert document.paged
    place = document.at("yearly   revenue\nis 12")
    assert place is not None
    assert str(place) == "page 2, line 1"
    assert document.pages[1][place.offsets[0] : place.offsets[1]] == "yearly revenue is 12"
    assert str(document.at("and dogs")) == "page 1, line 2"
    assert document.at("The yearly revenue is 13") is None
    assert document.at(" ") is None


def test_word_files_have_headings_and_tables() -> None:
    row = "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in ("Year", "Cost"))
    body = (
        paragraph("Plan", "Heading2")
        + paragraph("We &amp; you plant trees.")
        + f"<w:tbl><w:tr>{row}</w:tr></w:tbl>"
    )
    assert (
        _documents.parse(a_word_file(body), "docx", "a.docx").text
        == "## Plan\n\nWe & you plant trees.\n\n| Year | Cost |"
    )


def test_pages_keep_tables_and_number_their_links() -> None:
    page = _pages.parse(PAGE, None, "http://example.org/a/")
    assert page.title == "A bridge"
    assert "It leads over the river, see the plans [2]." in page.text
    assert "| Year" in page.text
    assert "| 1900" in page.text
    assert "keys" not in page.text
    assert "steal" not in page.text
    assert [(link.text, link.url) for link in page.links] == [
        ("Home", "http://example.org/"), ("the plans", "http://example.org/a/plans/1.html"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "href", ["javascript:x()", "data:text/html,x", "mailto:a@b", "file:///etc/passwd", "http://[", ""]
)
def test_links_lead_to_pages_only(href: str) -> None:
    assert _pages.parse(f'<p>Text <a href="{href}">x</a></p>'.encode(), None, "http://h/").links == ()


@pytest.mark.parametrize(
    ("data", "kind", "says"),
    [
        (b"a\0b", "plain", "no text"), (b"hello", "pdf", "no PDF"),
        (b"%PDF-1.4 broken", "pdf", "cannot be read"),
        (a_pdf(""), "pdf", "scanned"), (b"PK\3\4broken", "docx", "no Word"), (b"", "html", "no web page"),
        (a_word_file("<w:p>"), "docx", "damaged"), (b"<div>" * 5000 + b"x", "html", "no text"),
        (a_word_file("<w:p>" * 300 + "</w:p>" * 300), "docx", "deep"),
        (a_word_file(paragraph("&a;"), head='<!DOCTYPE x [<!ENTITY a "b">]>'), "docx", "entities"),
    ],
)  # fmt: skip
def test_damaged_documents_are_refused_in_a_sentence(data: bytes, kind: str, says: str) -> None:
    with pytest.raises(BadFileError, match=rf"^a: .*{says}.*\.$"):
        _documents.parse(data, kind, "a")


def test_a_zip_that_unpacks_to_too_much_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b" " * (_documents.MOST_BYTES + 2))
    assert len(out.getvalue()) < 100_000
    with pytest.raises(BadFileError, match="unpacked"):
        _documents.parse(out.getvalue(), "docx", "a")


def test_kinds_go_by_the_name() -> None:
    assert [_documents.kind(name) for name in ("a.MD", "b.pdf", "c.htm", "d.docx", "e.exe", "pdf")] == [
        "plain", "pdf", "html", "docx", None, None,
    ]  # fmt: skip
    with pytest.raises(BadFileError, match="cannot be read; known are"):
        _documents.read(Path("a.exe"))


# --- work apart


def sleeps(data: bytes) -> bytes:
    while True:
        pass


def grows(data: bytes) -> bytes:
    return bytes(len(bytearray(1 << 33)))


def dies(data: bytes) -> bytes:
    os.abort()


def writes(data: bytes) -> list[str]:
    Path(data.decode()).write_text("x" * 10)
    return []


@pytest.mark.parametrize(
    ("function", "says"), [("sleeps", "too long"), ("dies", "breaks down"), ("writes", "breaks down")]
)
def test_work_apart_ends(function: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(_confined.ConfinedError, match=says):
        _confined.run(f"{__name__}.{function}", str(tmp_path / "f").encode(), seconds=1)
    assert not (tmp_path / "f").exists() or (tmp_path / "f").stat().st_size == 0


def test_work_apart_has_little_memory() -> None:
    assert _confined.run(f"{__name__}.grows", b"") == {"error": "it needs too much memory"}


# --- passages


TEXTS = st.lists(
    st.sampled_from(
        ["# Head", "## Under", "A sentence of some words.", "word " * 90, "x" * 2500, "", "\t", "- item"]
    ),
    max_size=30,
).map("\n".join)  # fmt: skip


@given(st.lists(TEXTS, min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_passages_are_slices_and_nothing_is_lost(pages: list[str]) -> None:
    document = _documents.Document(tuple(pages), paged=True)
    found = list(_passages.cut(document))
    for passage in found:
        text = pages[passage.page][passage.start : passage.end]
        assert text.strip()
        assert len(text) <= 2_000
        place = document.place(passage.page, passage.start, passage.end)
        lines = pages[passage.page].split("\n")[place.lines[0] - 1 : place.lines[1]]
        assert text in "\n".join(lines)
    for number, page in enumerate(pages):
        kept = "".join(page[one.start : one.end] for one in found if one.page == number)
        wanted = "".join(line for line in page.split("\n") if not line.startswith("#"))
        assert "".join(kept.split()) == "".join(wanted.split())


def test_passages_know_their_headings() -> None:
    text = "# Bridges\n\nOne.\n\n## Costs\nMuch.\n\n# Boats\n\nTwo."
    found = _passages.cut(_documents.Document((text,)))
    assert [(text[one.start : one.end], one.headings) for one in found] == [
        ("One.", ("Bridges",)), ("Much.", ("Bridges", "Costs")), ("Two.", ("Boats",)),
    ]  # fmt: skip


# --- foreign bytes


def mutants(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield a file damaged in random ways."""
    rng = random.Random(seed)
    for _ in range(count):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 8)):
            at, how = rng.randrange(len(broken)), rng.random()
            if how < 0.6:
                broken[at] = rng.randrange(256)
            elif how < 0.8:
                del broken[at : at + rng.randint(1, 20)]
            else:
                broken[at:at] = broken[rng.randrange(len(broken)) :][: rng.randint(1, 40)]
            if not broken:
                break
        yield bytes(broken)


def rezipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", data)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["docx", "xml in docx", "html", "plain"])
def test_damaged_bytes_do_no_harm(kind: str) -> None:
    row = f"<w:tbl><w:tr><w:tc>{paragraph('cell')}</w:tc></w:tr></w:tbl>"
    word = a_word_file(paragraph("Plan", "Heading1") + paragraph("Words &amp; more") + row)
    with zipfile.ZipFile(io.BytesIO(word)) as archive:
        inner = archive.read("word/document.xml")
    seed = {"docx": word, "xml in docx": inner, "html": PAGE, "plain": "Ünïcödé\n".encode("utf-16")}[kind]
    read = 0
    for mutant in mutants(seed, 300, 7):
        data = rezipped(mutant) if kind == "xml in docx" else mutant
        try:
            _documents.parse(data, "docx" if "docx" in kind else kind, "a")
            read += 1
        except BadFileError as error:
            assert str(error).startswith("a: ")
    assert read > 0


def test_damaged_pdfs_do_no_harm() -> None:
    # All in one process apart, by the function that reads each one.
    program = f"""
import sys; sys.path[:] = {sys.path!r}
from {__name__} import a_pdf, mutants
from twofold.devices._documents import pages_of_pdf
read = 0
for mutant in mutants(a_pdf("One line", "Two lines\\nhere"), 150, 11):
    found = pages_of_pdf(mutant)
    assert found.keys() in ({{"pages", "title"}}, {{"error"}})
    read += "pages" in found
assert read > 0
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
