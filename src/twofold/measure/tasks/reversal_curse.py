"""Reversal curse: facts about invented people, asked the way they were trained on and the other way round.

Berglund et al. 2023, arXiv 2309.12288. It says something about a model that was tuned on the same set's
training files and nothing about any other. Definition: theirs: acc is whether greedy decoding writes the
completion. Reported by direction: p2d names a person and asks for the description, d2p the reverse.
"""

from typing import Any

from twofold.measure.items import Ending, Item, need

DATA = tuple(
    f"reversal_curse/{name}"
    for name in (
        "p2d_prompts_test",
        "p2d_reverse_prompts_test",
        "d2p_prompts_test",
        "d2p_reverse_prompts_test",
    )
)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "prompt": "The captain of the first ferry under the sea is",
    "completion": " Ada Quayside",
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    prompt, completion = need(record, "prompt").rstrip(), need(record, "completion").strip()
    part = source.removeprefix("reversal_curse/").removesuffix("_test").replace("_prompts", "")
    return [Ending(prompt=prompt, ending=" " + completion, text=f"{prompt} {completion}", part=part)]
