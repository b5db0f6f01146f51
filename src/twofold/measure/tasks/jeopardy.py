"""Jeopardy: clues and their answers, in five categories.

Definition: llm-foundry's Eval Gauntlet, zero-shot: the clue, on a new line "Answer:", and acc is whether
greedy decoding writes the answer. Reported by category.
"""

from typing import Any

from twofold.measure.items import Ending, Item, need

DATA = ("jeopardy_all",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "context": "LITERATURE: He wrote of a captain and a white whale",
    "continuation": "Herman Melville",
    "category": "literature",
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the clue."""
    clue, answer = need(record, "context").rstrip(), need(record, "continuation").strip()
    text, part = f"{clue.partition(': ')[2]} {answer}", need(record, "category")
    return [Ending(prompt=f"{clue}\nAnswer:", ending=" " + answer, text=text, part=part)]
