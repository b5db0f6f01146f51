"""Social IQa: what people feel, want or do next in a situation.

Sap et al. 2019, arXiv 1904.09728. Definition: llm-foundry's Eval Gauntlet, zero-shot, because the file is
theirs: the answers are listed under letters, and a letter is what the model is asked for. The file leaves
two of the three answers, so scores are not comparable with the harness's.
"""

from typing import Any

from twofold.measure.items import Item, lettered

DATA = ("siqa",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "query": "Question: Where does a boat lie at night?\nA. in a tree\nB. in a harbour\nAnswer:",
    "choices": ["A", "B"],
    "gold": 1,
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    return [lettered(record)]
