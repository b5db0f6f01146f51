"""OpenTriviaQA: general knowledge with choices, in eight categories.

Definition: our own, after ARC's: "Question: …", "Answer:" and the likelihood of each answer. Reported by
category.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("opentriviaqa",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "category": "animals",
    "question": "Which of these flies?",
    "answer": "Gull",
    "choices": ["Cod", "Gull", "Crab"],
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question; nothing when fewer than two choices are different."""
    question, answer = need(record, "question").strip(), need(record, "answer")
    choices = tuple(dict.fromkeys(choice for choice in record["choices"] if choice))
    if len(choices) < 2 or answer not in choices:
        return []
    return [
        Choice(
            prompt=f"Question: {question}\nAnswer:",
            choices=choices,
            gold=choices.index(answer),
            text=f"{question} {answer}",
            part=need(record, "category"),
        )
    ]
