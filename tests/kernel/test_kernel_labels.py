"""Labels: what is kept, in which words and under which instructions, and what is learned from it."""

import json
from pathlib import Path

import pytest

from twofold.base import home
from twofold.base.errors import UsageError
from twofold.kernel.labels import INSTRUCTIONS, Labels, conversations, wordings
from twofold.tokens.conversation import check, learned

MODEL = {"name": "box", "sha256": "ab"}
ASKED = [{"role": "user", "content": "What is 2 + 2?"}]
LONG = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho"},
    {"role": "user", "content": "What is 2 + 2?"},
]


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    return Labels(tmp_path / "labels")


def test_a_label_says_who_when_what_why_and_under_which_instructions(labels: Labels) -> None:
    first = labels.fix(LONG, "Five.", " Four. ", MODEL)
    labels.why(first, "it is arithmetic")
    assert labels.instruct("Be kind.\n") == 2
    second = labels.compare(ASKED, "A fish.", "Four, I think.", MODEL)
    fix, pair = labels.all()
    assert (fix.id, fix.kind, fix.better, fix.answer, fix.why) == (
        first, "fix", "Four.", "Five.", "it is arithmetic",
    )  # fmt: skip
    assert (pair.id, pair.kind, pair.why, pair.instructions) == (second, "compare", None, 2)
    assert (fix.instructions, fix.model, fix.messages) == (1, MODEL, LONG)
    assert fix.who == home.user()
    assert fix.time.endswith("+00:00")
    assert labels.counts() == {"fix": 1, "good": 0, "compare": 1}
    assert labels.comparisons() == [(LONG, "Four.", "Five."), (ASKED, "Four, I think.", "A fish.")]


def test_lines_are_only_added_and_a_torn_one_is_passed_over(labels: Labels) -> None:
    labels.fix(ASKED, "Five.", "Four.", MODEL)
    before = labels.path.read_bytes()
    with open(labels.path, "ab") as file:
        file.write(b'{"kind": "fix", "id": "x", "mess')  # the power went
    labels.fix(ASKED, "Six.", "4", MODEL)
    assert labels.path.read_bytes().startswith(before)
    assert [label.better for label in labels.all()] == ["Four.", "4"]
    assert [label.better for label in labels.corrections()] == ["4"]  # the last word about an answer


def test_instructions_have_versions_that_stay(labels: Labels) -> None:
    assert labels.instructions() == INSTRUCTIONS
    assert not labels.folder.exists()  # looking writes nothing
    assert labels.instruct(INSTRUCTIONS) == 1
    assert labels.instruct("Two.") == 2
    assert labels.instruct("Ten.") == 3
    assert (labels.instructions(), labels.instructions(2)) == ("Ten.", "Two.")
    assert labels.instructions(1) == INSTRUCTIONS
    for text, version in (("  ", None), ("x", 9)):
        with pytest.raises(UsageError):
            labels.instruct(text) if version is None else labels.instructions(version)


def test_what_makes_no_sense_is_refused_and_nothing_is_kept(labels: Labels) -> None:
    for make in (
        lambda: labels.fix(ASKED, "Four.", " ", MODEL),
        lambda: labels.fix(ASKED, "Four.", "Four. ", MODEL),
        lambda: labels.compare(ASKED, "a", "a", MODEL),
        lambda: labels.why("nothing", "because"),
    ):
        with pytest.raises(UsageError):
            make()
    assert not labels.path.exists()


def test_a_correction_teaches_the_last_answer_in_many_wordings(labels: Labels) -> None:
    labels.fix(LONG, "Five.", "Four.", MODEL)
    taught = conversations(labels.corrections())
    questions = [record["messages"][2]["content"] for record in taught]
    assert questions == wordings("What is 2 + 2?")
    assert len(set(questions)) == len(questions) > 8
    assert {"what is 2 + 2", "Please tell me: What is 2 + 2?"} <= set(questions)
    for record in taught:
        conversation = check(json.loads(json.dumps(record)), "labels", "line 1")
        assert [learned(message) for message in conversation.messages] == [False, False, False, True]
        assert conversation.messages[-1]["content"] == "Four."
