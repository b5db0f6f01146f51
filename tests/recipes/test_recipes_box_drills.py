"""Drills in looking back: what comes again was there before, and names that are held out never occur."""

import itertools
import random
import re
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


def test_pieces_come_again_over_distances_short_and_long(tokenizer: Tokenizer) -> None:
    reach = 400
    rng = random.Random(9)
    prose = [rng.randrange(320, 420) for _ in range(3000)]
    total, distances = 0, []
    for seed in range(8):
        said = box_drills.far(prose, range(320, 440), tokenizer, random.Random(seed), reach)
        assert 2 * reach <= len(said) < 3 * reach
        total += len(said)
        last: dict[tuple[int, ...], int] = {}
        for at in range(len(said) - 5):
            five = tuple(said[at : at + 5])
            if five in last:
                distances.append(at - last[five])
            last[five] = at
    assert 0.2 < len(distances) / total < 0.7
    assert max(distances) <= 1.5 * reach
    near, far = (sum(low <= one < high for one in distances) for low, high in ((0, 90), (300, 600)))
    assert min(near, far) > 0.1 * len(distances)


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

    def some(*only: str) -> list[np.ndarray]:
        return list(box_drills.drills(iter(documents), tokenizer, random.Random(3), only))

    made = some()
    assert len(made) > 40, "records need no document"
    assert all(one[0] == separator and (one[1:] < separator).all() for one in made)
    assert [one.tolist() for one in some()] == [one.tolist() for one in made]
    assert len(some("disorder")) == 40
    assert max(map(len, some("far"))) > box_drills.LENGTH


def test_small_sums_are_right() -> None:
    rng = random.Random(4)
    found = 0
    for _ in range(200):
        for a, sign, b, got in re.findall(
            r"(?<![\d+*/-] )\b(\d+) ([+*/-]) (\d+) = (\d+)", box_drills.sums(rng)
        ):
            first, second, third = int(a), int(b), int(got)
            right = {
                "+": first + second,
                "-": first - second,
                "*": first * second,
                "/": first / (second or 1),
            }
            assert right[sign] == third
            found += 1
    assert found > 1000
