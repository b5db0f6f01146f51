"""TriviaQA: questions of trivia, answered in free text without any passage (a sample of 3,000 questions).

Joshi et al. 2017, arXiv 1705.03551. Definition: the harness's triviaqa, zero-shot: "Question: …?", "Answer:",
greedy decoding until a line ends or "." or ","; right when it equals one of the aliases, whatever the case
and the punctuation.
"""

import string
from dataclasses import dataclass
from typing import Any

from twofold.measure.items import Asked, Grades, Item, need

DATA = ("triviaqa_sm_sub",)
HEADLINE = "exact_match"
SAMPLE: dict[str, Any] = {
    "context": "Question: What does a captain sound in the fog?\nAnswer:",
    "answer": "Horn",
    "aliases": ["Horn", "Foghorn", "The horn"],
}


@dataclass(frozen=True, kw_only=True)
class Trivia(Asked):
    """A question whose answer has several names."""

    aliases: tuple[str, ...]

    def grade(self, text: str) -> Grades:
        """Return exact_match."""
        return {"exact_match": float(plain(text) in {plain(alias) for alias in self.aliases})}


def plain(text: str) -> str:
    """Return a text without white space around it, in lower case and without ASCII's punctuation."""
    return text.strip().lower().translate(str.maketrans("", "", string.punctuation))


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    prompt, answer = need(record, "context").rstrip(), need(record, "answer")
    question = prompt.removeprefix("Question:").removesuffix("Answer:").strip()
    aliases = tuple(map(str, record["aliases"]))
    return [
        Trivia(
            prompt=prompt,
            answer=aliases[0],
            aliases=aliases,
            until=("\n", ".", ","),
            text=f"{question} {answer}",
        )
    ]
