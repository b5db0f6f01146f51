"""How good the model is: bits per byte on text it has not seen, and what it writes.

Bits per byte divides by the bytes of the text instead of by tokens, so that models with different tokenizers
compare. The cost of predicting where a document ends counts too. Every row of the held-out text is read from
scratch, so the first tokens of a row have little to go on: a model looks slightly better in use.

Not covered: tasks, and text longer than the model's context.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from twofold.tokens import Tokenizer
from twofold.train.data import IGNORED, Batch, Conversations, Data, Ids, Windows
from twofold.train.sharding import Learner
from twofold.train.transformer import Transformer

EVALUATION_TOKENS = 4096  # per forward pass
SCORE_KEYS = ("val_loss_nats", "bits_per_byte", "val_tokens", "val_bytes")


@dataclasses.dataclass(frozen=True)
class Score:
    """A held-out text's cost: `loss_nats` per target, `bits_per_byte`, and what they were computed on."""

    loss_nats: float
    bits_per_byte: float
    tokens: int
    bytes: int

    @property
    def rank(self) -> float:
        """What runs and checkpoints are compared by: less is better."""
        return self.loss_nats

    def record(self) -> dict[str, Any]:
        """Return the score as the log holds it."""
        return dict(zip(SCORE_KEYS, dataclasses.astuple(self), strict=True))

    def spell(self) -> str:
        """Return the score as a person reads it."""
        return f"{self.bits_per_byte:.4f} bits per byte on {self.bytes:,} held-out bytes"

    def short(self) -> str:
        """Return the same for the living line."""
        return f"{self.bits_per_byte:.3f} bits per byte"

    @staticmethod
    def read(record: Mapping[str, Any]) -> "Score | None":
        """Return the score in a record of the log, None when it holds none."""
        values = [record.get(key) for key in SCORE_KEYS]
        return None if None in values else Score(*values)  # type: ignore[arg-type]


class Scored(Protocol):
    """A score on what was held out, whatever is scored: `Score` here, `PairScore` of preferences."""

    @property
    def rank(self) -> float:
        """What runs and checkpoints are compared by: less is better."""
        ...

    def record(self) -> dict[str, Any]:
        """Return the score as the log holds it."""
        ...

    def spell(self) -> str:
        """Return the score as a person reads it."""
        ...

    def short(self) -> str:
        """Return the same for the living line."""
        ...


class Scorer(Protocol):
    """What a run is judged by on the way."""

    def score(self, net: Transformer, learner: Learner | None = None) -> Scored:
        """Return the score of a network as it is now."""
        ...


class HeldOut:
    """The held-out part of a corpus in rows, or its first `max_tokens` tokens."""

    def __init__(
        self,
        tokens: Ids,
        mask: npt.NDArray[np.uint8] | None,
        tokenizer: Tokenizer,
        *,
        context: int,
        max_tokens: int | None = None,
    ) -> None:
        separator = tokenizer.separator_id
        tokens = tokens[: max_tokens or len(tokens)]
        context = min(context, len(tokens) - 1)
        rows = max(1, EVALUATION_TOKENS // context)
        self.data: Data
        if mask is None:
            windows = Windows(tokens, context=context, rows=rows, separator=separator, seed=0, shuffle=False)
            self.data, total = windows, windows.count
        else:
            chats = Conversations(
                tokens,
                mask[: len(tokens)],
                context=context,
                rows=rows,
                separator=separator,
                seed=0,
                shuffle=False,
            )
            self.data, total = chats, round(chats.epoch_steps * rows)
        self.batches, self._last_rows = math.ceil(total / rows), total - (math.ceil(total / rows) - 1) * rows
        self._sizes = token_sizes(tokenizer)

    def batch(self, index: int) -> Batch:
        """Return the rows of one forward pass; the last one is shorter."""
        batch: Batch = self.data.batch(index)
        if index < self.batches - 1:
            return batch
        return Batch(*(array[: self._last_rows] for array in (batch.ids, batch.targets, batch.documents)))

    @torch.no_grad()
    def score(self, net: Transformer, learner: Learner | None = None) -> Score:
        """Return the model's score on all rows; `learner` when it lies on several processes."""
        learner = learner or Learner(net)
        team, device = learner.team, net.token_embd.device
        nats, tokens, size = 0.0, 0, 0
        for first in range(0, self.batches, team.size):
            index = first + team.rank
            batch = self.batch(min(index, self.batches - 1))  # all take part in every pass
            ids, targets, documents = (
                torch.from_numpy(array).to(device) for array in (batch.ids, batch.targets, batch.documents)
            )
            loss = float(learner.loss(ids, targets, documents))
            if index >= self.batches:
                continue
            nats += loss
            counted = batch.targets[batch.targets != IGNORED]
            tokens += counted.size
            size += int(self._sizes[counted].sum())
        learner.rest()
        nats, all_tokens, all_bytes = team.total(nats, tokens, size)
        tokens, size = int(all_tokens), int(all_bytes)
        return Score(nats / max(1, tokens), nats / math.log(2) / max(1, size), tokens, size)


class HeldOutMixture(HeldOut):
    """Held-out parts of several kinds; a score is the mean of theirs, by the weights the kinds have."""

    def __init__(self, parts: Sequence[HeldOut], weights: Sequence[float]) -> None:
        self.parts = list(parts)
        self.shares = [weight / sum(weights) for weight in weights]

    def score(self, net: Transformer, learner: Learner | None = None) -> Score:
        scores = [part.score(net, learner) for part in self.parts]
        both = list(zip(self.shares, scores, strict=True))
        nats = sum(share * score.loss_nats for share, score in both)
        bits = sum(share * score.bits_per_byte for share, score in both)
        return Score(nats, bits, sum(s.tokens for s in scores), sum(s.bytes for s in scores))


def token_sizes(tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
    """Return how many bytes of text each token stands for [V]; special tokens stand for none."""
    types = tokenizer.vocabulary.types
    return np.array(
        [0 if types[i] == 3 else len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)], np.int64
    )


@torch.no_grad()
def sample(
    net: Transformer,
    ids: list[int],
    *,
    count: int,
    seed: int,
    stop: frozenset[int],
    temperature: float = 0.8,
    learner: Learner | None = None,
) -> list[int]:
    """Return up to `count` tokens that the model adds to `ids`, drawn with `seed`; ends before a stop token.

    Slow and simple: every token reads the whole text again. The engine in twofold.run is the fast way.
    """
    learner = learner or Learner(net)
    generator = torch.Generator().manual_seed(seed)
    text = list(ids)
    for _ in range(count):
        window = torch.tensor([text[-net.config.context :]], device=net.token_embd.device)
        logits_V = learner.logits(window)[0, -1].cpu() / temperature
        token = int(torch.multinomial(logits_V.softmax(-1), 1, generator=generator))
        token = learner.team.agree(token)
        if token in stop:
            break
        text.append(token)
    learner.rest()
    return text[len(ids) :]
