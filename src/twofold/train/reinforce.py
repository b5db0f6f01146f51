"""The student: a network with its optimiser, which learns from answers and what they were worth.

The answers of a round are shuffled, packed into rows and learned from in one step or a few. The losses are
those of policy.py.

Not covered: where the answers come from (rounds.py).
"""

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from twofold.base.errors import TwofoldError
from twofold.train.optimiser import Optimiser, OptimizerConfig
from twofold.train.policy import (
    Method,
    Packed,
    Sample,
    Seen,
    Surrogate,
    log_probabilities,
    pack,
    row_length,
)
from twofold.train.transformer import Transformer

MICRO_TOKENS = 4608  # that go through the network at a time
MICRO_LOGITS = 1 << 26  # that may exist at a time, where the vocabulary is large
SEPARATOR = 0  # fills rows behind the last turn; nothing sees it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Learning:
    """How to learn from a round: `updates` steps; the rest as in policy.py."""

    method: Method
    updates: int
    temperature: float
    clip_low: float
    clip_high: float
    kl: float


class Student:
    """Learns; `begin` gives it an optimiser."""

    optimiser: Optimiser

    def __init__(self, net: Transformer, learning: Learning) -> None:
        self.net, self.learning = net, learning
        self._reference: Transformer | None = None

    def begin(self, rates: OptimizerConfig) -> None:
        """Take a new optimiser with these rates."""
        self.optimiser = Optimiser(self.net.named(), rates, compute=self.net.compute)

    def stay_near(self, weights: Mapping[str, Tensor]) -> None:
        """Keep a copy of `weights`, from whose answers the student's shall not go far."""
        self._reference = copy.deepcopy(self.net)
        with torch.no_grad():
            for name, parameter in self._reference.named().items():
                parameter.copy_(weights[name])

    def reference(self) -> dict[str, Tensor]:
        """Return the weights to stay near to; none without such."""
        held = self._reference.named() if self._reference else {}
        return {name: parameter.detach() for name, parameter in held.items()}

    def learn(self, samples: Sequence[Sample], scale: float, *, seed: int) -> dict[str, float]:
        """Take a round's steps with all rates times `scale`; return its figures."""
        if not samples:
            return {"gradient_norm": 0.0}
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed))
        samples = [samples[index] for index in order.tolist()]
        size = -(-len(samples) // self.learning.updates)
        parts = [samples[start : start + size] for start in range(0, len(samples), size)]
        if self.learning.method == "expert":
            done = [self.supervised(part, scale) for part in parts]
            return {"answer_loss_nats": done[0][0], "gradient_norm": done[-1][1]}
        return self._reinforced([list(self._packed(part)) for part in parts], scale)

    def _reinforced(self, parts: Sequence[Sequence[Packed]], scale: float) -> dict[str, float]:
        how = self.learning
        surrogate = Surrogate(
            clip_low=how.clip_low, clip_high=how.clip_high, kl=how.kl, temperature=how.temperature,
            reference=self._reference,
        )  # fmt: skip
        for part in parts[1:]:  # those of the first step are computed in it, with the same weights
            for micro in part:
                with torch.no_grad():
                    micro.old_A = surrogate.before(self.net, micro)
        seen, norm = Seen(), math.nan
        for part in parts:
            tokens = sum(len(micro.advantage_A) for micro in part)
            for micro in part:
                surrogate.loss(self.net, micro, tokens, seen).backward()  # type: ignore[no-untyped-call]
            norm = self._update(scale)
        return {**seen.figures(), "gradient_norm": norm}

    def supervised(self, samples: Sequence[Sample], scale: float) -> tuple[float, float]:
        """Make answers likelier; return their loss in nats per token, and the gradient's norm."""
        tokens = sum(len(sample.answer) for sample in samples)
        total = 0.0
        for micro in self._packed(samples):
            loss = -log_probabilities(self.net, micro.batch, exact=False).sum() / tokens
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        return total, self._update(scale)

    def _packed(self, samples: Sequence[Sample]) -> Sequence[Packed]:
        tokens = min(MICRO_TOKENS, MICRO_LOGITS // self.net.config.vocab_size)
        most = self.net.config.context
        rows = max(1, tokens // row_length(samples, most))
        even = self.net.compiled and len(samples) > rows  # each shape is compiled anew
        return list(pack(samples, rows=rows, most=most, separator=SEPARATOR, even=even))

    def _update(self, scale: float) -> float:
        norm = self.optimiser.step(scale)
        if not math.isfinite(norm):
            raise TwofoldError(
                "The gradient is no number; begin anew with a smaller optimizer.muon_lr and "
                "optimizer.embedding_lr."
            )
        return norm
