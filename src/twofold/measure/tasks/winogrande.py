"""WinoGrande: which of two names a sentence is about, seen from how likely its ending becomes.

Sakaguchi et al. 2019, arXiv 1907.10641. Definition: the harness's winogrande, zero-shot: partial evaluation
(Trinh and Le 2018, arXiv 1806.02847), the likelihood of what follows the blank. Its validation part.
"""

from typing import Any

from twofold.measure.items import Blank, Item, need

DATA = ("winogrande",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "context_options": [
        "The crate did not fit the boat since the crate",
        "The crate did not fit the boat since the boat",
    ],
    "continuation": "was too large.",
    "gold": 0,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the sentence with its blank."""
    contexts, ending = tuple(record["context_options"]), need(record, "continuation")
    gold = int(record["gold"])
    return [Blank(contexts=contexts, ending=ending, gold=gold, text=f"{contexts[gold]} {ending}")]
