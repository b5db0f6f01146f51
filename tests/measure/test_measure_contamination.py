"""Contamination: runs of words are found wherever they stand, and nothing else is."""

import random

from twofold.measure import contamination
from twofold.measure.contamination import Overlap

LONG = "The ferry leaves at seven and the harbour wakes an hour before it every single morning"
SHORT = "Gulls argue over the nets on the quay"
TINY = "Gulls argue over nets"


def seen(documents: list[str], *texts: str) -> list[bool | None]:
    overlap = Overlap(texts)
    overlap.read(documents)
    return overlap.seen()


def test_thirteen_words_in_a_row_anywhere() -> None:
    words = LONG.split()
    run = " ".join(words[2:15])
    assert seen([f"Once {run}, so."], LONG) == [True]
    assert seen([f"Once {' '.join(words[2:14])} so."], LONG) == [False]  # twelve
    assert seen([" ".join(words[:7]), " ".join(words[7:])], LONG) == [False]  # not across documents
    assert seen([run.replace("harbour", "quay")], LONG) == [False]


def test_case_and_punctuation_do_not_matter() -> None:
    assert seen([LONG.upper().replace(" ", " -- ")], LONG) == [True]


def test_a_short_text_is_one_run_and_a_tiny_one_is_not_judged() -> None:
    assert seen([f"He said: {SHORT.lower()}!"], SHORT, TINY) == [True, None]
    assert seen([SHORT[:-5], TINY], SHORT, TINY) == [False, None]


def test_all_lengths_in_one_pass_in_any_language() -> None:
    greek = "η θάλασσα είναι γκρίζα τον χειμώνα και το καλοκαίρι μπλε"
    assert seen(["nothing", f"{SHORT} {greek} {LONG}"], LONG, SHORT, greek, LONG[::-1]) == [
        True,
        True,
        True,
        False,
    ]
    assert seen([], LONG) == [False]


def test_as_a_plain_search_finds_it(monkeypatch) -> None:
    monkeypatch.setattr(contamination, "_BUFFER", 50)  # so that many searches are made
    generator = random.Random(3)
    letters = [generator.choices("ab", k=generator.randrange(4, 30)) for _ in range(60)]
    texts = [" ".join(one) for one in letters]
    documents = [" ".join(generator.choices("abc", weights=(9, 9, 1), k=200)) for _ in range(40)]
    padded = [f" {document} " for document in documents]
    expected: list[bool | None] = []
    for one in letters:
        n = min(13, len(one))
        runs = [f" {' '.join(one[i : i + n])} " for i in range(len(one) - n + 1)]
        expected.append(None if n < 8 else any(run in document for run in runs for document in padded))
    assert seen(documents, *texts) == expected
    assert {True, False, None} == set(expected)


def test_words_are_counted() -> None:
    overlap = Overlap([LONG])
    overlap.read(["one two three", "four"])
    assert overlap.words == 4
