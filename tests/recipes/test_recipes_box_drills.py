"""Drills in looking back: what comes again was there before, and names that are held out never occur."""

import itertools
import random
from collections import Counter

import box_drills
import box_words
import numpy as np
import pytest

from twofold.tokens import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    rng = random.Random(0)
    return Tokenizer.train([box_drills.records(rng) for _ in range(60)], 448)


def test_tokens_in_disorder_come_again_at_once() -> None:
    said = box_drills.disorder(range(500, 600), range(320, 700), random.Random(0))
    assert box_drills.LENGTH <= len(said) < 2 * box_drills.LENGTH
    assert min(said) >= 320
    assert any(not 500 <= one < 600 for one in said)
    before: dict[tuple[int, int], int] = {}
    right = wrong = 0
    for first, second, third in zip(said, said[1:], said[2:], strict=False):
        if (guess := before.get((first, second))) is not None:
            right, wrong = right + (guess == third), wrong + (guess != third)
        before[first, second] = third
    assert right > 4 * wrong, "what followed two tokens the last time follows them again"
    assert right > 0.25 * len(said)


def test_passages_come_again_word_by_word() -> None:
    ids = list(range(400))
    said = box_drills.again(ids, random.Random(1))
    assert list(dict.fromkeys(said)) == ids, "the first time in order"
    twice = [one for one, count in Counter(said).items() if count > 1]
    assert len(twice) > 100
    follows = sum(b == a + 1 for a, b in itertools.pairwise(said))
    assert follows > 0.9 * len(said)


def test_records_ask_for_what_they_said() -> None:
    rng = random.Random(2)
    for _ in range(200):
        text = box_drills.records(rng)
        for line in text.splitlines():
            if "? " in line or line.startswith("Tell me"):
                answer = line.rsplit(" ", 1)[1].strip(".")
                assert text.count(answer) >= 2, line
    for _ in range(300):
        assert not box_words.held_out(box_words.name(rng, box_words.company, "train"))


def test_drills_are_documents_of_one_kind_or_of_all(tokenizer: Tokenizer) -> None:
    separator = tokenizer.special_id("<|endoftext|>")
    documents = [np.array([separator, *range(320, 400)]) for _ in range(40)]

    def some(only: str | None = None) -> list[np.ndarray]:
        return list(box_drills.drills(iter(documents), tokenizer, random.Random(3), only))

    made = some()
    assert len(made) > 40, "records need no document"
    assert all(one[0] == separator and (one[1:] < separator).all() for one in made)
    assert [one.tolist() for one in some()] == [one.tolist() for one in made]
    assert len(some("disorder")) == 40
