"""FairytaleQA: questions about passages of fairy tales, answered in a few words.

Xu et al. 2022, arXiv 2203.13947. Definition: our own: passage, "Question: …", "Answer:", greedy decoding
until the line ends; exact_match and f1 as in SQuAD (arXiv 1606.05250), the better of the two references.
Validation and test part. The stories themselves stand in many corpora: what is looked for in training data is
question and answer.
"""

import re
import string
from collections import Counter
from dataclasses import dataclass
from typing import Any

from twofold.measure.items import Asked, Grades, Item, need

DATA = ("fairytaleqa_valtest",)
HEADLINE = "f1"
SAMPLE: dict[str, Any] = {
    "context": "Far in the north lived a farmer\nwith seven sons.",
    "question": "Who lived in the north?",
    "answer": "A farmer.",
    "answer2": "a farmer with seven sons",
}


@dataclass(frozen=True, kw_only=True)
class Passage(Asked):
    """A question about a passage, with reference answers."""

    answers: tuple[str, ...]

    def grade(self, text: str) -> Grades:
        """Return f1 and exact_match, each against the reference that suits best."""
        said = words(text)
        return {
            "f1": max(overlap(said, words(answer)) for answer in self.answers),
            "exact_match": float(any(said == words(answer) for answer in self.answers)),
        }


def words(text: str) -> list[str]:
    """Return the words as SQuAD compares them: lower case, without punctuation and articles."""
    bare = text.lower().translate(str.maketrans("", "", string.punctuation))
    return re.sub(r"\b(?:a|an|the)\b", " ", bare).split()


def overlap(said: list[str], right: list[str]) -> float:
    """Return the F1 of the words that two answers share."""
    shared = sum((Counter(said) & Counter(right)).values())
    return 2 * shared / (len(said) + len(right)) if shared else float(said == right)


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    passage, question = " ".join(need(record, "context").split()), need(record, "question").strip()
    answers = tuple(
        dict.fromkeys(need(record, key).strip() for key in ("answer", "answer2") if record.get(key))
    )
    return [
        Passage(
            prompt=f"{passage}\nQuestion: {question}\nAnswer:",
            answer=answers[0],
            answers=answers,
            until=("\n",),
            max_tokens=48,
            text=f"{question} {answers[0]}",
        )
    ]
