"""ARC-Challenge: grade-school science questions that simple retrieval does not answer, four choices.

Clark et al. 2018, arXiv 1803.05457. Definition: the harness's arc_challenge, zero-shot: "Question: …", on a
new line "Answer:", and the likelihood of each answer's text. Its test part.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("arc_challenge",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "query": "Question: Which of these falls when there are clouds?",
    "choices": ["rain", "sand", "trees", "hills"],
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    query, choices, gold = need(record, "query").strip(), tuple(record["choices"]), int(record["gold"])
    text = f"{query.removeprefix('Question:').strip()} {choices[gold]}"
    return [Choice(prompt=f"{query}\nAnswer:", choices=choices, gold=gold, text=text)]
