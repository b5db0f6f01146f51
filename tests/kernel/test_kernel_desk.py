"""The desk: what comes next, for whom, and whether labellers agree."""

from pathlib import Path

import pytest

from twofold.base.errors import UsageError
from twofold.kernel.desk import Desk, labeller
from twofold.kernel.labels import Labels

MODEL = {"name": "box", "sha256": "ab"}


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(Labels(tmp_path / "labels"))


def test_questions_are_asked_once_and_done_when_labelled(desk: Desk) -> None:
    assert desk.next() is None
    assert desk.ask(["One?", asked("Two?"), "One?"]) == 2
    assert desk.ask(["Two?"]) == 0
    assert desk.waiting() == 2
    item = desk.next("desk-1")
    assert item is not None
    assert (item.messages, item.answers, item.source) == (asked("One?"), [], "question")
    desk.labels.fix(item.messages, "", "Yes, one.", MODEL, "desk-1")
    following = desk.next("desk-1")
    assert following is not None
    assert following.messages == asked("Two?")
    assert desk.next("desk-1", skip=1) is None
    assert desk.next("desk-2", skip=1) is None, "what was written from scratch asks for no second opinion"
    for wrong in ("", [], [{"role": "assistant", "content": "x"}]):
        with pytest.raises(UsageError, match="A question is"):
            desk.ask([wrong])  # type: ignore[list-item]


def test_every_fifth_item_is_a_second_opinion_without_the_verdict(desk: Desk) -> None:
    desk.ask([f"{n}?" for n in range(20)])
    desk.labels.compare(asked("Better?"), "B", "A", MODEL, "desk-1")
    sources = []
    for _ in range(10):
        item = desk.next("desk-2")
        assert item is not None
        sources.append(item.source)
        if item.answers:
            assert sorted(item.answers) == ["A", "B"]
            desk.labels.compare(item.messages, "A", "B", MODEL, "desk-2")
        else:
            desk.labels.fix(item.messages, "", "words", MODEL, "desk-2")
    assert sources == ["question"] * 4 + ["second opinion"] + ["question"] * 5


def test_without_questions_there_are_second_opinions(desk: Desk) -> None:
    desk.labels.compare(asked("a"), "x", "y", MODEL, "desk-1")
    desk.labels.fix(asked("b"), "wrong", "right", MODEL, "desk-1")
    desk.labels.fix(asked("c"), "", "from scratch", MODEL, "desk-1")
    assert desk.next("desk-1") is None
    fix, compare = desk.next("desk-2", "fix"), desk.next("desk-2", "compare")
    assert fix is not None
    assert fix.answers == ["wrong"]
    assert compare is not None
    assert sorted(compare.answers) == ["x", "y"]
    sides = [desk.next(f"desk-{n}", "compare") for n in range(2, 12)]
    assert {tuple(one.answers) for one in sides if one} == {("x", "y"), ("y", "x")}


def test_agreement(desk: Desk) -> None:
    for n in range(10):
        desk.labels.compare(asked(f"{n}"), "x", "y", MODEL, "one")
        worse, better = ("y", "x") if n == 0 else ("x", "y")
        desk.labels.compare(asked(f"{n}"), worse, better, MODEL, "two")
        desk.labels.good(asked(f"{n}"), "fine", MODEL, "one")
    desk.labels.fix(asked("0"), "fine", "better", MODEL, "two")
    desk.labels.fix(asked("0"), "", "from scratch", MODEL, "two")
    told = desk.agreement()
    assert told["labellers"] == [{"who": "one", "labels": 20}, {"who": "two", "labels": 12}]
    compared = told["by_kind"]["compare"]
    assert compared["shared"] == 10
    assert compared["pairs"][0]["agreement"] == 0.9
    assert told["by_kind"]["answer"]["shared"] == 1
    assert told["shared"] == 11
    assert "say little" in told["note"]
    desk.labels.compare(asked("0"), "x", "y", MODEL, "two")  # thought again
    assert desk.agreement()["by_kind"]["compare"]["pairs"][0]["agreement"] == 1.0


def test_good_answers_teach_but_compare_nothing(desk: Desk) -> None:
    desk.labels.good(asked("a"), "fine ", MODEL, "one")
    assert desk.labels.comparisons() == []
    assert desk.labels.corrections()[0].conversation()["messages"][-1] == {
        "role": "assistant",
        "content": "fine",
    }
    assert desk.labels.counts() == {"fix": 0, "good": 1, "compare": 0}
    with pytest.raises(UsageError, match="could be good"):
        desk.labels.good(asked("a"), " ", MODEL)


def test_labellers_are_marks() -> None:
    assert (labeller(None), labeller(""), labeller("desk-1")) == (None, None, "desk-1")
    for wrong in ("two words", "x" * 41, 7, "a\nb", "../x"):
        with pytest.raises(UsageError, match="short mark"):
            labeller(wrong)
