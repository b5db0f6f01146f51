"""Who decides how a budget is spent, and carries it out.

    a game's position                    tree search over moves                  (games.py)
    a verifier, and a model that thinks  answers with thoughts until one is right (writing.py)
    a verifier                           tree search until an answer is right    (search.py)
    a scorer                             best of n answers                       (writing.py)
    temperature 0                        one answer, with thoughts if it thinks
    otherwise                            a vote of many answers, with thoughts if it thinks

Whether a model thinks is seen from the model: how likely its answer would begin with `<think>`. Any method
can be asked for by name instead. It ends when the budget is over, a verifier is satisfied or a vote is
decided, and can say at any time what it would answer now.

Not covered: several methods for one question, budgets that follow from how hard a question looks.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from twofold.base.errors import UsageError
from twofold.run import Sampler
from twofold.think.branches import Branches
from twofold.think.budget import Budget, Meter
from twofold.think.choosing import Candidate, Scorer, Verifier, best, vote
from twofold.think.games import SIDE_BY_SIDE, GameSearch, ModelLiking, Position
from twofold.think.search import Search
from twofold.think.writing import Thoughts, Writer

if TYPE_CHECKING:
    from twofold.run import Engine

Method = Literal["auto", "greedy", "vote", "best", "search", "moves"]
THINKS = 0.1  # the probability of <think> from which on a model is one that thinks


@dataclass(frozen=True)
class Question:
    """What is asked, as ids, and what can tell good answers: at most one of the three.

    `position`: the answer is a move; `prompt` turns the texts of other positions into ids. `checker`: the
    verifier's name, for people.
    """

    ids: Sequence[int]
    verifier: Verifier | None = None
    scorer: Scorer | None = None
    position: Position | None = None
    prompt: Callable[[str], list[int]] | None = None
    checker: str = "the verifier"


@dataclass(frozen=True)
class Found:
    """An answer: its text, its thoughts, its ids without the end, and in one line how it was found.

    The first `thought_tokens` of the ids are thoughts. `right`: a verifier says so. `cut`: the budget was
    over before any answer had ended.
    """

    text: str
    thought: str
    ids: list[int]
    thought_tokens: int
    how: str
    method: str
    right: bool
    cut: bool
    candidates: int
    tokens: int
    seconds: float


class Thinker:
    """One question, one budget. `run` spends it; `found` says what the answer is by now."""

    def __init__(
        self,
        engine: "Engine",
        question: Question,
        budget: Budget,
        *,
        sampler: Sampler,
        max_tokens: int,
        stop_ids: Collection[int] = (),
        method: Method = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the question and choose a method. Raises UsageError when that is not possible."""
        self.question, self.meter = question, Meter(budget, clock)
        self.candidates: list[Candidate] = []
        self._satisfied = False
        self._engine = engine
        if question.position is not None and method in ("auto", "moves"):
            assert question.prompt is not None
            self.method: str = "moves"
            liking = ModelLiking(engine, question.prompt, self.meter)
            width = min(SIDE_BY_SIDE, engine.sequences - 1)
            self._game = GameSearch(question.position, liking, self.meter, seed=sampler.seed, width=width)
            return
        branches = Branches(engine, question.ids, self.meter)
        self.thinks = _thinks(branches)
        self.method = _method(method, question, sampler, thinks=self.thinks)
        stop = frozenset(stop_ids) or engine.tokenizer.stop_ids
        if self.method == "search":
            self._source: Search | Writer = Search(branches, max_tokens=max_tokens, stop_ids=stop)
        else:
            if self.method == "greedy":
                sampler = dataclasses.replace(sampler, temperature=0.0)
            self._source = Writer(branches, sampler, max_tokens=max_tokens, stop_ids=stop, thinks=self.thinks)

    def run(self) -> Iterator[None]:
        """Spend the budget; yields after each pass through the model."""
        if self.method == "moves":
            while not self.meter.over and not self._game.done:
                self._game.step()
                yield
            return
        for ended in self._source.write():
            self._take(ended)
            yield
            if self._satisfied or (self.method == "vote" and ended and vote(self.candidates).decided):
                return

    def _take(self, ended: list[Candidate]) -> None:
        """Judge new candidates."""
        verifier, scorer = self.question.verifier, self.question.scorer
        if verifier is not None:
            ended = [dataclasses.replace(one, score=verifier(one.text)) for one in ended]
            self._satisfied = any((one.score or 0.0) >= 1 for one in ended)
        elif scorer is not None and ended:
            scores = scorer([one.text for one in ended])
            ended = [dataclasses.replace(one, score=s) for one, s in zip(ended, scores, strict=True)]
        self.candidates += ended

    def found(self) -> Found:
        """Return the answer as of now."""
        if self.method == "moves":
            return self._move()
        if not self.candidates:
            one = self._source.cut()
            return self._found(one, "the budget was over before an answer had ended: cut", cut=True)
        count = f"{len(self.candidates):,} answers" if len(self.candidates) > 1 else "one answer"
        if self.question.verifier is not None and self.method != "greedy":
            one = best(self.candidates)
            how = f"none of {count} passed {self.question.checker}: the likeliest"
            if (one.score or 0.0) >= 1:
                how = f"{count} until one passed {self.question.checker}"
            elif one.score:
                how = f"none of {count} passed {self.question.checker}: the best"
            return self._found(one, f"{self._manner()}, {how}")
        if self.question.scorer is not None and self.method != "greedy":
            one = best(self.candidates)
            return self._found(one, f"best of {count} by its score of {one.score:.3g}")
        result = vote(self.candidates)
        one = result.winner
        if self.method == "best":
            one = max(self.candidates, key=lambda candidate: candidate.likelihood)
            return self._found(one, f"the likeliest of {count}")
        if len(self.candidates) == 1:
            return self._found(one, count)
        if result.first == 1:
            return self._found(one, f"vote: no two of {count} agree: the likeliest")
        return self._found(one, f"vote: {result.first} of {count} agree")

    def _manner(self) -> str:
        return {"search": "tree search", "vote": "vote"}.get(self.method, "best of n")

    def _move(self) -> Found:
        move, visits = self._game.best()
        tried = self._game.simulations
        how = (
            "the model's own move"
            if not tried
            else f"tree search: tried in {visits:,} of {tried:,} simulations"
        )
        if self._game.done:
            how = "the only move" if len(self._game.root.moves) == 1 else "tree search: it wins at once"
        ids = self._engine.tokenizer.encode(move)
        return self._found(Candidate(ids, "", move, 0.0), how)

    def _found(self, one: Candidate, how: str, *, cut: bool = False) -> Found:
        if one.thought:
            how += ", its thoughts closed by the budget" if one.closed else ", after thoughts"
        return Found(
            text=one.text,
            thought=one.thought,
            ids=one.ids,
            thought_tokens=Thoughts(self._engine.tokenizer).end(one.ids),
            how=f"{how}; {self.meter.spell()}",
            method=self.method,
            right=self.question.verifier is not None and (one.score or 0.0) >= 1,
            cut=cut,
            candidates=len(self.candidates),
            tokens=self.meter.tokens,
            seconds=self.meter.seconds,
        )


def think(engine: "Engine", question: Question, budget: Budget, **how: object) -> Found:
    """Return the answer to a question within a budget; `how` as for Thinker."""
    thinker = Thinker(engine, question, budget, **how)  # type: ignore[arg-type]
    for _ in thinker.run():
        pass
    return thinker.found()


def _thinks(branches: Branches) -> bool:
    """Return whether an answer of this model would begin with thoughts."""
    thoughts = Thoughts(branches.engine.tokenizer)
    if not thoughts.known:
        return False
    logits_V = branches.root_logits.astype(np.float64)
    p_V = np.exp(logits_V - logits_V.max())
    return bool(p_V[thoughts.open_id] >= THINKS * p_V.sum())


def _method(asked: Method, question: Question, sampler: Sampler, *, thinks: bool) -> str:
    """Return the method for a question that is not a game."""
    if asked == "moves":
        raise UsageError("Moves can be searched in games only.")
    if asked != "auto":
        return asked
    if question.verifier is not None:
        return "best" if thinks else "search"
    if not sampler.temperature:
        return "greedy"
    return "best" if question.scorer is not None else "vote"
