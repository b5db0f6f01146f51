"""Which tokens a step learns from: a function of (seed, step) alone.

Nothing is remembered between steps, so a run that resumes at step k sees exactly what it would have seen.
`Windows` cuts a stream of documents into rows of equal length and goes through them in a new random order
each epoch; a row may hold parts of several documents, told apart by `documents`. `Conversations` puts whole
conversations into rows, as many as fit, and pads the rest; only the tokens its mask marks are targets.
`Mixture` does so with conversations of several kinds, each of which gets its share of what is read.

Letters: B rows, T positions.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from twofold.base.errors import BadFileError

Ids = npt.NDArray[np.unsignedinteger[Any]]
Array = npt.NDArray[np.int64]
IGNORED = -1


@dataclasses.dataclass(frozen=True)
class Batch:
    """`ids` [B, T]; `targets` [B, T], the token after each, −1 where it does not count; `documents` [B, T],
    numbers that differ between the documents of a row."""

    ids: Array
    targets: Array
    documents: Array

    @property
    def size(self) -> int:
        """The number of tokens that are read."""
        return self.ids.size

    @property
    def counted(self) -> int:
        """The number of targets that count."""
        return int((self.targets != IGNORED).sum())


class Data(Protocol):
    """What the training loop needs to know of its data."""

    def batch(self, step: int) -> Any:
        """Return what a step (0-based) learns from: a Batch, or one of pairs."""
        ...

    @property
    def epoch_steps(self) -> float:
        """How many steps see everything once."""
        ...


class Windows:
    """Rows of `context` + 1 tokens from a stream of documents, each of which starts with `separator`."""

    def __init__(
        self, tokens: Ids, *, context: int, rows: int, separator: int, seed: int, shuffle: bool = True
    ) -> None:
        """Raises BadFileError when the stream is too short for one row."""
        if len(tokens) < context + 1:
            raise BadFileError(
                f"The training text is only {len(tokens):,} tokens long, and one row needs {context + 1:,}: "
                "give more text, or set a smaller model.context."
            )
        self.tokens, self.context, self.rows, self.separator = tokens, context, rows, separator
        self.seed, self.shuffle = seed, shuffle
        self.count = (len(tokens) - 1) // context
        self._order: tuple[int, Array] | None = None

    @property
    def epoch_steps(self) -> float:
        return self.count / self.rows

    def batch(self, step: int) -> Batch:
        first = step * self.rows
        starts = [self._start(*divmod(first + row, self.count)) for row in range(self.rows)]
        rows = np.stack([self.tokens[start : start + self.context + 1] for start in starts]).astype(np.int64)
        ids = rows[:, :-1]
        return Batch(ids, rows[:, 1:], np.cumsum(ids == self.separator, axis=1))

    def _start(self, epoch: int, index: int) -> int:
        """Return where the window begins that comes at `index` in `epoch`.

        Each epoch shifts the cuts, so that no token is always the first of its row.
        """
        slack = len(self.tokens) - 1 - self.count * self.context
        shift = (epoch * 7919) % (slack + 1)
        return int(self._permutation(epoch)[index]) * self.context + shift

    def _permutation(self, epoch: int) -> Array:
        if self._order is None or self._order[0] != epoch:
            order = np.arange(self.count)
            if self.shuffle:
                np.random.default_rng([self.seed, epoch]).shuffle(order)
            self._order = (epoch, order)
        return self._order[1]


class Conversations:
    """Rows of whole conversations with a mask of targets; a new order and packing each epoch."""

    def __init__(
        self,
        tokens: Ids,
        mask: npt.NDArray[np.uint8],
        *,
        context: int,
        rows: int,
        separator: int,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        """Conversations longer than a row are cut at its end. Raises BadFileError if nothing is a target."""
        self.tokens, self.mask, self.context, self.rows = tokens, mask, context, rows
        self.separator, self.seed, self.shuffle = separator, seed, shuffle
        starts = np.flatnonzero(np.asarray(tokens) == separator)
        ends = np.append(starts[1:], len(tokens))
        # Only documents that teach something are worth a place. The separator stays out: no conversation has
        # one before it when the model is asked.
        sums = np.add.reduceat(np.asarray(mask, np.int64), starts) if len(starts) else np.zeros(0, np.int64)
        self.spans = [(int(s) + 1, int(e)) for s, e, n in zip(starts, ends, sums, strict=True) if n > 0]
        if not self.spans:
            raise BadFileError("The conversations hold no answer of the assistant to learn from.")
        self._epochs: list[list[list[int]]] = []

    @property
    def epoch_steps(self) -> float:
        return len(self._packed(0)) / self.rows

    def batch(self, step: int) -> Batch:
        wanted = range(step * self.rows, (step + 1) * self.rows)
        return self._fill([self._row(index) for index in wanted])

    def _row(self, index: int) -> list[int]:
        epoch = 0
        while index >= len(self._packed(epoch)):
            index -= len(self._packed(epoch))
            epoch += 1
        return self._packed(epoch)[index]

    def order(self, epoch: int) -> Array:
        """Return which conversations an epoch reads, in order."""
        order = np.arange(len(self.spans))
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        return order

    def _packed(self, epoch: int) -> list[list[int]]:
        """Return the rows of an epoch, each a list of conversations that fit into it together."""
        while len(self._epochs) <= epoch:
            rows: list[list[int]] = [[]]
            room = self.context
            for index in self.order(len(self._epochs)).tolist():
                size = min(self.spans[index][1] - self.spans[index][0], self.context)
                if size > room and rows[-1]:
                    rows.append([])
                    room = self.context
                rows[-1].append(index)
                room -= size
            self._epochs.append(rows)
        return self._epochs[epoch]

    def _fill(self, rows: list[list[int]]) -> Batch:
        shape = (len(rows), self.context)
        ids = np.full(shape, self.separator, np.int64)
        targets = np.full(shape, IGNORED, np.int64)
        documents = np.zeros(shape, np.int64)
        for row, indices in enumerate(rows):
            at = 0
            for number, index in enumerate(indices, 1):
                start, end = self.spans[index]
                end = min(end, start + self.context)
                size = end - start
                ids[row, at : at + size] = self.tokens[start:end]
                wanted = self.mask[start + 1 : end] != 0
                following = np.where(wanted, self.tokens[start + 1 : end].astype(np.int64), IGNORED)
                targets[row, at : at + size - 1] = following
                documents[row, at : at + size] = number
                at += size
        return Batch(ids, targets, documents)


class Mixture(Conversations):
    """Conversations of several kinds; of the tokens of an epoch, each kind has the share its weight says.

    An epoch is as long as all conversations together. A kind that has fewer tokens than its share is read
    several times, one that has more goes on in the next epoch where it stopped.
    """

    def __init__(
        self, parts: Sequence[tuple[Ids, npt.NDArray[np.uint8]]], weights: Sequence[float], **how: Any
    ) -> None:
        """`parts`: tokens and mask of each kind. `how`: as for Conversations. Raises BadFileError."""
        tokens = np.concatenate([tokens for tokens, _ in parts])
        super().__init__(tokens, np.concatenate([mask for _, mask in parts]), **how)
        ends = np.cumsum([len(tokens) for tokens, _ in parts])
        kinds = np.searchsorted(ends, [start for start, _ in self.spans], side="right")
        self._members = [np.flatnonzero(kinds == kind) for kind in range(len(parts))]
        if not all(len(some) for some in self._members):
            raise BadFileError("One of the files holds no answer of the assistant to learn from.")
        sizes = np.array([min(end - start, self.context) for start, end in self.spans], float)
        shares = np.asarray(weights, float) / sum(weights)
        # How many conversations of each kind an epoch reads, so that their tokens have the shares.
        self.counts = [
            max(1, round(share * sizes.sum() / sizes[some].mean()))
            for share, some in zip(shares.tolist(), self._members, strict=True)
        ]

    def order(self, epoch: int) -> Array:
        chosen = []
        for kind, (some, count) in enumerate(zip(self._members, self.counts, strict=True)):
            places = np.arange(epoch * count, (epoch + 1) * count)
            rounds = {
                int(round_): self._round(kind, int(round_)) for round_ in np.unique(places // len(some))
            }
            chosen += [rounds[int(place // len(some))][place % len(some)] for place in places]
        order = np.array(chosen, np.int64)
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        return order

    def _round(self, kind: int, number: int) -> Array:
        """Return the conversations of a kind in the order of its `number`-th time through."""
        members = self._members[kind].copy()
        if self.shuffle:
            np.random.default_rng([self.seed, kind, number, 1]).shuffle(members)
        return members
