"""DREAM: questions about short dialogues, with three choices.

Sun et al. 2019, arXiv 1902.00164. Definition: our own, after ARC's: the dialogue, "Question: …", "Answer:"
and the likelihood of each answer. Development and test part.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("dream_devtest",)
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "dialogue": ["W: When does the ferry leave?", "M: At seven, as always."],
    "questions": [
        {
            "question": "When does it leave?",
            "choice": ["At six.", "At seven.", "Never."],
            "answer": "At seven.",
        }
    ],
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the questions about a dialogue."""
    dialogue, found = "\n".join(record["dialogue"]), []
    for asked in record["questions"]:
        question, choices = need(asked, "question").strip(), tuple(asked["choice"])
        gold = choices.index(asked["answer"])
        found.append(
            Choice(
                prompt=f"{dialogue}\nQuestion: {question}\nAnswer:",
                choices=choices,
                gold=gold,
                text=f"{question} {choices[gold]}",
            )
        )
    return list(found)
