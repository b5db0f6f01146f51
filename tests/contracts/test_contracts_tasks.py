"""Every task of twofold/environments: its problems, both halves of the world, what answers may do."""

import random
from itertools import islice
from types import ModuleType

import pytest

from twofold.environments import TASKS, Episode, Problem, attempt, draw, split_of

ODD = ("", "0", "7", "-1", "<think>", "<think>4</think>", "</think>", "x" * 5000, "(" * 300, "9" * 400, "1/0",
       "<tool_call>", "<tool_call>\n{}\n</tool_call>", '<tool_call>\n{"name": 3}\n</tool_call>',
       '<tool_call>\n{"name": "calculator", "arguments": {"expression": 5}}\n</tool_call>',
       "<tool_call>\n" + "[" * 3000 + "\n</tool_call>", "\ud800", "٣", "1e5", "__import__('os')")  # fmt: skip


@pytest.fixture(params=TASKS.names())
def task(request: pytest.FixtureRequest) -> ModuleType:
    return TASKS.get(request.param)


def first(task: ModuleType, count: int, seed: int = 0, split: str = "train") -> list[Problem]:
    return list(islice(task.problems(seed, split), count))


def test_the_same_seed_sets_the_same_problems_and_another_seed_others(task: ModuleType) -> None:
    assert first(task, 40) == first(task, 40)
    assert first(task, 40) != first(task, 40, seed=1)


def test_no_problem_is_in_both_halves(task: ModuleType) -> None:
    """Whatever the seeds, and however the same problem may be put into words."""
    keys = {split: {p.key for seed in range(3) for p in first(task, 400, seed, split)}
            for split in ("train", "test")}  # fmt: skip
    assert not keys["train"] & keys["test"]
    assert all(split_of(key) == split for split, found in keys.items() for key in found)
    texts = {split: {p.text for seed in range(3) for p in first(task, 400, seed, split)}
             for split in ("train", "test")}  # fmt: skip
    assert not texts["train"] & texts["test"]


def test_drawn_problems_differ(task: ModuleType) -> None:
    drawn = draw(task, 150, seed=3, split="test")
    assert len({problem.key for problem in drawn}) == len(drawn) == 150


def test_a_problem_says_what_to_do_without_control_tokens(task: ModuleType) -> None:
    for problem in first(task, 100):
        assert problem.text.strip() == problem.text != ""
        assert "<|" not in problem.text


def test_the_solver_is_right_or_at_least_a_match(task: ModuleType) -> None:
    problems = first(task, 150, split="test")
    rewards = [attempt(task, p, task.solve, seed=n).reward for n, p in enumerate(problems)]
    if hasattr(task, "reward"):
        assert set(rewards) == {1.0}
    else:  # a game against the solver itself: as good as its opponent
        assert 0.35 < sum(rewards) / len(rewards) < 0.65


def test_an_attempt_with_the_same_seed_goes_the_same_way(task: ModuleType) -> None:
    for problem in first(task, 10):
        one, other = (attempt(task, problem, task.solve, seed=4) for _ in range(2))
        assert one.messages == other.messages
        assert one.reward == other.reward


def test_any_answer_ends_in_a_reward_from_0_to_1(task: ModuleType) -> None:
    chance = random.Random(0)
    for problem in first(task, 10):
        for text in ODD:
            episode = attempt(task, problem, lambda _, text=text: text)
            assert 0 <= episode.reward <= 1
        noise = "".join(chance.choice('0123456789+-*/()<>{}": x\n') for _ in range(40))
        assert 0 <= attempt(task, problem, lambda _, noise=noise: noise).reward <= 1


def test_lessons_show_turns_that_count_and_none_of_them_is_for_testing(task: ModuleType) -> None:
    if not hasattr(task, "lessons"):
        pytest.skip("its solver's attempts show enough")
    shown = list(islice(task.lessons(0), 200))
    assert [e.messages for e in shown] == [e.messages for e in islice(task.lessons(0), 200)]
    assert [e.messages for e in shown] != [e.messages for e in islice(task.lessons(1), 200)]
    assert all(split_of(episode.problem.key) == "train" for episode in shown)
    for episode in shown:
        assert not episode.done
        episode.take(task.solve(episode))
    worth = [episode.reward for episode in shown if episode.done]
    assert not worth or sum(worth) / len(worth) > 0.5  # a game may be lost by any move, but most are not


def test_another_problems_answer_is_not_right(task: ModuleType) -> None:
    if not hasattr(task, "reward"):
        pytest.skip("a game has no answer")
    problems = draw(task, 60, seed=0, split="train")
    own = [last_answer(task, problem) for problem in problems]
    assert all(task.reward(p, answer) == 1 for p, answer in zip(problems, own, strict=True))
    shifted = [task.reward(p, answer) for p, answer in zip(problems, own[1:], strict=False)]
    assert sum(reward == 1 for reward in shifted) <= 6  # two sums may have the same result


def test_thoughts_do_not_count_and_must_end(task: ModuleType) -> None:
    if not hasattr(task, "reward"):
        pytest.skip("a game has no answer")
    for problem in first(task, 20):
        answer = last_answer(task, problem)
        assert task.reward(problem, f"<think>1 + 1 = 3</think>{answer}") == 1
        if "<tool_call>" not in answer and "</think>" not in answer:
            assert task.reward(problem, f"<think>{answer}") == 0


def last_answer(task: ModuleType, problem: Problem) -> str:
    """Return what the solver says last."""
    said: list[str] = []

    def answer(episode: Episode) -> str:
        said.append(task.solve(episode))
        return said[-1]

    attempt(task, problem, answer)
    return said[-1]
