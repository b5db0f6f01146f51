"""Many answers at once: one pass over the weights brings each of many texts a token further.

Answers are drawn side by side, one in each of the engine's sequences; a sequence whose answer has ended takes
the next prompt. What all prompts begin with is read once, and a prompt that is asked several times is read
once for all of its answers. With each token comes the logarithm of its probability, which is what
reinforcement learning needs. A seed gives the same answer however many are drawn beside it (run.c gives the
same bits for a token in any batch).

Not covered: top-k, top-p and penalties, under which the probability drawn from is not the model's.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.run.sampling import Sampler

if TYPE_CHECKING:
    from twofold.run.engine import Engine

Floats = NDArray[np.float32]
_WORTH_SHARING = 16  # tokens in common, from which on a sequence is kept for them


@dataclass(frozen=True)
class Answer:
    """The tokens of an answer and the logarithms of their probabilities.

    `ended`: the last token is one that ends an answer; otherwise there was no room for more.
    """

    ids: list[int]
    log_p: list[float]
    ended: bool


def answers(
    engine: "Engine",
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    seeds: Sequence[int],
    temperature: float = 1.0,
    stop_ids: Collection[int] = (),
) -> list[Answer]:
    """Return an answer to each prompt; 0 as temperature takes the likeliest token always.

    `seeds`: a whole number per prompt. Ends after max_tokens, with the context full, or with one of
    `stop_ids` (by default the tokenizer's own). Raises UsageError for an empty or too long prompt.
    """
    if len(seeds) != len(prompts) or temperature < 0:
        raise UsageError("Give a seed for each prompt, and a temperature of 0 or more.")
    for prompt in prompts:
        if not 0 < len(prompt) < engine.context:
            raise UsageError(f"A prompt needs 1 to {engine.context - 1} tokens, not {len(prompt)}.")
    stop = frozenset(stop_ids) or engine.tokenizer.stop_ids
    return _Writer(engine, prompts, max_tokens, seeds, temperature, stop).write()


class _Writer:
    """Draws the answers; `open` says which prompt each sequence in use is answering."""

    def __init__(
        self,
        engine: "Engine",
        prompts: Sequence[Sequence[int]],
        most: int,
        seeds: Sequence[int],
        temperature: float,
        stop: frozenset[int],
    ) -> None:
        self.engine, self.prompts, self.most, self.stop = engine, prompts, most, stop
        self.sampler = Sampler(temperature=temperature)
        self.states = [seed & (1 << 64) - 1 for seed in seeds]
        self.found = [Answer([], [], False) for _ in prompts]
        # Equal prompts come one after the other.
        self.waiting = sorted(range(len(prompts)), key=lambda index: list(prompts[index]), reverse=True)
        self.free = list(range(engine.sequences))
        self.open: dict[int, int] = {}
        self.common = 0  # tokens that every prompt begins with, and the sequence that holds them
        self.holder = 0

    def write(self) -> list[Answer]:
        """Return all answers."""
        self._share()
        while self.waiting or self.open:
            if self.engine.backend == "c" and self.open and not (self.free and self.waiting):
                self._run_of_passes()
            else:
                self._pass()
        return self.found

    def _share(self) -> None:
        """Read what all prompts begin with, if that is worth a sequence."""
        if len(self.prompts) < 2 or self.engine.sequences < 2:
            return
        first, last = self.prompts[self.waiting[-1]], self.prompts[self.waiting[0]]
        common = next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        common = min(common, len(first) - 1)  # the last token is read by each, for its logits
        if common >= _WORTH_SHARING:
            self.common, self.holder = common, self.free.pop()
            places = np.arange(common)
            where = np.full(common, self.holder)
            self.engine.forward(first[:common], where, places, np.zeros(common, bool))

    def _pass(self) -> None:
        """Bring every answer a token further, after giving free sequences something to do."""
        tokens: list[int] = []
        sequences: list[int] = []
        positions: list[int] = []
        wanted: list[bool] = []
        rows: list[tuple[int, int]] = []  # sequence, and which row of the logits is its own
        copies: list[tuple[int, int, int]] = []
        for sequence, index in self.open.items():
            rows.append((sequence, len(rows)))
            answer = self.found[index].ids
            tokens.append(answer[-1])
            sequences.append(sequence)
            positions.append(len(self.prompts[index]) + len(answer) - 1)
            wanted.append(True)
        row, leader, read = len(rows), -1, -1
        while self.free and self.waiting:
            index, sequence = self.waiting.pop(), self.free.pop()
            self.open[sequence] = index
            prompt = self.prompts[index]
            if read >= 0 and list(self.prompts[read]) == list(prompt):
                copies.append((leader, sequence, len(prompt)))
                rows.append((sequence, row - 1))
                continue
            if self.common:
                self.engine.copy(self.holder, sequence, self.common)
            tokens += prompt[self.common :]
            length = len(prompt) - self.common
            sequences += [sequence] * length
            positions += range(self.common, len(prompt))
            wanted += [False] * (length - 1) + [True]
            rows.append((sequence, row))
            row, leader, read = row + 1, sequence, index
        logits = self.engine.forward(tokens, sequences, positions, wanted)
        for source, target, length in copies:
            self.engine.copy(source, target, length)
        self._choose(logits, rows)

    def _run_of_passes(self) -> None:
        """Bring every answer further until one ends, without coming back to Python between the passes."""
        rows = [
            (sequence, self.found[index].ids, len(self.prompts[index]))
            for sequence, index in self.open.items()
        ]
        room = min(min(self.most, self.engine.context - before) - len(ids) for _, ids, before in rows)
        made, p, states = self.engine.write(
            [ids[-1] for _, ids, _ in rows], [sequence for sequence, _, _ in rows],
            [before + len(ids) - 1 for _, ids, before in rows], [self.sampler] * len(rows),
            [self.states[index] for index in self.open.values()], stop=self.stop, most=room,
        )  # fmt: skip
        for n, (sequence, index) in enumerate([*self.open.items()]):
            self.states[index] = states[n]
            for ids, ps in zip(made, p, strict=True):
                self._add(sequence, ids[n], ps[n])

    def _choose(self, logits: Floats, rows: list[tuple[int, int]]) -> None:
        for sequence, row in rows:
            index = self.open[sequence]
            token, p_V, self.states[index] = self.engine.runner.choose(
                logits[row], self.sampler, (), self.states[index]
            )
            self._add(sequence, token, float(p_V[token]))

    def _add(self, sequence: int, token: int, p: float) -> None:
        """Note the next token of an answer, and free its sequence if it was the last."""
        index = self.open[sequence]
        answer = self.found[index]
        answer.ids.append(token)
        answer.log_p.append(math.log(p))
        full = len(self.prompts[index]) + len(answer.ids) >= self.engine.context
        if token in self.stop:
            self.found[index] = Answer(answer.ids, answer.log_p, True)
        elif len(answer.ids) < self.most and not full:
            return
        del self.open[sequence]
        self.free.append(sequence)
