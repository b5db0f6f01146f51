"""MMLU: questions of 57 subjects from school to profession, with four choices (test part, or a sample of it).

Hendrycks et al. 2021, arXiv 2009.03300. Definition: the harness's mmlu with the customary five examples, the
first five of the subject's development part; the answers are listed under letters and the likelihood of each
letter counts. Reported by subject.
"""

from typing import Any

from twofold.measure.items import Item, Label, letters, need

DATA = ("mmlu_test_sample",)
EXAMPLES = ("mmlu_dev_fewshot",)
SHOTS, FIRST = 5, True
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "subject": "college_navigation",
    "question": "Which way does a compass point?",
    "choices": ["North", "Up", "Home", "Seawards"],
    "answer": "A",
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    subject, question = need(record, "subject"), need(record, "question").strip()
    choices, gold = tuple(record["choices"]), "ABCD".index(record["answer"])
    return [
        Label(
            prompt=f"{question}\n{letters(choices)}\nAnswer:",
            choices=tuple("ABCD"),
            gold=gold,
            text=f"{question} {choices[gold]}",
            part=subject,
            head="The following are multiple choice questions (with answers) about "
            f"{subject.replace('_', ' ')}.\n\n",
        )
    ]
