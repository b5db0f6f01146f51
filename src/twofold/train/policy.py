"""Learning from answers: turns packed into rows, how likely the network finds them, and the loss.

Three losses over the tokens of answers, prompts being read but not learned:

- imitation: the answer is right, make it likelier;
- `expert`: the same, for answers of the model's own that earned the full reward (expert iteration, Anthony et
  al. 2017, arXiv:1705.08439; as STaR, Zelikman et al. 2022, arXiv:2203.14465);
- `grpo`: each token's probability goes up or down with its attempt's advantage, which is the reward less the
  mean of its group (all attempts at one problem), in standard deviations of the group (Shao et al. 2024,
  arXiv:2402.03300). The ratio to the probability before the round is clipped (Schulman et al. 2017,
  arXiv:1707.06347), and all tokens of a step weigh the same (Yu et al. 2025, arXiv:2503.14476, section 3.3).

The engine that wrote the answers rounds otherwise than torch. So the probabilities before the round are
computed again here, and what the engine drew more often than the network would have counts for less: each
token's weight is the ratio of the two, at most `TRUNCATION` (Yao et al. 2025, "Your efficient RL framework
secretly brings you off-policy RL training").

Letters: B rows, T positions, A answer tokens, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from twofold.train.data import IGNORED, Batch
from twofold.train.transformer import Transformer

Method = Literal["grpo", "expert"]
TRUNCATION = 2.0
ROW = 128  # tokens in a row that several turns share; longer turns make longer rows
ALIKE = 0.9  # turns this full of their longest one get a row each


@dataclasses.dataclass(frozen=True)
class Sample:
    """A turn to learn from: ids of prompt and answer, the engine's log-probabilities, and its advantage."""

    prompt: Sequence[int]
    answer: Sequence[int]
    log_p: Sequence[float] = ()
    advantage: float = 1.0

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclasses.dataclass
class Packed:
    """Rows of turns that do not see each other; of each answer token [A], row by row, what is known of it.

    `old_A`: its log-probability before the round by torch, if that was computed.
    """

    batch: Batch
    log_p_A: Tensor  # noqa: N815 - by the engine
    advantage_A: Tensor  # noqa: N815
    old_A: Tensor | None = None  # noqa: N815


def row_length(samples: Sequence[Sample], most: int) -> int:
    """Return how long the rows of these turns shall be.

    Turns of about one length get a row each: nothing is wasted, and attention looks no further than it must.
    """
    longest = max(map(len, samples), default=0)
    if sum(map(len, samples)) >= ALIKE * longest * len(samples):
        return min(most, longest)
    return min(most, max(ROW, -(-longest // 64) * 64))


def pack(
    samples: Sequence[Sample], *, rows: int, most: int, separator: int, even: bool = False
) -> Iterator[Packed]:
    """Yield the samples in the order given, `rows` rows at a time; a row is at most `most` tokens long.

    `even`: the last ones, too, are filled up to `rows` with empty rows, so that all have one shape.
    """
    length = row_length(samples, most)
    table: list[list[Sample]] = []
    room = 0
    for sample in samples:
        if len(sample) > room:
            table.append([])
            room = length
        table[-1].append(sample)
        room -= len(sample)
    if even:
        table += [[] for _ in range(-len(table) % rows)]
    for start in range(0, len(table), rows):
        yield _fill(table[start : start + rows], length, separator)


def _fill(table: Sequence[Sequence[Sample]], length: int, separator: int) -> Packed:
    ids = np.full((len(table), length), separator, np.int64)
    targets = np.full((len(table), length), IGNORED, np.int64)
    documents = np.zeros((len(table), length), np.int64)
    log_p: list[float] = []
    advantages: list[float] = []
    for row, samples in enumerate(table):
        at = 0
        for number, sample in enumerate(samples, 1):
            text, begin = [*sample.prompt, *sample.answer], at + len(sample.prompt)
            ids[row, at : at + len(text)] = text
            documents[row, at : at + len(text)] = number
            targets[row, begin - 1 : begin - 1 + len(sample.answer)] = sample.answer
            log_p += sample.log_p or [0.0] * len(sample.answer)
            advantages += [sample.advantage] * len(sample.answer)
            at += len(text)
    return Packed(Batch(ids, targets, documents), torch.tensor(log_p), torch.tensor(advantages))


def advantages(rewards: Sequence[float]) -> list[float]:
    """Return how far each reward of a group lies above the group's mean, in standard deviations."""
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((reward - mean) ** 2 for reward in rewards) / len(rewards))
    return [(reward - mean) / deviation if deviation > 1e-6 else 0.0 for reward in rewards]


def log_probabilities(
    net: Transformer, batch: Batch, temperature: float = 1.0, *, exact: bool = True
) -> Tensor:
    """Return the logarithms of the targets' probabilities [A], float32, row by row.

    Without `exact` the head's product runs in the network's own dtype, as all others do: enough for learning
    by heart, not for ratios to what the engine found.
    """
    device = net.token_embd.device
    ids, targets, documents = (
        torch.from_numpy(array).to(device) for array in (batch.ids, batch.targets, batch.documents)
    )
    counted = targets != IGNORED
    x_AD = net(ids, documents)[counted]
    logits_AV = F.linear(x_AD.float(), net.head) if exact else F.linear(x_AD, net.head.to(x_AD.dtype)).float()
    logits_AV = logits_AV / temperature
    log_p_AV = logits_AV.log_softmax(-1)
    return log_p_AV.gather(1, targets[counted][:, None])[:, 0]


@dataclasses.dataclass
class Seen:
    """Sums over the answer tokens of a round, from which its figures come."""

    tokens: int = 0
    nats: float = 0.0
    mismatch: float = 0.0
    mismatch_most: float = 0.0
    truncated: int = 0
    clipped: int = 0
    to_reference: float = 0.0

    def figures(self) -> dict[str, float]:
        """Return the figures per token, units in the keys."""
        n = max(1, self.tokens)
        return {
            "answer_loss_nats": self.nats / n, "mismatch_nats": self.mismatch / n,
            "mismatch_most_nats": self.mismatch_most, "truncated_share": self.truncated / n,
            "clipped_share": self.clipped / n, "kl_to_reference_nats": self.to_reference / n,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Surrogate:
    """GRPO's loss: `clip_low` and `clip_high` bound the ratio, `kl` weighs the distance to a reference."""

    clip_low: float
    clip_high: float
    kl: float
    temperature: float
    reference: Transformer | None = None

    def before(self, net: Transformer, packed: Packed) -> Tensor:
        """Return the log-probabilities [A] by the weights as they are, to be kept as `old_A`."""
        return log_probabilities(net, packed.batch, self.temperature)

    def loss(self, net: Transformer, packed: Packed, tokens: int, seen: Seen) -> Tensor:
        """Return a micro-batch's share of the loss of a step of `tokens` answer tokens; sums go to `seen`."""
        log_p_A = log_probabilities(net, packed.batch, self.temperature)
        device = log_p_A.device
        old_A = log_p_A.detach() if packed.old_A is None else packed.old_A
        engine_A, advantage_A = packed.log_p_A.to(device), packed.advantage_A.to(device)
        off_A = old_A - engine_A
        weight_A = off_A.exp().clamp(max=TRUNCATION)
        ratio_A = (log_p_A - old_A).exp()
        bounded_A = ratio_A.clamp(1 - self.clip_low, 1 + self.clip_high)
        gain_A = torch.minimum(ratio_A * advantage_A, bounded_A * advantage_A) * weight_A
        loss = -gain_A.sum() / tokens
        if self.reference is not None and self.kl > 0:
            with torch.no_grad():
                reference_A = log_probabilities(self.reference, packed.batch, self.temperature)
            gap_A = reference_A - log_p_A
            away_A = gap_A.exp() - gap_A - 1  # never negative, and on average the divergence
            loss = loss + self.kl * away_A.sum() / tokens
            seen.to_reference += float(away_A.detach().sum())
        seen.tokens += len(off_A)
        seen.nats -= float(log_p_A.detach().sum())
        seen.mismatch += float(off_A.abs().sum())
        seen.mismatch_most = max(seen.mismatch_most, float(off_A.abs().max()))
        seen.truncated += int((off_A.exp() > TRUNCATION).sum())
        seen.clipped += int((ratio_A * advantage_A > bounded_A * advantage_A).sum())
        return loss
