"""Answers drawn side by side, as many as the budget allows, each with thoughts before it if wanted.

The first answer takes the likeliest token always; once its length is known, others are drawn beside it, but
none is begun that would not fit into what is left. Thoughts are a part of an answer between `<think>` and
`</think>`. When they have had their share of the budget, the closing token is put there for the model, and
its answer follows (budget forcing: Muennighoff et al. 2025, arXiv 2501.19393, section 3.1).

Which tokens an answer takes depends on the seed and its number alone. Not covered: prolonging thoughts that
the model ends early.
"""

import dataclasses
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from twofold.base.errors import UsageError
from twofold.run import Sampler
from twofold.think.branches import Branch, Branches
from twofold.think.choosing import Candidate
from twofold.tokens import Tokenizer
from twofold.tokens.speech import CLOSE, OPEN


class Thoughts:
    """How a tokenizer writes thoughts. `known`: whether it has tokens for them; ids that it lacks are -1."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Look the tokens up."""
        self.open_id, self.close_id = _special(tokenizer, OPEN), _special(tokenizer, CLOSE)
        self.known = self.open_id >= 0 and self.close_id >= 0
        line = tokenizer.encode("\n")
        self.opening = [self.open_id, *line]
        self.closing = [*line, self.close_id, *tokenizer.encode("\n\n")]

    def end(self, ids: list[int]) -> int:
        """Return how many of an answer's tokens are thoughts, the closing token included."""
        if self.close_id in ids:
            return len(ids) - ids[::-1].index(self.close_id)
        return len(ids) if ids[:1] == [self.open_id] else 0

    def split(self, ids: list[int], tokenizer: Tokenizer) -> tuple[str, str]:
        """Return the texts of an answer's thoughts and of what follows them."""
        end = self.end(ids)
        thought = tokenizer.decode([i for i in ids[:end] if i not in (self.open_id, self.close_id)])
        said = tokenizer.decode(ids[end:])
        return thought.strip(), said.strip() if end else said


@dataclass
class Draft:
    """An answer on its way: its branch, what its draws depend on, and what is put there for it."""

    branch: Branch
    sampler: Sampler
    state: int
    began: float  # what was spent then
    forced: list[int] = field(default_factory=list)
    thinking: bool = False
    closed: bool = False


class Writer:
    """Writes answers to one prompt. `thinks`: each begins with thoughts."""

    def __init__(
        self,
        branches: Branches,
        sampler: Sampler,
        *,
        max_tokens: int,
        stop_ids: Collection[int],
        thinks: bool = False,
    ) -> None:
        """Begin with nothing written. `max_tokens`: of an answer, its thoughts not counted."""
        self.branches, self.sampler, self.stop = branches, sampler, frozenset(stop_ids)
        self.max_tokens, self.thinks = max_tokens, thinks
        self.tokenizer = branches.engine.tokenizer
        self.thoughts = Thoughts(self.tokenizer)
        self.drafts: list[Draft] = []
        self._begun = 0
        self._lengths: list[int] = []  # what the answers that ended have cost, in tokens

    def write(self) -> Iterator[list[Candidate]]:
        """Yield, after each pass through the model, the answers that ended in it."""
        meter = self.branches.meter
        while True:
            while self._another():
                self.drafts.append(self._draft())
            if not self.drafts:
                return
            yield self._pass()
            if meter.over:
                return

    def cut(self) -> Candidate:
        """Return the first answer as far as it is; for when none has ended."""
        return self._candidate(self.drafts[0], ended=False) if self.drafts else Candidate([], "", "", 0.0)

    def _another(self) -> bool:
        """Whether to begin another answer now: at temperature 0 there is only one."""
        if not self._begun:
            return True
        if not self._lengths or not self.sampler.temperature or len(self.drafts) >= self.branches.width:
            return False
        length = sum(self._lengths) / len(self._lengths)
        promised = sum(max(1.0, length - len(draft.branch.ids)) for draft in self.drafts)
        return self.branches.meter.fits(length, promised)

    def _draft(self) -> Draft:
        number, self._begun = self._begun, self._begun + 1
        sampler = dataclasses.replace(self.sampler, temperature=0.0) if number == 0 else self.sampler
        digest = hashlib.blake2b(f"{self.sampler.seed},{number}".encode(), digest_size=8).digest()
        draft = Draft(
            self.branches.start(), sampler, int.from_bytes(digest, "little"), self.branches.meter.spent
        )
        if self.thinks:
            draft.forced, draft.thinking = list(self.thoughts.opening), True
        return draft

    def _pass(self) -> list[Candidate]:
        """Bring every answer a token further; return those that ended."""
        ended: list[Candidate] = []
        going: list[Draft] = []
        chosen = [self._next(draft) for draft in self.drafts]
        log_p = _log_p([draft.branch for draft in self.drafts], [token for token, _ in chosen])
        for draft, (token, drawn), value in zip(self.drafts, chosen, log_p, strict=True):
            branch = draft.branch
            branch.log_p += value if drawn else 0.0
            if token in self.stop:
                ended.append(self._candidate(draft, ended=True))
                self._lengths.append(len(branch.ids) + 1)
                self.branches.drop(branch)
                continue
            branch.ids.append(token)
            self._watch_thoughts(draft, token)
            if self._full(draft):
                ended.append(self._candidate(draft, ended=False))
                self._lengths.append(len(branch.ids))
                self.branches.drop(branch)
            else:
                going.append(draft)
        self.drafts = going
        self.branches.meter.tokens += len(ended)  # their last tokens are written, but need not be read
        if going:
            self.branches.read([draft.branch for draft in going])
        return ended

    def _next(self, draft: Draft) -> tuple[int, bool]:
        """Return the next token and whether it is drawn: it may be one that is put there."""
        if draft.forced:
            return draft.forced.pop(0), False
        branch = draft.branch
        assert branch.logits is not None
        recent = (self.branches.prompt[-64:] + branch.ids)[-64:]
        token, _, draft.state = self.branches.engine.runner.choose(
            branch.logits, draft.sampler, recent, draft.state
        )
        if draft.thinking and token in self.stop:  # a turn that ends in its thoughts would say nothing
            draft.forced = self.thoughts.closing[1:]
            return self.thoughts.closing[0], False
        return token, True

    def _watch_thoughts(self, draft: Draft, token: int) -> None:
        """See where thoughts begin and end; end them when they have had their share."""
        if token == self.thoughts.open_id:
            draft.thinking = True
        elif token == self.thoughts.close_id:
            draft.thinking = False
        elif draft.thinking and not draft.forced:
            own = len(draft.branch.ids) + len(self.thoughts.closing)
            little_room = self.branches.room - own <= min(self.max_tokens, self.branches.room // 4)
            if little_room or self.branches.meter.thought_is_over(draft.began, own):
                draft.forced, draft.closed = list(self.thoughts.closing), True

    def _full(self, draft: Draft) -> bool:
        ids = draft.branch.ids
        if len(ids) >= self.branches.room:
            return True
        if draft.thinking or draft.forced:
            return False
        return len(ids) - self.thoughts.end(ids) >= self.max_tokens

    def _candidate(self, draft: Draft, *, ended: bool) -> Candidate:
        thought, text = self.thoughts.split(draft.branch.ids, self.tokenizer)
        return Candidate(draft.branch.ids, thought, text, draft.branch.log_p, ended, draft.closed)


def _special(tokenizer: Tokenizer, name: str) -> int:
    try:
        return tokenizer.special_id(name)
    except UsageError:
        return -1


def _log_p(branches: list[Branch], tokens: list[int]) -> list[float]:
    """Return the logarithm of the probability of each branch's next token, at temperature 1."""
    logits_NV = np.stack([branch.logits for branch in branches if branch.logits is not None])
    top_N = logits_NV.max(1)
    sums_N = np.exp(logits_NV - top_N[:, None]).sum(1, dtype=np.float64)
    picked_N = logits_NV[np.arange(len(tokens)), tokens]
    found: list[float] = (picked_N - top_N - np.log(sums_N)).tolist()
    return found
