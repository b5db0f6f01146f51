"""Attempts through the engine: prompts, seeds, and the intervals of what comes out."""

import pytest
from tiny_models import random_model

from twofold.environments import TASKS, Episode, Problem, draw
from twofold.measure.attempts import Prompts, bootstrap, play, scores, wilson
from twofold.run import Answer, open_model

MODEL = random_model("qwen3")


@pytest.mark.parametrize("name", TASKS.names())
def test_a_prompt_is_what_the_chat_template_says(name):
    prompts, task = Prompts(MODEL.tokenizer), TASKS.get(name)
    for problem in draw(task, 5, seed=0, split="train"):
        episode = task.begin(problem)
        expected = MODEL.tokenizer.chat(episode.messages, tools=problem.tools or None)
        assert prompts.ids(episode) == expected


def test_an_answer_ends_as_the_template_ends_it():
    prompts = Prompts(MODEL.tokenizer)
    tokenizer = MODEL.tokenizer
    ids = prompts.answer_ids("12 <tool_call>")
    asked = [{"role": "user", "content": "What?"}]
    said = {"role": "assistant", "content": "12 <tool_call>"}
    whole = tokenizer.chat([*asked, said], add_generation_prompt=False)
    assert whole[len(tokenizer.chat(asked)) :][: len(ids)] == ids
    assert ids[-1] in tokenizer.stop_ids
    assert tokenizer.special_id("<tool_call>") in ids
    assert prompts.text(Answer(ids, [], True)) == "12 <tool_call>"
    assert prompts.text(Answer(ids[:-1], [], False)) == "12 <tool_call>"


class Counting:
    """A task: the answer does not matter, the third turn ends it."""

    ANSWER_TOKENS = 3

    class Three(Episode):
        def __init__(self, problem: Problem, seed: int) -> None:
            super().__init__(problem)
            self.seed = seed

        def take(self, answer: str) -> None:
            self.messages = [*self.messages, {"role": "assistant", "content": answer or "-"},
                             {"role": "user", "content": "And?"}]  # fmt: skip
            if len(self.messages) == 7:
                self.finish(0.25)

    @staticmethod
    def begin(problem: Problem, seed: int) -> Episode:
        return Counting.Three(problem, seed)


def problems(count):
    return [Problem(f"Say {n}.", str(n), {}) for n in range(count)]


def test_attempts_take_turns_until_they_are_done():
    engine = open_model(MODEL, threads=1, context=96, sequences=4)
    heard = []
    done = play(Counting, problems(6), engine, seed=1, watch=lambda *numbers: heard.append(numbers))
    assert [len(one.turns) for one in done] == [3] * 6
    assert {one.reward for one in done} == {0.25}
    assert heard == [(0, 6), (0, 6), (6, 6)]
    assert len({one.episode.seed for one in done}) == 6
    for one in done:
        for turn, later in zip(one.turns, one.turns[1:], strict=False):
            assert len(later.prompt) > len(turn.prompt)
    again = play(Counting, problems(6), engine, seed=1)
    assert [one.turns for one in again] == [one.turns for one in done]
    other = play(Counting, problems(6), engine, seed=2)
    assert [one.turns for one in other] != [one.turns for one in done]


def test_the_same_problem_twice_is_two_attempts():
    engine = open_model(MODEL, threads=1, context=96, sequences=8)
    one, other = play(Counting, problems(1) * 2, engine, seed=1)
    assert one.turns[0].prompt == other.turns[0].prompt
    assert one.turns[0].answer != other.turns[0].answer


def test_a_prompt_that_does_not_fit_ends_without_a_reward():
    engine = open_model(MODEL, threads=1, context=24, sequences=2)
    done = play(Counting, [*problems(1), Problem("word " * 40, "long", {})], engine, seed=0)
    assert [one.reward for one in done] == [0, 0]
    assert len(done[0].turns) in (1, 2)
    assert done[1].turns == []


def test_intervals_are_the_textbooks():
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)  # Brown, Cai & DasGupta's formula by hand
    assert wilson(0, 20)[0] == 0
    assert 0 < wilson(0, 20)[1] < 0.17
    values = [0.0, 0.5, 1.0, 1.0] * 100
    low, high = bootstrap(values)
    assert bootstrap(values) == (low, high)
    error = 1.96 * (0.171875 / 400) ** 0.5
    assert low == pytest.approx(0.625 - error, abs=0.01)
    assert high == pytest.approx(0.625 + error, abs=0.01)


def test_scores_say_the_figure_that_matters():
    assert scores([1.0, 0.0, 1.0, 1.0]).spell().startswith("75.0 %")
    assert scores([1.0, 0.5, 0.0, 0.5]).spell().startswith("50.0 %")
    assert scores([1.0, 0.5, 0.0, 0.5]).solved == 0.25
