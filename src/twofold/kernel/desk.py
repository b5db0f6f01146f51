"""The labelling desk: what is to be labelled next, and whether those who label agree.

Questions come from `labels/questions.jsonl` in the user's data folder, one a line, {"messages": [...]}; lines
are added, never changed. A question is done when anybody has labelled it. Every fifth item of a labeller is
one that others have labelled already, without their verdict: a second opinion, from which agreement is
computed. Without questions there are second opinions only.

A labeller is a label such as "desk-1", not a name. Not covered: deadlines, assigning work to people.
"""

import collections
import datetime
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from twofold.base import home, ledger
from twofold.base.errors import UsageError
from twofold.kernel.labels import Label, Labels, Message
from twofold.measure import agreement

SECOND = 5  # every so many-th item is a second opinion
FEW = 20  # shared items below which agreement says little


@dataclass(frozen=True)
class Item:
    """Something to label. `answers`: none for a new question, one to correct, or two to compare.

    `source`: "question" or "second opinion".
    """

    messages: list[Message]
    answers: list[str]
    model: dict[str, str]
    source: str


class Desk:
    """The desk over a user's labels."""

    def __init__(self, labels: Labels | None = None) -> None:
        """Open the desk; over this user's own labels by default."""
        self.labels = labels or Labels()
        self.path = self.labels.folder / "questions.jsonl"

    def questions(self) -> list[list[Message]]:
        """Return the conversations that wait for an answer, each once, in order."""
        records = (record.get("messages") for _, record in ledger.read(self.path))
        found = {_key(messages): messages for messages in records if isinstance(messages, list) and messages}
        return list(found.values())

    def ask(self, questions: Sequence[str | list[Message]]) -> int:
        """Add questions, texts or conversations that end with the user's; return how many are new.

        Raises UsageError for what is neither.
        """
        new: dict[str, list[Message]] = {}
        for question in questions:
            messages = [{"role": "user", "content": question}] if isinstance(question, str) else question
            last = messages[-1] if messages else {}
            if last.get("role") != "user" or not str(last.get("content", "")).strip():
                raise UsageError("A question is a text, or a conversation that ends with the user's words.")
            new[_key(messages)] = messages
        there = {_key(messages) for messages in self.questions()}
        added = [messages for key, messages in new.items() if key not in there]
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        for messages in added:
            ledger.add(self.path, {"time": now, "messages": messages})
        return len(added)

    def next(self, who: str | None = None, kind: str | None = None, skip: int = 0) -> Item | None:
        """Return what `who` is to label next, None when nothing is left for him.

        `kind`: "fix" leaves out comparisons, "compare" second opinions about single answers. `skip`: pass
        over so many items.
        """
        who = who or home.user()
        labels = self.labels.all()
        mine = [label for label in labels if label.who == who]
        due = len(mine) % SECOND == SECOND - 1
        fresh, second = self._fresh(labels), self._second(labels, who, kind)
        order = itertools.chain(second, fresh) if due else itertools.chain(fresh, second)
        return next(itertools.islice(order, skip, None), None)

    def waiting(self) -> int:
        """Return how many questions nobody has labelled."""
        return sum(1 for _ in self._fresh(self.labels.all()))

    def _fresh(self, labels: Sequence[Label]) -> Iterator[Item]:
        done = {_key(label.messages) for label in labels}
        for messages in self.questions():
            if _key(messages) not in done:
                yield Item(messages, [], {}, "question")

    def _second(self, labels: Sequence[Label], who: str, kind: str | None) -> Iterator[Item]:
        """Yield what others have labelled and `who` has not, what fewest have labelled first."""
        seen: dict[str, set[str]] = collections.defaultdict(set)
        first: dict[str, Label] = {}
        for label in labels:
            unit, _ = judged(label)
            seen[unit].add(label.who)
            first.setdefault(unit, label)
        for unit in sorted(first, key=lambda one: len(seen[one])):
            label = first[unit]
            if who in seen[unit] or not label.answer or kind not in (None, _asked_by(label)):
                continue
            answers = [label.answer, label.better] if label.kind == "compare" else [label.answer]
            answers.sort(
                key=lambda text: hashlib.sha256(f"{who} {text}".encode()).digest()
            )  # no side is told
            yield Item(label.messages, answers, label.model, "second opinion")

    # ---- agreement

    def agreement(self) -> dict[str, Any]:
        """Return how far the labellers agree, as JSON holds it.

        {labellers: [{who, labels}], shared: items with two labels or more, alpha, by_kind: {compare: {shared,
        alpha, pairs}, answer: …}, pairs: [{a, b, shared, agreement, kappa}] over both, note}.
        """
        labels = self.labels.all()
        units: dict[str, dict[str, str]] = collections.defaultdict(dict)
        kinds: dict[str, str] = {}
        for label in labels:
            unit, verdict = judged(label)
            kinds[unit] = "compare" if label.kind == "compare" else "answer"
            if label.answer:
                units[unit][label.who] = verdict  # a later word of the same labeller counts
        counts = collections.Counter(label.who for label in labels)
        by_kind = {
            kind: _told([item for unit, item in units.items() if kinds[unit] == kind])
            for kind in ("compare", "answer")
        }
        told = _told(list(units.values()))
        note = None
        if told["shared"] < FEW:
            note = f"Only {told['shared']} items have two labels: below {FEW} these figures say little."
        return {
            "labellers": [{"who": who, "labels": count} for who, count in counts.most_common()],
            **told, "by_kind": by_kind, "note": note,
        }  # fmt: skip


def labeller(who: Any) -> str | None:
    """Return `who` as a labeller's mark, None for none. Raises UsageError for what is no short word."""
    if who is None or who == "":
        return None
    if not isinstance(who, str) or not re.fullmatch(r"[\w.-]{1,40}", who):
        raise UsageError("A labeller is a short mark such as desk-1: letters, digits, dots, - and _.")
    return who


def judged(label: Label) -> tuple[str, str]:
    """Return what a label is about, and its verdict as a word.

    Two answers: "first" or "second" by the alphabet, so that it does not matter who stood where. One answer:
    "good" or "wrong".
    """
    if label.kind == "compare":
        texts = sorted((label.answer, label.better))
        return _key([*label.messages, *texts]), "first" if label.better == texts[0] else "second"
    return _key([*label.messages, label.answer]), "good" if label.kind == "good" else "wrong"


def _told(items: list[dict[str, str]]) -> dict[str, Any]:
    shared = [item for item in items if len(item) > 1]
    return {
        "shared": len(shared),
        "alpha": agreement.alpha(shared),
        "pairs": [asdict(pair) for pair in agreement.pairs(shared)],
    }


def _asked_by(label: Label) -> str:
    return "compare" if label.kind == "compare" else "fix"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
