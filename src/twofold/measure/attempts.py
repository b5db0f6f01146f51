"""Many attempts at a task's problems through the engine, side by side, and what they are worth.

All attempts that are not done ask for their next turn at once, and the engine writes those answers in one go.
A share of problems solved comes with Wilson's interval (Wilson 1927; Brown, Cai & DasGupta 2001), a mean
reward with a bootstrap interval over problems (Efron 1979). Both are for 95 %.

Not covered: judging by other models.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import numpy as np

from twofold.environments import Episode, Problem
from twofold.run import Answer, Engine, answers
from twofold.tokens import Tokenizer
from twofold.tokens.specials import STOPS, TURN_END

Z = 1.959964  # of a normal distribution, for 95 %
RESAMPLES = 1000


@dataclass(frozen=True)
class Turn:
    """One answer of an attempt: what was read, what was written, and its probabilities."""

    prompt: list[int]
    answer: Answer


@dataclass
class Attempt:
    """An episode and its turns; `reward` is final once all are taken."""

    problem: Problem
    episode: Episode
    turns: list[Turn] = field(default_factory=list)

    @property
    def reward(self) -> float:
        """What it was worth; nothing while it is not done."""
        return self.episode.reward


class Prompts:
    """From what an episode shows to token ids, as the tokenizer's chat template has it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._pieces = tokenizer.turns()
        ends = [name for name in (TURN_END, *STOPS) if name in tokenizer.vocabulary.tokens]
        suffix = self._pieces.get("assistant.suffix", "")
        said = next((name for name in ends if suffix.startswith(name)), None)
        eos = tokenizer.vocabulary.eos_id
        self.end = tokenizer.special_id(said) if said else eos  # what a model says when it has answered

    def ids(self, episode: Episode) -> list[int]:
        """Return the ids of what the model reads before its next answer."""
        messages, pieces = episode.messages, self._pieces
        if pieces and len(messages) == 1 and not episode.problem.tools:  # without Jinja, which takes longer
            text = f"{pieces['start']}{pieces['user.prefix']}"
            text += f"{messages[0]['content']}{pieces['user.suffix']}{pieces['assistant.prefix']}"
            return self.tokenizer.encode(text, specials=True)
        return self.tokenizer.chat(messages, tools=episode.problem.tools or None)

    def answer_ids(self, text: str) -> list[int]:
        """Return the ids of an answer as a model would write it, its end included."""
        ids = self.tokenizer.encode(text, specials=True)
        return ids if self.end is None else [*ids, self.end]

    def text(self, answer: Answer) -> str:
        """Return what an answer says, without its end."""
        return self.tokenizer.decode(answer.ids[:-1] if answer.ended else answer.ids)


def play(
    task: ModuleType,
    problems: Sequence[Problem],
    engine: Engine,
    *,
    seed: int,
    temperature: float = 1.0,
    max_tokens: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> list[Attempt]:
    """Return a finished attempt at each of `problems`; the same problem twice is two attempts.

    An episode whose next prompt does not fit into the engine's context ends without a reward. `watch` is told
    how many attempts are done, of how many, after each turn.
    """
    prompts = Prompts(engine.tokenizer)
    attempts = [Attempt(p, task.begin(p, _number(seed, n))) for n, p in enumerate(problems)]
    turn = 0
    while left := [(n, one) for n, one in enumerate(attempts) if not one.episode.done]:
        asked = [(n, one, prompts.ids(one.episode)) for n, one in left]
        for _, one, ids in asked:
            if len(ids) >= engine.context:
                one.episode.finish(0.0)
        asked = [(n, one, ids) for n, one, ids in asked if not one.episode.done]
        found = answers(
            engine, [ids for *_, ids in asked], temperature=temperature,
            max_tokens=max_tokens or task.ANSWER_TOKENS, seeds=[_number(seed, n, turn) for n, *_ in asked],
        ) if asked else []  # fmt: skip
        for (_, one, ids), answer in zip(asked, found, strict=True):
            one.turns.append(Turn(ids, answer))
            one.episode.take(prompts.text(answer))
        turn += 1
        if watch is not None:
            watch(len(attempts) - len(left) + sum(one.episode.done for _, one in left), len(attempts))
    return attempts


def _number(*parts: int) -> int:
    """Return 63 bits that depend on all parts."""
    digest = hashlib.blake2b(",".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Scores:
    """Mean reward and share of problems solved (reward 1), each with low and high ends for 95 %."""

    attempts: int
    reward: float
    reward_low: float
    reward_high: float
    solved: float
    solved_low: float
    solved_high: float

    def spell(self) -> str:
        """Return the figure that matters: solved, or the mean reward where that is another."""
        value, low, high = self.solved, self.solved_low, self.solved_high
        if abs(self.reward - self.solved) > 1e-9:
            value, low, high = self.reward, self.reward_low, self.reward_high
        return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def scores(rewards: Sequence[float]) -> Scores:
    """Return the scores of attempts at different problems."""
    low, high = bootstrap(rewards)
    right = sum(reward >= 1 for reward in rewards)
    share = right / max(1, len(rewards))
    return Scores(len(rewards), float(np.mean(rewards)), low, high, share, *wilson(right, len(rewards)))


def wilson(right: int, of: int) -> tuple[float, float]:
    """Return both ends of Wilson's 95 % interval for a share."""
    if of == 0:
        return 0.0, 1.0
    share, z2 = right / of, Z * Z / of
    middle = (share + z2 / 2) / (1 + z2)
    half = Z * math.sqrt(share * (1 - share) / of + z2 / of / 4) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: Sequence[float]) -> tuple[float, float]:
    """Return both ends of a 95 % bootstrap interval for a mean; always the same for the same values."""
    array = np.asarray(values, np.float64)
    if not array.size:
        return 0.0, 1.0
    chance = np.random.default_rng(0)
    means = array[chance.integers(0, array.size, (RESAMPLES, array.size))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
