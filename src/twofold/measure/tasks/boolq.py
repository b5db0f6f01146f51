"""BoolQ: yes or no to a question about a passage.

Clark et al. 2019, arXiv 1905.10044. Definition: the harness's boolq (SuperGLUE), zero-shot: passage,
"Question: …?", "Answer:" and the likelihood of " no" and " yes". Its validation part.
"""

from typing import Any

from twofold.measure.items import Item, Label, need

DATA = ("boolq",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "query": "Passage: The ferry leaves at seven.\nQuestion: does the ferry leave at six?",
    "choices": ["no", "yes"],
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    query, choices, gold = need(record, "query"), tuple(record["choices"]), int(record["gold"])
    query = query.removeprefix("Passage: ").rstrip()
    text = f"{query.rpartition('Question:')[2].strip()} {choices[gold]}"
    return [Label(prompt=f"{query}\nAnswer:", choices=choices, gold=gold, text=text)]
