"""COPA: which of two sentences is the cause, or the effect, of another.

Roemmele et al. 2011. Definition: the harness's copa (SuperGLUE), zero-shot: "…, because" or "…, therefore"
and the likelihood of each sentence, which two spaces part from it there, and so here. Its validation part.
"""

import re
from typing import Any

from twofold.measure.items import Item, Label, need

DATA = ("copa",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "query": "The horn sounded three times, because",
    "choices": ["there was fog.", "there was cheese."],
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question. The file has a comma before the connector, which the harness has not."""
    query, choices, gold = need(record, "query").strip(), tuple(record["choices"]), int(record["gold"])
    query = re.sub(r", (because|therefore)$", r" \1", query)
    text = f"{query} {choices[gold]}"
    return [Label(prompt=query, choices=choices, gold=gold, between="  ", text=text)]
