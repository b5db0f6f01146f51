"""PIQA: which of two ways to reach an everyday goal works.

Bisk et al. 2020, arXiv 1911.11641. Definition: the harness's piqa, zero-shot: "Question: …", on a new line
"Answer:", and the likelihood of each solution. Its validation part.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("piqa",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "query": "Question: keep soup warm on the way\n",
    "choices": ["Pour it into a flask and close it.", "Pour it into a basket and close it."],
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    query, choices, gold = need(record, "query").rstrip("\n"), tuple(record["choices"]), int(record["gold"])
    text = f"{query.removeprefix('Question:').strip()} {choices[gold]}"
    return [Choice(prompt=f"{query}\nAnswer:", choices=choices, gold=gold, text=text)]
