"""LAMBADA: the last word of a passage that only the whole passage makes guessable.

Paperno et al. 2016, arXiv 1606.06031, in OpenAI's selection of the text. Definition: the harness's
lambada_openai, zero-shot: acc is whether greedy decoding writes the word, perplexity is per word.
"""

from typing import Any

from twofold.measure.items import Ending, Item, need

DATA = ("lambada_openai",)
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {
    "context": "The captain sounded the horn, for the fog had come in. Nobody could see anything in the",
    "continuation": "fog",
}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the passage."""
    context, word = need(record, "context").rstrip(), need(record, "continuation").strip()
    return [Ending(prompt=context, ending=" " + word, text=f"{context} {word}")]
