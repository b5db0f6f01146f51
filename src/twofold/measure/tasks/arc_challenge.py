"""ARC-Challenge: grade-school science questions that simple retrieval does not answer, four choices.

Clark et al. 2018, arXiv 1803.05457. Definition: the harness's arc_challenge, zero-shot: "Question: …", on a
new line "Answer:", and the likelihood of each answer's text. Its test part.
"""

from typing import Any

from twofold.measure.items import Item, worded

DATA = ("arc_challenge",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "query": "Question: Which of these falls when there are clouds?",
    "choices": ["rain", "sand", "trees", "hills"],
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    return [worded(record)]
