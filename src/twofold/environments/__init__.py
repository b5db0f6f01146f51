"""Problems that check themselves: each task sets problems and judges any answer by a program.

A task is one file of this folder. It defines

    problems(seed, split)    an endless stream of Problem, the same for the same seed; split "train" or "test"
    begin(problem, seed)     an Episode: one attempt, turn by turn; `seed` is the chance in it (an opponent's)
    solve(episode)           what the task's own solver, or teacher, would answer now
    reward(problem, answer)  where one answer decides: what it is worth, from 0 to 1
    ANSWER_TOKENS            how long one answer may be

and, where an answer can be checked by someone who does not know it,

    read(text)               the Problem that a text sets, None if it sets none
    position(problem)        in games for two: the position it begins with, for search (think/games.py)

or, where a solver's own attempts show little of what it does,

    lessons(seed)            an endless stream of Episodes, of which it shows the first turn, none for testing

`draw` takes problems that differ, `attempt` plays an episode with anybody who answers. Reinforcement learning
(train/improve.py) learns from the rewards; at inference the same function is a verifier.

Whether a problem is for training or for testing is a property of the problem (a hash of its key), not of the
draw: no seed ever puts a test problem into training. Nothing here needs more than Python itself. Not covered:
rewards that a model gives.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from twofold.base.registry import Registry

TASKS = Registry("twofold.environments", "task", requires=("problems", "begin", "solve", "ANSWER_TOKENS"))
Split = Literal["train", "test"]
Message = dict[str, Any]
TEST_SHARE = 5  # one problem in so many is for testing
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Problem:
    """`text` is what the model is asked; `key` says which problems are the same one.

    `facts`: what the task judges by. `tools`: functions on offer, as JSON schemas.
    """

    text: str
    key: str
    facts: dict[str, Any]
    tools: list[dict[str, Any]] = field(default_factory=list)


class Episode:
    """One attempt at a problem. The model reads `messages` and answers, until it is `done`.

    `reward` is worth something once it is. This one takes a single answer.
    """

    def __init__(self, problem: Problem, judge: Callable[[Problem, str], float] | None = None) -> None:
        self.problem, self._judge = problem, judge
        self.messages: list[Message] = [{"role": "user", "content": problem.text}]
        self.done = False
        self.reward = 0.0

    def take(self, answer: str) -> None:
        """Go on by one answer of the model."""
        assert self._judge is not None
        self.messages.append({"role": "assistant", "content": answer})
        self.finish(self._judge(self.problem, answer))

    def finish(self, reward: float) -> None:
        """End with this reward."""
        self.reward, self.done = reward, True


def split_of(key: str) -> Split:
    """Return which half of the world a problem belongs to."""
    number = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
    return "train" if number % TEST_SHARE else "test"


def only(split: Split, problems: Iterator[Problem]) -> Iterator[Problem]:
    """Return the problems of a stream that belong to `split`."""
    return (problem for problem in problems if split_of(problem.key) == split)


def draw(task: ModuleType, count: int, *, seed: int, split: Split) -> list[Problem]:
    """Return `count` problems that differ; fewer when the task does not have so many."""
    found: dict[str, Problem] = {}
    repeats = 0
    for problem in task.problems(seed, split):
        if len(found) == count or repeats > 100 * count + 1000:
            break
        repeats += problem.key in found
        found.setdefault(problem.key, problem)
    return list(found.values())


def attempt(
    task: ModuleType, problem: Problem, answer: Callable[[Episode], str], *, seed: int = 0
) -> Episode:
    """Return a finished episode in which `answer` took every turn."""
    episode: Episode = task.begin(problem, seed)
    while not episode.done:
        episode.take(answer(episode))
    return episode


def recognise(text: str) -> tuple[str, ModuleType, Problem] | None:
    """Return name, task and problem if a text is a problem of a task that reads them, None otherwise."""
    for name in TASKS.names():
        task = TASKS.get(name)
        if hasattr(task, "read") and (problem := task.read(text.strip())) is not None:
            return name, task, problem
    return None


def said(answer: str) -> str:
    """Return what an answer says after its thoughts; nothing when they do not end."""
    _, opened, rest = answer.rpartition("</think>")
    return "" if not opened and "<think>" in answer else rest.strip()


def last_number(text: str) -> float | None:
    """Return the last number in a text, None when there is none."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
