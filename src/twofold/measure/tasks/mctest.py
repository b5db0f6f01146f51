"""MCTest: stories for children, each with four questions of four choices (MC160 and MC500).

Richardson et al. 2013. Definition: our own, after ARC's: the story, "Question: …", "Answer:" and the
likelihood of each answer. Reported by set.
"""

from typing import Any

from twofold.measure.items import Choice, Item, need

DATA = ("mctest_mc160", "mctest_mc500")
HEADLINE = "acc_norm"
SAMPLE: dict[str, Any] = {
    "story": "A boy carries lemons to the quay.\nThe captain buys them.",
    "questions": [
        {
            "question": "Who buys the lemons?",
            "choices": ["the boy", "the captain", "a gull", "nobody"],
            "answer": "B",
        }
    ],
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the questions about a story."""
    story, found = " ".join(need(record, "story").split()), []
    for asked in record["questions"]:
        question, gold = need(asked, "question").strip(), "ABCD".index(asked["answer"])
        choices = tuple(choice.strip() for choice in asked["choices"])
        found.append(
            Choice(
                prompt=f"{story}\nQuestion: {question}\nAnswer:",
                choices=choices,
                gold=gold,
                text=f"{question} {choices[gold]}",
                part=source.removeprefix("mctest_"),
            )
        )
    return list(found)
