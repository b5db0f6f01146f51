"""What the tasks judge: expressions, calls, games. What holds for all of them is in tests/contracts."""

import random
from fractions import Fraction

import pytest

from twofold.environments import (
    Problem,
    attempt,
    countdown,
    honest_sums,
    last_number,
    said,
    tool_calls,
    word_problems,
)
from twofold.environments import connect4 as c4
from twofold.environments._sums import SumError, evaluate


@pytest.mark.parametrize(
    ("text", "value"),
    [("1 + 2 * 3", 7), ("(1+2)*3", 9), ("7/2", Fraction(7, 2)), ("0.1 + 0.2", Fraction(3, 10)),
     ("-3 - -4", 1), ("8 ÷ (3 − 1) × 2", 8), ("2*-3", -6)],
)  # fmt: skip
def test_sums_are_exact(text: str, value: Fraction) -> None:
    assert evaluate(text)[0] == value


NO_SUMS = ("", "2**9999", "1/0", "1/(2-2)", "f(1)", "1,2", "(1", "1 2", "9" * 300, "+1+", "1_000", "1//2",
           "(" * 150 + "1" + ")" * 150, "999999999*999999999*999999999")  # fmt: skip


@pytest.mark.parametrize("text", NO_SUMS)
def test_what_is_no_sum_is_said(text: str) -> None:
    with pytest.raises(SumError):
        evaluate(text)


def test_admitting_is_worth_half_and_guessing_wrong_nothing() -> None:
    problem = Problem("What is 684 - 62?", "684-62", {"right": 622})
    judged = {
        "622": 1.0, "684 - 62 = 622.": 1.0, "That sum is too big for me. I can only do small ones.": 0.5,
        "I don't know.": 0.5, "I do not know, perhaps 7.": 0.0, "621": 0.0, "": 0.0, "Once upon a time.": 0.0,
        "<think>too hard": 0.0,
    }  # fmt: skip
    assert {answer: honest_sums.reward(problem, answer) for answer in judged} == judged


def test_countdown_judges_the_value_and_the_numbers() -> None:
    problem = Problem("", "", {"numbers": [3, 3, 8], "goal": 24})
    for right in ("8 * 3", "3 * 8 = 24", "8*3", "(8 × 3)", "<think>1</think>3*8"):
        assert countdown.reward(problem, right) == 1
    for wrong in ("8 * 3 * 3", "24", "8 + 8 + 8", "6 * 4", "8 * 3 + 1", "", "= 8 * 3", "3 * 3 * 3"):
        assert countdown.reward(problem, wrong) == 0


def test_a_calculator_is_called_and_answers() -> None:
    problem = next(word_problems.problems(0, "train"))
    episode = attempt(word_problems, problem, word_problems.solve)
    roles = [message["role"] for message in episode.messages]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert episode.messages[2]["content"] == str(problem.facts["right"])
    assert attempt(word_problems, problem, lambda _: str(problem.facts["right"])).reward == 1  # without it
    endless = attempt(word_problems, problem, lambda _: "<tool_call>\n{}\n</tool_call>")
    assert endless.reward == 0
    assert endless.messages[-1]["content"].startswith("error")


def test_a_call_is_worth_its_parts() -> None:
    facts = {"name": "add_item", "arguments": {"list": "garden", "item": "rice"}}
    problem = Problem("", "", facts)

    def worth(name: str, **arguments: str) -> float:
        return tool_calls.reward(problem, tool_calls.spell(name, arguments))

    assert tool_calls.reward(problem, "rice") == 0
    assert worth("look_up", query="rice") == 0.2
    assert worth("add_item", query="rice") == 0.5
    assert worth("add_item", list="garden", item="tea") == 0.75
    assert worth("add_item", list="garden", item="rice", more="x") == 0.5
    assert worth("add_item", list="garden", item="rice") == 1


def cells(stones: int) -> set[tuple[int, int]]:
    return {(c, r) for c in range(7) for r in range(7) if stones >> (7 * c + r) & 1}


def four(found: set[tuple[int, int]]) -> bool:
    """The rule of the game, slowly."""
    return any(
        all((c + n * dc, r + n * dr) in found for n in range(4))
        for c, r in found
        for dc, dr in ((1, 0), (0, 1), (1, 1), (1, -1))
    )


def test_the_fast_rules_are_the_slow_ones() -> None:
    chance = random.Random(0)
    won = 0
    for _ in range(150):
        sides = [0, 0]
        while True:
            columns = c4.open_columns(sides[0] | sides[1])
            heights = [len([1 for c, _ in cells(sides[0] | sides[1]) if c == column]) for column in range(7)]
            assert columns == [column for column in range(7) if heights[column] < 6]
            if not columns:
                break
            column = chance.choice(columns)
            stone = c4.dropped(sides[0] | sides[1], column)
            assert cells(stone) == {(column, heights[column])}
            sides = [sides[1], sides[0] | stone]
            assert c4.wins(sides[1]) == four(cells(sides[1]))
            if c4.wins(sides[1]):
                won += 1
                break
    assert won > 100


def test_the_teacher_wins_blocks_and_else_plays_anywhere() -> None:
    def column(*stones: tuple[int, int]) -> int:
        return sum(1 << 7 * c + r for c, r in stones)

    three, other = column((0, 0), (1, 0), (2, 0)), column((0, 1), (1, 1), (2, 1))
    chance = random.Random(0)
    assert c4.teacher(three, other, chance) == 3
    assert c4.teacher(other, three, chance) == 3
    free = {c4.teacher(column((0, 0)), column((6, 0)), random.Random(n)) for n in range(100)}
    assert free == set(range(7))


def test_the_teacher_says_what_a_stone_in_each_column_would_do() -> None:
    full = "oxoxox"
    for text, marks in (
        ("| xxx ooo - - - - - |", "| aX bO c d e f g |"),
        (f"| {full} x x x - - - |", "| aF b c d eX f g |"),
        ("| o xo xxo xox - - - |", "| a b c dO eX f g |"),
        ("| oox o x o x o xx |", "| a b c d e f g |"),
    ):
        problem = c4.read(text)
        assert problem is not None
        mine, other = problem.facts["mover"], problem.facts["other"]
        assert c4.marks(mine, other) == marks, text
        game = c4.begin(problem)
        said = c4.solve(game)
        assert said.startswith(f"<think>\n{marks}\n</think>\n\n")
        seen = [word for word in marks.split() if word[1:] == "X"] or [
            w for w in marks.split() if w[1:] == "O"
        ]
        assert not seen or said[-1] == seen[0][0]


def test_a_board_is_words() -> None:
    assert c4.spell(0b01 | 1 << 42, 0b10) == "| xo - - - - - x |"


def test_a_position_and_its_mirror_image_are_one_problem() -> None:
    a, b = 1 | 1 << 8, 1 << 7 | 1 << 14
    same = {c4._key(a, b), c4._key(b, a), c4._key(c4._mirrored(a), c4._mirrored(b))}
    assert same == {c4._key(a, b)}
    assert c4._mirrored(1) == 1 << 42
    assert c4._key(a, 1 << 14) != c4._key(a, b)


def test_the_teacher_shows_late_boards_of_its_own_games_too() -> None:
    shown = [game.mine | game.other for game, _ in zip(c4.lessons(0), range(3000), strict=False)]
    late = [stones for stones in shown if stones.bit_count() >= c4.LATE]
    assert len(late) > 0.2 * len(shown)
    assert sum(len(c4.open_columns(stones)) < c4.COLUMNS for stones in late) > 0.5 * len(late)


def test_a_column_that_does_not_exist_loses() -> None:
    for problem, _ in zip(c4.problems(0, "train"), range(5), strict=False):
        for answer in ("h", "0", "", "ab", "x", "a b", "1", "A"):
            game = c4.begin(problem)
            if not game.done:
                game.take(answer)
                assert game.done
                assert game.reward == 0


def test_the_last_number_and_the_last_word() -> None:
    assert last_number("It is 1,024.") == 1024
    assert last_number("none") is None
    assert last_number("from 3 to -4.5") == -4.5
    assert said("<think>a</think> b ") == "b"
    assert said("<think>a") == ""
