"""Labels: what a person says about an answer, kept for the next training.

In the user's data folder, below `labels/`:

    labels.jsonl               one label per line, in the order they came; lines are added, never changed
    instructions-1.md, -2 …    what labellers are told; a change makes the next version, the old ones stay

A label says who (an id of this machine's users, not a name), when, what about which answer of which model in
which conversation, under which version of the instructions, and why, if that was said. Four kinds:

    fix       what the model should have said
    good      the answer is right as it is
    compare   two answers to the same question, and which one is better
    why       a note to an earlier label

As in the instructions to labellers of InstructGPT (Ouyang et al. 2022, arXiv:2203.02155, appendix B), the
words under which a judgement was made belong to it: answers judged by other words are other data.

Format: JSON Lines, UTF-8, each line flushed to the disk before the label counts. A torn last line (a power
cut) is passed over. Not covered: several machines, taking a label back (a later fix of the same answer
wins).
"""

import dataclasses
import datetime
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twofold.base import files, home, ledger
from twofold.base.errors import BadFileError, UsageError

Message = dict[str, Any]
KINDS = ("fix", "good", "compare")

INSTRUCTIONS = """\
# How to label

1. **Correct** an answer (`/fix`) when it is wrong, unsafe or not what was asked. Write the whole answer as
   it ought to be: true, short, in the model's own voice. If nobody can know, the right answer says so.
2. **Compare** two answers (`/compare`, then `/better` or `/worse`) by these, in this order: is it harmless,
   is it true, does it help, is it short. If they are equally good, say nothing.
3. Say **why** (`/why`) when the next person would wonder.
4. Nothing private belongs into a label: the model may repeat it to anyone.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Label:
    """One label. `messages`: the conversation up to the question; `answer`: what the model said to it.

    `better`: for a fix the answer that it should have been (`answer` is empty where the model was not asked);
    for a good answer itself; for a comparison the better of two, `answer` being the other. `model`: {name,
    sha256}. `instructions`: their version.
    """

    id: str
    kind: str
    time: str
    who: str
    instructions: int
    model: dict[str, str]
    messages: list[Message]
    answer: str
    better: str
    why: str | None = None

    def conversation(self) -> dict[str, Any]:
        """Return the conversation with the better answer, as a line of a conversation file.

        Earlier answers are shown without being taught: nobody has said that they are right.
        """
        before = [{**m, "weight": 0} if m["role"] == "assistant" else m for m in self.messages]
        return {"messages": [*before, {"role": "assistant", "content": self.better}]}


class Labels:
    """The labels of this user, and the instructions they are made under."""

    def __init__(self, folder: Path | None = None) -> None:
        """Open the folder; the user's own by default. Nothing is written before the first label."""
        self.folder = home.data_folder() / "labels" if folder is None else folder
        self.path = self.folder / "labels.jsonl"

    # ---- labels

    # `who`: a label such as "desk-1"; by default this user of the machine.

    def fix(
        self,
        messages: Sequence[Message],
        answer: str,
        better: str,
        model: dict[str, str],
        who: str | None = None,
    ) -> str:
        """Keep what the model should have said; return the label's id. Raises UsageError."""
        if not better.strip():
            raise UsageError("A correction needs the words the model should have said.")
        if better.strip() == answer.strip():
            raise UsageError("That is what it said: there is nothing to correct.")
        return self._judged("fix", messages, answer, better.strip(), model, who)

    def good(
        self, messages: Sequence[Message], answer: str, model: dict[str, str], who: str | None = None
    ) -> str:
        """Keep that an answer is right as it is; return the label's id. Raises UsageError if it is empty."""
        if not answer.strip():
            raise UsageError("There is no answer that could be good.")
        return self._judged("good", messages, answer, answer.strip(), model, who)

    def compare(
        self,
        messages: Sequence[Message],
        worse: str,
        better: str,
        model: dict[str, str],
        who: str | None = None,
    ) -> str:
        """Keep which of two answers is better; return the label's id. Raises UsageError when they are one."""
        if better.strip() == worse.strip():
            raise UsageError("The two answers are the same, so neither is better.")
        return self._judged("compare", messages, worse, better, model, who)

    def why(self, id_: str, note: str, who: str | None = None) -> None:
        """Add a note to a label. Raises UsageError when there is no such label, or the note is empty."""
        if not note.strip():
            raise UsageError("A note needs words: /why TEXT.")
        if id_ not in {label.id for label in self.all()}:
            raise UsageError("There is no such label to add a note to.")
        self._add({"kind": "why", "of": id_, "why": note.strip()}, who)

    def all(self) -> list[Label]:
        """Return the labels in order, each with its last note. Raises BadFileError for a damaged line."""
        notes: dict[str, str] = {}
        found: list[dict[str, Any]] = []
        for number, record in ledger.read(self.path):
            try:
                if record["kind"] == "why":
                    notes[record["of"]] = record["why"]
                else:
                    found.append(record)
            except KeyError as error:
                raise BadFileError(f"{self.path}, line {number}: a label without {error}.") from error
        try:
            return [Label(**{**record, "why": notes.get(record["id"])}) for record in found]
        except (KeyError, TypeError) as error:
            raise BadFileError(f"{self.path} holds a line that is no label ({error}).") from error

    def corrections(self) -> list[Label]:
        """Return what to learn: of several labels about one question in one conversation the last."""
        last = {json.dumps(label.messages, sort_keys=True): label for label in self.all()}
        return list(last.values())

    def comparisons(self) -> list[tuple[list[Message], str, str]]:
        """Return (messages, better, worse) of every label: a correction is better than what it corrects."""
        return [
            (label.messages, label.better, label.answer)
            for label in self.all()
            if label.kind != "good" and label.answer
        ]

    def counts(self) -> dict[str, int]:
        """Return how many labels of each kind there are."""
        kinds = [label.kind for label in self.all()]
        return {kind: kinds.count(kind) for kind in KINDS}

    def _judged(
        self,
        kind: str,
        messages: Sequence[Message],
        answer: str,
        better: str,
        model: dict[str, str],
        who: str | None,
    ) -> str:
        self._keep_first()
        id_ = secrets.token_hex(6)
        self._add({
            "kind": kind, "id": id_, "instructions": self.version(), "model": model,
            "messages": [dict(message) for message in messages], "answer": answer, "better": better,
        }, who)  # fmt: skip
        return id_

    def _add(self, record: dict[str, Any], who: str | None) -> None:
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        ledger.add(self.path, {"time": now, "who": who or home.user(), **record})

    # ---- instructions

    def version(self) -> int:
        """Return the version of the instructions that hold now."""
        return max((int(path.stem.removeprefix("instructions-")) for path in self._versions()), default=1)

    def instructions(self, version: int | None = None) -> str:
        """Return the text of the instructions, the present ones by default. Raises UsageError."""
        version = self.version() if version is None else version
        path = self._instructions(version)
        if not path.exists():
            if version == 1:
                return INSTRUCTIONS  # nobody has labelled yet
            raise UsageError(f"There is no version {version} of the labelling instructions.")
        return path.read_text(encoding="utf-8")

    def instruct(self, text: str) -> int:
        """Keep new instructions as the next version, unless they are the present ones; return the version."""
        if not text.strip():
            raise UsageError("Empty instructions help nobody.")
        version = self.version()
        if text.strip() == self.instructions().strip():
            return version
        self._keep_first()
        files.write_text(self._instructions(version + 1), text)
        return version + 1

    def _keep_first(self) -> None:
        """Write the first instructions beside the labels, unless they are there."""
        if not self._versions():
            files.write_text(self._instructions(1), INSTRUCTIONS)

    def _instructions(self, version: int) -> Path:
        return self.folder / f"instructions-{version}.md"

    def _versions(self) -> list[Path]:
        return [
            path for path in self.folder.glob("instructions-*.md")
            if path.stem.removeprefix("instructions-").isdigit()
        ]  # fmt: skip


def wordings(question: str) -> list[str]:
    """Return ways in which people type the same question: without capitals, without the mark, more
    politely, with a word behind it.

    A correction that is learned in one spelling only would be forgotten in the next.
    """
    bare = question.rstrip(" .?!")
    first = bare[:1].lower() + bare[1:]
    mark = question[len(bare) :].strip()
    found = [
        question, bare, question.lower(), bare.lower(), f"Please tell me: {question}", f"Hey, {first}{mark}",
        f"I have a question. {question}", f"One question: {question}", f"{bare}, please{mark}",
        f"And {first}{mark}", f"So, {first}{mark}", f"Hello! {question}",
        f"{question} Thanks.", f"{question} Can you tell me?",
    ]  # fmt: skip
    return list(dict.fromkeys(text for text in found if text))


def conversations(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Return what the labels teach, as lines of a conversation file: each question in several wordings."""
    found = []
    for label in labels:
        *before, last = label.messages
        if last.get("role") != "user" or not isinstance(last.get("content"), str):
            found.append(label.conversation())
            continue
        for text in wordings(last["content"]):
            asked = dataclasses.replace(label, messages=[*before, {**last, "content": text}])
            found.append(asked.conversation())
    return found
