"""Tree search over the tokens of an answer: the likeliest answers, each once, in about that order.

Drawing answers finds the likely ones again and again and reads what they begin with each time. Here a
prefix is read once, and its continuations fork from it (branches.py). The open ends wait in a queue; those
that go on next are the likeliest ones for their length: the logarithm of their probability plus a bonus per
token, which is what the model's likeliest answer pays for a token on average, as in A* search (Hart,
Nilsson & Raphael 1968) with that as the estimate of the way that is left. Every answer that ends is a
candidate at once, for a verifier to look at.

It pays where answers are short and something tells right from wrong. Without a verifier it would find the
likeliest answer, which for free text is a short and empty one (Stahlberg & Byrne 2019, arXiv 1908.10090).
"""

import heapq
from collections.abc import Collection, Iterator

import numpy as np

from twofold.think.branches import Branch, Branches
from twofold.think.choosing import Candidate

_LEAST = np.log(1e-4)  # a continuation less likely than this is left out


class Search:
    """Looks for answers to one prompt; `write` and `cut` are as in writing.Writer."""

    def __init__(self, branches: Branches, *, max_tokens: int, stop_ids: Collection[int]) -> None:
        """Begin with the prompt alone."""
        self.branches, self.stop = branches, frozenset(stop_ids)
        self.most = min(max_tokens, branches.room)
        self._tokenizer = branches.engine.tokenizer
        self._queue: list[tuple[float, int, float, Branch, int]] = []
        self._count = 0
        self._bonus = 0.0  # a token
        self._first = branches.start()  # the likeliest way

    def write(self) -> Iterator[list[Candidate]]:
        """Yield, after each pass through the model, the answers that ended in it."""
        yield from self._greedy()
        while self._queue and not self.branches.meter.over:
            batch = [self._child() for _ in range(min(self.branches.width, len(self._queue)))]
            self.branches.read(batch)
            ended = []
            for branch in batch:
                answers, children = self._open(branch)
                ended += answers
                for log_p, token in children:
                    self._push(branch, log_p, token)
            yield ended

    def cut(self) -> Candidate:
        """Return the likeliest answer as far as it is; for when none has ended."""
        return self._candidate(self._first, self._first.log_p, ended=False)

    def _greedy(self) -> Iterator[list[Candidate]]:
        """Follow the likeliest token to the end; what lies beside the way is queued once that is known."""
        beside: list[tuple[Branch, float, int]] = []
        while True:
            branch = self._first
            assert branch.logits is not None
            stops = int(branch.logits.argmax()) in self.stop
            ended, children = self._open(branch)
            if not stops and children and not self.branches.meter.over:
                children.sort()
                log_p, token = children.pop()
                self._first = Branch([*branch.ids, token], log_p, branch)
                self.branches.read([self._first])
            beside += [(branch, log_p, token) for log_p, token in children]
            yield ended
            if self._first is branch:
                break
        self._bonus = -self._first.log_p / max(1, len(self._first.ids))
        for branch, log_p, token in beside:
            self._push(branch, log_p, token)

    def _push(self, parent: Branch, log_p: float, token: int) -> None:
        self._count += 1
        cost = -(log_p + self._bonus * (len(parent.ids) + 1))
        heapq.heappush(self._queue, (cost, self._count, log_p, parent, token))

    def _child(self) -> Branch:
        _, _, log_p, parent, token = heapq.heappop(self._queue)
        return Branch([*parent.ids, token], log_p, parent)

    def _open(self, branch: Branch) -> tuple[list[Candidate], list[tuple[float, int]]]:
        """Return the answer that a branch is, if it may end here, and its children: (log_p, token)."""
        assert branch.logits is not None
        logits_V = branch.logits.astype(np.float64)
        branch.logits = None
        log_p_V = logits_V - logits_V.max()
        log_p_V -= np.log(np.exp(log_p_V).sum())
        ended: list[Candidate] = []
        children: list[tuple[float, int]] = []
        for token in np.flatnonzero(log_p_V > _LEAST).tolist():
            log_p = branch.log_p + float(log_p_V[token])
            if token in self.stop:
                ended.append(self._candidate(branch, log_p, ended=True))
            elif len(branch.ids) < self.most:
                children.append((log_p, token))
        return ended, children

    def _candidate(self, branch: Branch, log_p: float, *, ended: bool) -> Candidate:
        return Candidate(branch.ids, "", self._tokenizer.decode(branch.ids), log_p, ended)
