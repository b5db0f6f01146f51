"""Text made safe to print, and numbers for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
