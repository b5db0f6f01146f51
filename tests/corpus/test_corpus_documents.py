"""Reading text out of every format, and what happens with files that are broken, foreign or not there."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus import Skipped, documents, prepare
from twofold.corpus.documents import FORMATS
from twofold.corpus.formats.txt import PIECE_CHARACTERS
from twofold.corpus.opening import open_bytes


def texts(path: Path) -> list[str]:
    return [document.text for document in documents(path)]


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def pdf(text: str) -> bytes:
    """Return the smallest PDF that says `text` on one page."""
    drawing = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawing), drawing),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(out)
    return out + b"xref\n0 6\n0000000000 65535 f \n" + table + trailer


PAGE = b"""<html><head><title>t</title></head><body><nav><a href="/">Home</a></nav><article><h1>Snails</h1>
<p>A snail carries its house on its back, and it is never far from home wherever it goes in the garden.</p>
<p>When it rains the snails come out and eat the lettuce, which the gardener does not like at all.</p>
</article><footer>Copyright</footer></body></html>"""

GOOD = {
    "txt": (b"A plain text.\r\nTwo lines.", "A plain text.\nTwo lines."),
    "md": (b"# Title\n\n*text*\n", "# Title\n\n*text*\n"),
    "html": (PAGE, "A snail carries its house"),
    "pdf": (pdf("Hello from a page"), "Hello from a page"),
    "jsonl": (jsonl({"text": "one", "more": 1}), "one"),
}
BROKEN = {
    "txt": b"fine\nbut \xff\xfe\xfa this is not UTF-8",
    "md": b"\x80",
    "html": b"",
    "pdf": b"%PDF-1.4\nnothing of the kind",
    "jsonl": b'{"text": "no end\n',
}


def test_every_format_is_tested() -> None:
    assert set(FORMATS.names()) == set(GOOD) == set(BROKEN)


@pytest.mark.parametrize("name", sorted(GOOD))
@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_format(name: str, compression: str, tmp_path: Path) -> None:
    raw, expected = GOOD[name]
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[compression]
    path = tmp_path / f"a.{name}{compression}"
    path.write_bytes(pack(raw))
    (document,) = documents(path)
    assert expected in document.text
    assert document.source == str(path)
    assert "Copyright" not in document.text


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_file_stops_when_named_and_is_left_out_in_a_folder(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{name}"
    path.write_bytes(BROKEN[name])
    with pytest.raises(BadFileError, match="broken") as caught:
        texts(path)
    assert "\n" not in str(caught.value)
    (tmp_path / "good.txt").write_text("good")
    skipped: list[Skipped] = []
    assert [d.text for d in documents(tmp_path, skipped=skipped.append)] == ["good"]
    assert [skip.path for skip in skipped] == [str(path)]


def test_broken_line_after_good_ones_is_named_and_in_a_folder_the_good_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for bad, reason in [
        (b'{"text": 5}', "no text"),
        (b"[1]", "expected an object"),
        (b'{"text": "\xff"}', "JSON"),
    ]:
        path.write_bytes(jsonl({"text": "one"}) + b"\n" + bad + b"\n")
        with pytest.raises(BadFileError, match=rf"a\.jsonl, line 3.*{reason}"):
            texts(path)
        skipped: list[Skipped] = []
        assert [d.text for d in documents(tmp_path, skipped=skipped.append)] == ["one"]
        assert "line 3" in skipped[0].reason
        assert skipped[0].reason.endswith("The 1 texts before that are used.")


def test_lone_surrogate_is_an_error_with_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\\ud800"}\n')
    with pytest.raises(BadFileError, match=r"line 1.*surrogate"):
        texts(path)


def test_folders_are_read_sorted_with_subfolders_without_hidden_files(tmp_path: Path) -> None:
    for name in ["b.txt", "a.txt", "sub/c.txt", ".hidden/d.txt", ".e.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.txt", "b.txt", "sub/c.txt"]


def test_limit(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(*({"text": "12345"} for _ in range(10))))
    assert len(list(documents(tmp_path, limit_bytes=12))) == 3


def test_unknown_things_are_misuse(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder"):
        texts(tmp_path / "nothing.txt")
    (tmp_path / "a.docx").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"known are \.html, \.jsonl"):
        texts(tmp_path / "a.docx")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no files"):
        texts(tmp_path / "empty")


def test_a_mistyped_path_is_no_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "books").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no file or folder"):
        list(documents("books/novles"))


def test_data_set_rows_are_announced_downloaded_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"text": f"text {n}"} for n in range(100)]
    asked: list[str] = []

    def load_dataset(name: str, split: str, streaming: bool) -> list[dict[str, str]]:
        assert "downloads the data set" in capsys.readouterr().err, "said before the first byte comes"
        asked.append(name)
        return rows

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = list(documents("someone/texts", limit_bytes=14))
    assert [(d.text, d.source) for d in found] == [
        ("text 0", "someone/texts"),
        ("text 1", "someone/texts"),
        ("text 2", "someone/texts"),
    ]
    asked.clear()
    corpus = prepare("someone/texts", tmp_path, vocab_size=320)
    assert corpus.documents == 100
    assert [(source["path"], source["bytes"]) for source in corpus.sources] == [("someone/texts", 690)]
    assert prepare("someone/texts", tmp_path, vocab_size=320).documents == 100
    assert asked == ["someone/texts"]


def test_a_data_set_without_text_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    for rows, reason in [([{"label": 1}], "row 1: no field `text` .*label"), ([], "holds no text")]:
        monkeypatch.setattr(datasets, "load_dataset", lambda name, split, streaming, rows=rows: rows)
        with pytest.raises(BadFileError, match=reason):
            prepare("someone/texts", tmp_path, vocab_size=320)
        assert not list(tmp_path.rglob("*.zst*"))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_cut_off_and_damaged_compression(suffix: str, tmp_path: Path) -> None:
    raw = "".join(f"line {n}\n" for n in range(50_000)).encode()
    packed = gzip.compress(raw) if suffix == ".gz" else zstandard.compress(raw)
    path = tmp_path / f"a.txt{suffix}"
    for damaged in (packed[:-20], b"\x00" * 30 + packed[30:]):
        path.write_bytes(damaged)
        with pytest.raises(BadFileError, match="damaged or cut off"):
            texts(path)


def test_zstd_frames_one_after_the_other_with_a_long_window(tmp_path: Path) -> None:
    long = zstandard.ZstdCompressionParameters(window_log=27)
    packed = zstandard.ZstdCompressor(compression_params=long).compress(b"one ") + zstandard.compress(b"two")
    path = tmp_path / "a.txt.zst"
    path.write_bytes(packed)
    with open_bytes(path) as stream:
        assert stream.read() == b"one two"


def test_long_plain_text_is_cut_at_blank_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    paragraph = "word " * 200 + "\n\n"
    path = tmp_path / "a.txt"
    path.write_text(paragraph * 100)
    pieces = texts(path)
    assert "".join(pieces) == paragraph * 100
    assert len(pieces) == 4
    assert all(piece.endswith("\n\n") for piece in pieces)
    path.write_text("x" * (5 * PIECE_CHARACTERS))
    assert [len(piece) for piece in texts(path)] == [2 * PIECE_CHARACTERS] * 2 + [PIECE_CHARACTERS]


def test_utf16_and_byte_order_marks(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for encoding in ("utf-16", "utf-8-sig"):
        path.write_bytes("Grüße".encode(encoding))
        assert texts(path) == ["Grüße"]


def test_line_of_the_first_bad_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo\nth\xffree\n")
    with pytest.raises(BadFileError, match=r"near line \d"):
        texts(path)
