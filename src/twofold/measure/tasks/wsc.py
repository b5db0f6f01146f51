"""Winograd schemas (WSC273): what a pronoun stands for, seen from how likely the sentence's end becomes.

Levesque et al. 2012. Definition: the harness's wsc273, zero-shot: partial evaluation (Trinh and Le 2018,
arXiv 1806.02847), the likelihood of what follows the pronoun.
"""

from typing import Any

from twofold.measure.items import Blank, Item, need

DATA = ("winograd_wsc",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "context_options": [
        "The net caught the gull because the net",
        "The net caught the gull because the gull",
    ],
    "continuation": "had been spread over the quay.",
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the sentence with its pronoun replaced."""
    contexts, ending = tuple(record["context_options"]), need(record, "continuation")
    gold = int(record["gold"])
    return [Blank(contexts=contexts, ending=ending, gold=gold, text=f"{contexts[gold]} {ending}")]
