"""--think and /think on a small random model: what a person sees."""

import re
from pathlib import Path

import pytest
from test_cli_talk import Terminal


def test_the_same_seed_and_tokens_give_the_same_text_and_only_text(twofold, model: Path) -> None:
    line = ("complete", "The ferry", "-m", model, "-n", "6", "--seed", "5", "--think", "80")
    one, other = twofold(*line), twofold(*line)
    assert one.out == other.out
    assert one.out.startswith("The ferry")
    assert re.search(r"(vote|one answer).*; \d+ of 80 tokens in [\d.]+ s, seed 5", one.said)
    assert twofold(*line[:-1], "400").code == 0


def test_a_time_is_a_budget_too(twofold, model: Path) -> None:
    said = twofold("chat", model, "-p", "Hello", "-n", "6", "--think", "0.2s").said
    assert re.search(r"tokens in [\d.]+ of 0.2 s", said)


@pytest.mark.parametrize("command", [("complete", "Hi", "-m"), ("chat", "-p", "Hi")])
@pytest.mark.parametrize("budget", ["5x", "0", "-3s", ""])
def test_a_bad_budget_is_one_sentence(twofold, model: Path, command: tuple[str, ...], budget: str) -> None:
    result = twofold(*command, model, "--think", budget)
    assert result.code == 2
    assert result.said.startswith("A thinking budget is a time")


def test_a_problem_that_can_be_checked_is_and_a_game_is_searched(twofold, model: Path) -> None:
    checked = twofold("chat", model, "-p", "Make 24 from 8, 8 and 11.", "-n", "6", "--think", "60")
    assert "tree search, none of" in checked.said
    assert "countdown's checker" in checked.said
    game = twofold("chat", model, "-p", "| - xxx ooo - - - o |", "--think", "6000", "--temp", "0")
    assert game.out.strip() == "b"
    assert "it wins at once" in game.said


def test_probabilities_are_shown_for_what_was_chosen(twofold, model: Path) -> None:
    result = twofold("complete", "The", "-m", model, "-n", "4", "--think", "30", "--probs", "--seed", "1")
    assert "what else it could have been" in result.out


def test_a_method_can_be_asked_for(twofold, model: Path) -> None:
    line = ("complete", "The", "-m", model, "-n", "4", "--think", "30")
    assert "the likeliest of" in twofold(*line, "--set", "think_by=best").said
    assert "think_by" in twofold(*line, "--set", "think_by=hard").said


def test_thinking_in_a_conversation(model: Path) -> None:
    with Terminal("chat", str(model), "-n", "8", "--seed", "3", "--threads", "1") as person:
        person.wait_for("» ")
        for line, answer in (
            ("/think", "is the first that comes to mind"),
            ("/think 100", "may cost 100 tokens"),
            ("Hello", "of 100 tokens in .* s, seed"),
            ("/probs", "what else it could have been"),
            ("/think soon", "A thinking budget is a time"),
            ("/think 10m", "may cost 10 min"),
        ):
            person.type(line + "\n")
            person.wait_for(answer + ".*» ")
        person.type("/think 10m\n")
        person.wait_for("» ")
        person.type("x - oxo - - - o\n")  # a game has no end to the search
        person.wait_for("thinking: ")
        person.type("\x03")
        person.wait_for("stopped by.*you.*» ")
        person.type("/think off\n")
        person.wait_for("first that comes to mind.*» ")
        person.type("\x04")
        assert person.leave() == 0
