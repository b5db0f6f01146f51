"""Branches that fork and lose their places hold what a text read from its beginning holds."""

import random

import numpy as np
import pytest
from tiny_models import random_model

from twofold.base.errors import UsageError
from twofold.run import open_model
from twofold.think.branches import Branch, Branches
from twofold.think.budget import Budget, Meter

MODEL = random_model("qwen3")
PROMPT = MODEL.tokenizer.encode("The ferry leaves at seven, and the harbour wakes.")


def branches(sequences: int) -> Branches:
    engine = open_model(MODEL, threads=1, context=96, sequences=sequences)
    return Branches(engine, PROMPT, Meter(Budget(tokens=1000)))


def from_the_beginning(ids: list[int]) -> np.ndarray:
    whole = [*PROMPT, *ids]
    engine = open_model(MODEL, threads=1, context=96)
    return engine.forward(whole, np.zeros(len(whole)), np.arange(len(whole)))[-1]


@pytest.mark.parametrize("sequences", [3, 5, 40])
def test_any_tree_of_branches_has_the_logits_of_its_texts(sequences: int) -> None:
    tree, chance = branches(sequences), random.Random(0)
    frozen = [tree.start()]
    for _ in range(12):
        batch = []
        for _ in range(tree.width):
            parent = chance.choice(frozen)
            added = [chance.randrange(300) for _ in range(chance.choice((1, 1, 3)))]
            batch.append(Branch([*parent.ids, *added], parent=parent))
        tree.read(batch)
        for branch in batch:
            assert branch.logits is not None
            np.testing.assert_array_equal(branch.logits, from_the_beginning(branch.ids))
        frozen += batch


def test_a_fork_reads_its_own_tokens_only() -> None:
    tree = branches(9)
    first = Branch([5, 6, 7, 8])
    tree.read([first])
    assert tree.meter.tokens == 4
    tree.read([Branch([5, 6, 7, 8, token], parent=first) for token in (1, 2, 3)])
    assert tree.meter.tokens == 7


def test_a_dropped_branch_makes_room() -> None:
    tree = branches(3)
    one, two = Branch([1]), Branch([2])
    tree.read([one])
    tree.drop(one)
    tree.read([two])
    two.ids.append(3)
    tree.read([two])
    assert tree.meter.tokens == 3
    np.testing.assert_array_equal(two.logits, from_the_beginning([2, 3]))


def test_an_engine_of_one_sequence_and_a_full_window_are_refused() -> None:
    with pytest.raises(UsageError, match="two sequences"):
        branches(1)
    engine = open_model(MODEL, threads=1, context=len(PROMPT), sequences=3)
    with pytest.raises(UsageError, match="shorten"):
        Branches(engine, PROMPT, Meter(Budget(tokens=1)))
