"""BLiMP: which of two sentences that differ in one point of grammar is likelier (67 paradigms, 12 phenomena).

Warstadt et al. 2020, arXiv 1912.00582. Definition: the harness's blimp, the likelihood of each sentence after
the start of a document and a space; reported by phenomenon. Its mean over paradigms is here one over
sentences, which is the same when all of them are there.
"""

from typing import Any

from twofold.measure.items import Item, Label, need

DATA = ("blimp",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "UID": "regular_plural_subject_verb_agreement_1",
    "good": "The gulls argue over the nets.",
    "bad": "The gulls argues over the nets.",
    "field": "morphology",
    "term": "subject_verb_agreement",
    "pairID": "0",
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the pair of sentences; its group for an even sample is the paradigm."""
    good, bad = need(record, "good"), need(record, "bad")
    return [
        Label(
            prompt="",
            choices=(good, bad),
            gold=0,
            text=good,
            part=need(record, "term"),
            group=need(record, "UID"),
        )
    ]
