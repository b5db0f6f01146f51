"""Continuations of one prompt, side by side in an engine's sequences; a branch forks without copying.

The prompt is read once, into sequence 0. A branch begins with it, or with all of another branch: run.c lets
the two share the pages of the cache until one of them writes (engine.copy). A branch holds its tokens and,
once they are read, the logits of what may come next. There may be more branches than sequences: the one
that was not used for longest gives up its place, and reads what it lacks again if it goes on, from the
nearest ancestor that still has one.

Not covered: several prompts at once (run/batch.py).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twofold.base.errors import UsageError
from twofold.think.budget import Meter

if TYPE_CHECKING:
    from twofold.run import Engine

Floats = NDArray[np.float32]


class Branch:
    """Tokens after the prompt. `log_p` is the logarithm of their probability, `logits` what may follow."""

    __slots__ = ("held", "ids", "log_p", "logits", "parent", "slot")

    def __init__(self, ids: list[int], log_p: float = 0.0, parent: "Branch | None" = None) -> None:
        """Continue the prompt with `ids`. They begin with those of `parent`, which may not grow any more."""
        self.ids, self.log_p, self.parent = ids, log_p, parent
        self.logits: Floats | None = None
        self.slot: int | None = None  # its sequence in the engine,
        self.held = 0  # which holds so many of its tokens


class Branches:
    """All branches of a prompt. `width` of them can be read side by side, beside those they fork from."""

    def __init__(self, engine: "Engine", prompt: Sequence[int], meter: Meter) -> None:
        """Read the prompt. Raises UsageError when it leaves no room or the engine has one sequence only."""
        if engine.sequences < 2:
            raise UsageError("Thinking takes an engine with two sequences or more.")
        if not 0 < len(prompt) < engine.context:
            raise UsageError(
                f"The prompt has {len(prompt):,} tokens and the context {engine.context:,}: shorten it."
            )
        self.engine, self.prompt, self.meter = engine, list(prompt), meter
        self.room = engine.context - len(prompt)
        self.width = max(1, (engine.sequences - 1) // 2)
        known = engine.share(self.prompt[:-1], 0)
        rest = self.prompt[known:]
        places = np.arange(known, len(self.prompt))
        logits = engine.forward(rest, np.zeros(len(rest)), places, places == len(self.prompt) - 1)
        self.root_logits: Floats = logits[0]
        self._free = list(range(1, engine.sequences))
        self._owners: dict[int, Branch] = {}  # in the order of their last use
        meter.starts()

    def start(self) -> Branch:
        """Return a new branch without any tokens."""
        branch = Branch([])
        branch.logits = self.root_logits
        return branch

    def read(self, branches: Sequence[Branch]) -> None:
        """Give each branch the logits after its last token, in one pass; each has tokens not read yet."""
        tokens: list[int] = []
        sequences: list[int] = []
        positions: list[int] = []
        wanted: list[bool] = []
        for branch in branches:
            self._place(branch)
            assert branch.slot is not None and branch.held < len(branch.ids)
            new = branch.ids[branch.held :]
            start = len(self.prompt) + branch.held
            tokens += new
            sequences += [branch.slot] * len(new)
            positions += range(start, start + len(new))
            wanted += [False] * (len(new) - 1) + [True]
        logits_NV = self.engine.forward(tokens, sequences, positions, wanted)
        for branch, logits_V in zip(branches, logits_NV, strict=True):
            branch.held, branch.logits = len(branch.ids), logits_V
        self.meter.passed(len(tokens))

    def drop(self, branch: Branch) -> None:
        """Give up a branch that nothing will fork from; its sequence is free for another."""
        if branch.slot is not None:
            del self._owners[branch.slot]
            self._free.append(branch.slot)
            branch.slot, branch.held = None, 0
        branch.logits = None

    def _place(self, branch: Branch) -> None:
        """Give a branch a sequence that holds as much of it as any does."""
        if branch.slot is not None:
            self._used(branch)
            return
        source = branch.parent
        while source is not None and source.slot is None:
            source = source.parent
        if source is not None:
            self._used(source)  # it must not lose its place to its own child
        if self._free:
            slot = self._free.pop()
        else:
            slot, oldest = next(iter(self._owners.items()))
            del self._owners[slot]
            oldest.slot, oldest.held = None, 0
        branch.held = source.held if source is not None else 0
        where = source.slot if source is not None and source.slot is not None else 0
        self.engine.copy(where, slot, len(self.prompt) + branch.held)
        branch.slot, self._owners[slot] = slot, branch

    def _used(self, branch: Branch) -> None:
        assert branch.slot is not None
        self._owners[branch.slot] = self._owners.pop(branch.slot)
