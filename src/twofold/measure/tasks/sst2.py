"""SST-2: whether a sentence about a film is positive or negative.

Socher et al. 2013. Definition: the harness's sst2 (GLUE), zero-shot, on the test part.
"""

from typing import Any

from twofold.measure.items import Item, Label, need

DATA = ("cls_stsa_binary_test",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {"text": "a film as lively as a harbour in june .", "label": 1}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the sentence."""
    text, gold = need(record, "text"), int(record["label"])
    prompt = f"{text}\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return [Label(prompt=prompt, choices=("negative", "positive"), gold=gold, text=text)]
