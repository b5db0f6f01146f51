"""Solved examples of a task, for a model that cannot do it at all: its own solver, or teacher, writes them.

`examples.jsonl` in the run folder holds a line for each of the solver's turns, as conversations that end with
that turn; `twofold train --chat` reads them too. They come from problems for training only. Which of them a
step learns from is a function of the seed and the step.

Not covered: examples by people or other models; those are conversations to finetune on.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from twofold.base.files import atomic_write
from twofold.environments import Episode, Problem
from twofold.measure.attempts import Prompts
from twofold.train.policy import Sample

Record = dict[str, Any]


def solved(task: ModuleType, count: int, seed: int) -> Iterator[Record]:
    """Yield `count` conversations that end with a turn of the task's solver.

    It shows a turn of each of the task's lessons, where the task has such, else all turns of its attempts at
    problems for training.
    """
    turns = _lessons(task, seed) if hasattr(task, "lessons") else _turns(task, seed)
    for episode, answer in itertools.islice(turns, count):
        messages = [*episode.messages, {"role": "assistant", "content": answer}]
        tools = episode.problem.tools
        yield {"messages": messages, **({"tools": tools} if tools else {})}


def _lessons(task: ModuleType, seed: int) -> Iterator[tuple[Episode, str]]:
    """Yield the first turn of each lesson before it is taken."""
    for episode in task.lessons(seed):
        yield episode, task.solve(episode)


def _turns(task: ModuleType, seed: int) -> Iterator[tuple[Episode, str]]:
    """Yield each turn of attempts at problems before it is taken."""
    for number, problem in enumerate(task.problems(seed, "train")):
        episode: Episode = task.begin(problem, number)
        while not episode.done:
            answer = task.solve(episode)
            yield episode, answer
            episode.take(answer)


def write(
    path: Path, task: ModuleType, count: int, seed: int, watch: Callable[[int, int], None] | None = None
) -> None:
    """Write `count` examples to `path`, unless they are there."""
    if path.exists():
        return
    with atomic_write(path) as file:
        for number, record in enumerate(solved(task, count, seed), 1):
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
            if watch is not None and number % 1000 == 0:
                watch(number, count)


class Examples:
    """The examples of a file as token ids."""

    def __init__(self, path: Path, prompts: Prompts, most: int) -> None:
        """Leave out those longer than `most` tokens; `left_out` says how many.

        The ids are kept beside the file, in `examples.npz`, for when the run is resumed.
        """
        kept = path.with_suffix(".npz")
        if not kept.exists():
            with atomic_write(kept) as file:
                np.savez(file, **_tokenised(path, prompts, most))
        with np.load(kept) as arrays:
            self._ids, self._ends, self.left_out = arrays["ids"], arrays["ends"], int(arrays["left_out"])
        self._order: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def batch(self, step: int, size: int, seed: int) -> list[Sample]:
        """Return the examples of a step; each epoch goes through all of them in a new order."""
        return [self._sample(*divmod(step * size + n, len(self)), seed) for n in range(size)]

    def _sample(self, epoch: int, place: int, seed: int) -> Sample:
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([seed, epoch]).permutation(len(self)))
        index = int(self._order[1][place])
        middle, end = self._ends[index].tolist()
        start = int(self._ends[index - 1][1]) if index else 0
        ids = self._ids[start:end].tolist()
        return Sample(ids[: middle - start], ids[middle - start :])


def _tokenised(path: Path, prompts: Prompts, most: int) -> dict[str, Any]:
    """Return the ids of all examples, where prompt and answer of each end, and how many were too long."""
    ids: list[int] = []
    ends: list[tuple[int, int]] = []
    left_out = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            *before, answer = record["messages"]
            episode = Episode(Problem("", "", {}, record.get("tools", [])))
            episode.messages = before
            prompt, said = prompts.ids(episode), prompts.answer_ids(answer["content"])
            if len(prompt) + len(said) > most:
                left_out += 1
                continue
            ids += [*prompt, *said]
            ends.append((len(ids) - len(said), len(ids)))
    return {
        "ids": np.array(ids, np.int32), "ends": np.array(ends, np.int64).reshape(-1, 2),
        "left_out": np.array(left_out),
    }  # fmt: skip
