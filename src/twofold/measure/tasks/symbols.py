"""Symbols: three tasks of llm-foundry's Eval Gauntlet that are about rules: sums, operators, brackets.

Sums of numbers up to three digits; BIG-Bench's operators and Dyck languages (arXiv 2206.04615). Definition:
theirs, zero-shot: acc is whether greedy decoding writes the answer. Reported by task.
"""

from typing import Any

from twofold.measure.items import Ending, Item, need

DATA = ("simple_arithmetic_withspaces", "bigbench_operators", "bigbench_dyck_languages")
HEADLINE = "acc"
SAMPLE: dict[str, Any] = {"context": "95 + 23 =", "continuation": " 118"}
_NAMES = {"simple_arithmetic_withspaces": "arithmetic"}


def items(record: dict[str, Any], source: str) -> list[Item]:
    """Return the question."""
    context, answer = need(record, "context").rstrip(), need(record, "continuation").strip()
    part = _NAMES.get(source, source.removeprefix("bigbench_"))
    return [Ending(prompt=context, ending=" " + answer, text=f"{context} {answer}", part=part)]
