"""Votes and the best of many."""

import random

from twofold.think.choosing import HOPELESS, Candidate, best, key, vote


def said(text: str, log_p: float = -1.0, score: float | None = None) -> Candidate:
    return Candidate([1, 2], "", text, log_p, score=score)


def test_what_answers_say_is_their_last_number_or_their_words() -> None:
    assert key("5 + 7 = 12") == key("It is 12.") == key("12.0") != key("13")
    assert key("1,200 apples") == key("= 1200")
    assert key("A cat.") == key(" a CAT") != key("a dog")
    assert key("x - y") != key("x + y")


def test_the_most_frequent_wins_and_of_them_the_likeliest() -> None:
    result = vote([said("12", -3), said("it is 12", -2), said("13", -0.1)])
    assert (result.winner.text, result.first, result.second, result.of) == ("it is 12", 2, 1, 3)
    assert vote([said("12", -3), said("13", -0.1)]).winner.text == "13"  # a draw
    assert vote([said(""), said(" "), said("12")]).winner.text == "12"
    assert vote([said(""), said("")]).first == 2


def test_a_vote_is_decided_when_chance_would_hardly_make_it() -> None:
    assert not vote([said("12")] * 5).decided
    assert vote([said("12")] * 6).decided
    assert not vote([said("12")] * 8 + [said("13")] * 6).decided
    assert not vote([said(word) for word in "abcdefghijklmno"]).decided
    assert vote([said(f"{n}") for n in range(HOPELESS)]).decided


def test_the_rule_of_decided_votes_is_the_chance_of_a_lead() -> None:
    """Shares drawn evenly, votes drawn by them: of leads like this one so many belong to the rarer side."""
    from twofold.think.choosing import _lead_is_chance

    chance, wrong, seen = random.Random(1), 0, 0
    while seen < 2000:
        share = chance.random()
        if sum(chance.random() < share for _ in range(7)) == 5:
            seen, wrong = seen + 1, wrong + (share < 0.5)
    assert abs(wrong / seen - _lead_is_chance(5, 2)) < 0.02


def test_the_best_has_the_highest_score_and_then_the_likeliest() -> None:
    candidates = [said("a", -1, 0.5), said("b", -3, 1.0), said("c", -2, 1.0)]
    assert best(candidates).text == "c"
