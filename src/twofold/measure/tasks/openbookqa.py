"""OpenBookQA: elementary science that takes a fact and common sense, with four choices.

Mihaylov et al. 2018, arXiv 1809.02789. Definition: the harness's openbookqa, zero-shot: the question's stem
and the likelihood of each answer. Its test part.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("openbook_qa",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "query": "A gull finds its food in",
    "choices": ["water", "stone", "snow", "fire"],
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    query, choices, gold = need(record, "query"), tuple(record["choices"]), int(record["gold"])
    return [Choice(prompt=query, choices=choices, gold=gold, text=f"{query} {choices[gold]}")]
