"""BIG-Bench, five of its multiple-choice tasks: concepts, deduction, misconceptions, strategies, fables.

Srivastava et al. 2022, arXiv 2206.04615. Definition: llm-foundry's Eval Gauntlet, zero-shot, because the
files are theirs: the prompt as it stands and the likelihood of each answer's text. Reported by task.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need, parted

DATA = (
    "bigbench_conceptual_combinations",
    "bigbench_logical_deduction",
    "bigbench_misconceptions",
    "bigbench_strategy_qa",
    "bigbench_understanding_fables",
)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {"query": "Q: Do gulls read?\nA:", "choices": ["Yes", "No"], "gold": 1}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    query, choices, gold = need(record, "query").rstrip(), tuple(record["choices"]), int(record["gold"])
    text = f"{parted(query)[0].removesuffix('A:').strip()} {choices[gold]}"
    part = source.removeprefix("bigbench_")
    return [Choice(prompt=query, choices=choices, gold=gold, text=text, part=part)]
