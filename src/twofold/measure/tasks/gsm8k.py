"""GSM8K: word problems of grade-school mathematics, whose answer the model must work out and write.

Cobbe et al. 2021, arXiv 2110.14168. Definition: the harness's gsm8k: five worked examples drawn from the
training part (Python's random.Random(1234), anew for each question in turn), greedy decoding of at most 256
tokens. `strict` looks for "#### number", `flexible` takes the last number. Its test part.
"""

import re
from dataclasses import dataclass
from typing import Any

from twofold.measure.items import Asked, Grades, Item, need

DATA = ("gsm8k_test",)
EXAMPLES = ("gsm8k_train",)
SHOTS = 5
HEADLINE = "flexible"
SAMPLE: dict[str, Any] = {
    "question": "Three boats carry four crates each. How many crates are there?",
    "answer": "There are 3*4=<<3*4=12>>12 crates.\n#### 12",
}


@dataclass(frozen=True, kw_only=True)
class Problem(Asked):
    """A word problem; right when the number is."""

    def grade(self, text: str) -> Grades:
        """Return strict and flexible, both exact matches of the number."""
        marked = re.search(r"#### (-?[0-9.,]+)", text)
        numbers = re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", text)
        right = plain(self.answer)
        return {
            "flexible": float(bool(numbers) and plain(numbers[-1]) == right),
            "strict": float(marked is not None and plain(marked[1]) == right),
        }


def plain(answer: str) -> str:
    """Return a number without thousands' commas, dollar signs, a final point and what leads up to it."""
    answer = re.sub(r"(?s).*#### ", "", answer.replace(",", "").replace("$", ""))
    return re.sub(r"\.$", "", answer).strip().lower()


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the problem."""
    question, answer = need(record, "question"), need(record, "answer")
    return [
        Problem(
            prompt=f"Question: {question}\nAnswer:",
            answer=answer,
            until=("Question:", "</s>", "<|im_end|>"),
            text=f"{question} {answer}",
        )
    ]
