"""Text made safe to print, and numbers for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from twofold.cli import terminal


@given(st.text())
def test_clean_text_has_no_control_but_newline_and_tab(text: str) -> None:
    shown = terminal.clean(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        assert after in "\n\t" or after.isprintable() or after == before
        assert not ("\x00" <= after < "\x20" and after not in "\n\t")
        assert not "\x7f" <= after <= "\x9f"
        assert after not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert terminal.clean(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("a\r\n", "a␍\n"),
        ("\x7f\x9b", "␡\ufffd"),
        ("\u202egpj", "\ufffdgpj"),
        ("né", "né"),
    ],
)
def test_clean(text: str, shown: str) -> None:
    assert terminal.clean(text) == shown


def wrapped(pieces: list[str], columns: int | None) -> str:
    out: list[str] = []
    wrap = terminal.Wrap(out.append, columns)
    for piece in pieces:
        wrap(piece)
    wrap.flush()
    return "".join(out)


@given(st.lists(st.text("ab \n鳥", max_size=9)), st.integers(20, 30))
def test_wrap_breaks_between_words_only(pieces: list[str], columns: int) -> None:
    text, shown = "".join(pieces), wrapped(pieces, columns)
    if all(cell_len(word) < columns for word in text.split()):  # longer ones are left to the terminal
        assert wrapped(list(text), columns) == shown
        assert shown.split() == text.split()
        assert all(cell_len(line) <= columns for line in shown.split("\n"))
    assert wrapped(pieces, None) == text


def test_wrap() -> None:
    assert wrapped(["The cat", " sat", " on", " a mat.\n\n  Yes"], 10) == "The cat\nsat on a\nmat.\n\n  Yes"
    assert wrapped(["\x1b[2mten let", "ters\x1b[0m on"], 10) == "\x1b[2mten\nletters\x1b[0m on"
    assert wrapped(["a" * 25, " b"], 10).replace("\n", "") == "a" * 25 + " b"


def test_visible() -> None:
    assert terminal.visible(b' a\n\t"\\') == '" a\\n\\t"\\\\"'
    assert terminal.visible("é".encode() + b"\xe8\x88") == '"é\\xe8\\x88"'
    assert terminal.visible(b"\x1b[2J") == '"␛[2J"'


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(1, "100 %"), (0.97, "97.0 %"), (0.031, "3.1 %"), (0.0004, "0.04 %"), (1e-9, "<0.01 %"), (0, "0 %")],
)
def test_percent(probability: float, shown: str) -> None:
    assert terminal.percent(probability) == shown


def test_sizes_and_counts() -> None:
    assert [terminal.size(n) for n in (512, 14_200_000, 3e12)] == ["512 B", "14.2 MB", "3.0 TB"]
    assert [terminal.count(n) for n in (950, 12_400, 7.2e9)] == ["950", "12.4K", "7.2B"]
