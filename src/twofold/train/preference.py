"""Learning from pairs: the reward of an answer, the loss of a pair, and how a run is judged on the way.

Both kinds of run learn that the chosen answer has the higher reward (Bradley and Terry 1952):

    loss = −ln σ(r(chosen) − r(rejected))

A reward model's r is read off its logits (measure/judge.py). DPO's r is β·ln(policy/reference), summed over
the answer's tokens: the reward for which the policy would be the best one, if going away from the reference
costs β per nat (Rafailov et al. 2023, arXiv:2305.18290, equation 7). The reference is the model as it was;
its log-probabilities are computed once.

Length control: people prefer longer (or shorter) answers, and a model that finds that out has learned little
else. If the true reward is r + α·length, then the loss above has α·(length(chosen) − length(rejected)) added
to the difference of rewards, and what length explains is not learned (R-DPO, Park et al. 2024,
arXiv:2403.19159, section 4). Unless it is given, α is what a logistic regression of the preference on length
alone finds in the pairs learned from.

Letters: P pairs, S = 2P texts (chosen, rejected, chosen, …), A tokens that count, V vocabulary.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from twofold.corpus.pairs import PairTokens
from twofold.measure.overoptimisation import Point, half_interval
from twofold.train.data import IGNORED, Batch, Data
from twofold.train.patience import PatientRun
from twofold.train.policy import Sample, log_probabilities, pack
from twofold.train.reinforce import MICRO_LOGITS, MICRO_TOKENS, SEPARATOR
from twofold.train.sharding import Learner
from twofold.train.step import gradients
from twofold.train.transformer import Transformer

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class PairPart:
    """Some pairs as packed rows; of each text its answer's tokens and its reference's log-probability."""

    batch: Batch
    length_S: Tensor  # noqa: N815
    reference_S: Tensor  # noqa: N815


@dataclasses.dataclass(frozen=True)
class PairBatch:
    """The pairs of a step, in parts that go through the network one at a time; own answers beside them."""

    parts: list[PairPart]
    pairs: int
    own: Batch | None = None

    @property
    def size(self) -> int:
        """The number of tokens that are read."""
        return sum(part.batch.size for part in self.parts) + (self.own.size if self.own else 0)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Which reward is learned. `verdicts`: ids of good and bad, of a reward model; None: the policy's own."""

    beta: float
    alpha: float
    verdicts: tuple[int, int] | None = None

    def rewards(self, net: Transformer, part: PairPart) -> Tensor:
        """Return the reward of each text [S], float32."""
        if self.verdicts is not None:
            return verdicts(net, part.batch, self.verdicts)
        return self.beta * (answers_log_p(net, part) - part.reference_S.to(net.token_embd.device))

    def losses(self, net: Transformer, part: PairPart) -> tuple[Tensor, Tensor]:
        """Return the loss of each pair [P] in nats, and by how much its chosen answer's reward is higher."""
        reward_S = self.rewards(net, part)
        length_S = part.length_S.to(reward_S.device)
        margin_P = reward_S[0::2] - reward_S[1::2]
        longer_P = (length_S[0::2] - length_S[1::2]).float()
        return -F.logsigmoid(margin_P + self.alpha * longer_P), margin_P

    def samples(self, texts: tuple[list[int], list[int], list[int]]) -> list[Sample]:
        """Return a pair's two texts; what counts is the answer, or the verdict right behind it."""
        prompt, *answers = texts
        if self.verdicts is None:
            return [Sample(prompt, answer) for answer in answers]
        return [Sample([*prompt, *answer], [self.verdicts[0]]) for answer in answers]


def answers_log_p(net: Transformer, part: PairPart) -> Tensor:
    """Return the log-probability of each text's answer [S]."""
    log_p_A = log_probabilities(net, part.batch)
    return torch.stack([one.sum() for one in torch.split(log_p_A, part.length_S.tolist())])


def verdicts(net: Transformer, batch: Batch, ids: tuple[int, int]) -> Tensor:
    """Return logit(good) − logit(bad) at each place that counts, float32."""
    device = net.token_embd.device
    rows, targets, documents = (
        torch.from_numpy(array).to(device) for array in (batch.ids, batch.targets, batch.documents)
    )
    x_SD = net(rows, documents)[targets != IGNORED].float()
    reward_S: Tensor = x_SD @ (net.head[ids[0]] - net.head[ids[1]])
    return reward_S


def parts(
    pairs: PairTokens, indices: Sequence[int], objective: Objective, net: tuple[int, int],
    reference_PS: npt.NDArray[np.float32] | None = None,
) -> Iterator[PairPart]:  # fmt: skip
    """Yield pairs in the order given, as many at a time as suit the memory.

    `net`: the longest row and the vocabulary. `reference_PS` [P, 2], by index; None: zeros.
    """
    context, vocab = net
    most = min(MICRO_TOKENS, MICRO_LOGITS // vocab)
    group: list[int] = []
    tokens = 0
    for index in [*indices, None]:
        texts = pairs.texts(index) if index is not None else ([], [], [])
        size = 2 * len(texts[0]) + len(texts[1]) + len(texts[2]) + 2
        if group and (index is None or tokens + size > most):
            samples = [one for chosen in group for one in objective.samples(pairs.texts(chosen))]
            (packed,) = pack(samples, rows=len(samples), most=context, separator=SEPARATOR)
            known = np.zeros((len(group), 2)) if reference_PS is None else reference_PS[group]
            yield PairPart(
                packed.batch, torch.from_numpy(pairs.lengths[group].reshape(-1)),
                torch.from_numpy(known.astype(np.float32).reshape(-1)),
            )  # fmt: skip
            group, tokens = [], 0
        if index is not None:
            group.append(index)
            tokens += size


@torch.no_grad()
def reference(net: Transformer, pairs: PairTokens, objective: Objective) -> npt.NDArray[np.float32]:
    """Return the log-probabilities of all answers by the network as it is, [P, 2]."""
    shape = net.config.context, net.config.vocab_size
    found = [answers_log_p(net, part) for part in parts(pairs, range(len(pairs)), objective, shape)]
    return torch.cat(found).reshape(-1, 2).cpu().numpy() if found else np.zeros((0, 2), np.float32)


class PairData:
    """Which pairs a step learns from: each epoch goes through all in a new order."""

    def __init__(
        self, pairs: PairTokens, reference_PS: npt.NDArray[np.float32] | None, objective: Objective, *,
        count: int, shape: tuple[int, int], seed: int, shuffle: bool = True, own: Data | None = None,
    ) -> None:  # fmt: skip
        """`count` pairs a step; `shape`: the longest row and the vocabulary; `own`: answers to rehearse."""
        self.pairs, self.reference_PS, self.objective, self.own = pairs, reference_PS, objective, own
        self.count, self.shape, self.seed, self.shuffle = count, shape, seed, shuffle

    @property
    def epoch_steps(self) -> float:
        return len(self.pairs) / self.count

    def batch(self, step: int) -> PairBatch:
        places = [divmod(step * self.count + n, len(self.pairs)) for n in range(self.count)]
        orders = {epoch: self._order(epoch) for epoch, _ in places}
        indices = [int(orders[epoch][place]) for epoch, place in places]
        found = list(parts(self.pairs, indices, self.objective, self.shape, self.reference_PS))
        return PairBatch(found, self.count, self.own.batch(step) if self.own else None)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        order = np.arange(len(self.pairs))
        if self.shuffle:
            np.random.default_rng([self.seed, epoch]).shuffle(order)
        return order


@dataclasses.dataclass(frozen=True)
class PairScore:
    """Loss and share of held-out pairs put right; gold reward gained and the distance gone, if measured."""

    loss_nats: float
    accuracy: float
    pairs: int
    gold: Point | None = None

    @property
    def rank(self) -> float:
        """What runs and checkpoints are compared by: less is better."""
        return self.loss_nats if self.gold is None else -self.gold.reward

    def record(self) -> dict[str, Any]:
        """Return the score as the log holds it."""
        found = {"val_loss_nats": self.loss_nats, "pair_accuracy": self.accuracy, "val_pairs": self.pairs}
        if self.gold is None:
            return found
        gold = {"gold_reward": self.gold.reward, "gold_error": self.gold.error, "kl_nats": self.gold.kl_nats}
        return found | gold

    def spell(self) -> str:
        """Return the score as a person reads it."""
        text = (
            f"{100 * self.accuracy:.1f} % of {self.pairs:,} held-out pairs right, loss {self.loss_nats:.4f}"
        )
        if self.gold is None:
            return text
        gained = f"{self.gold.reward:+.3f} ± {self.gold.error:.3f}"
        return f"{text}; gold reward {gained} at a distance of {self.gold.kl_nats:.2f} nats"

    def short(self) -> str:
        """Return the same for the living line."""
        return f"{100 * self.accuracy:.0f} % of pairs right"

    @staticmethod
    def read(record: Mapping[str, Any]) -> "PairScore | None":
        """Return the score in a record of the log, None when it holds none."""
        if record.get("pair_accuracy") is None or record.get("val_loss_nats") is None:
            return None
        gold = None
        if record.get("gold_reward") is not None:
            place = record["kl_nats"], record["gold_reward"], record["gold_error"]
            gold = Point(*place, name=f"step {record['step']}")
        return PairScore(record["val_loss_nats"], record["pair_accuracy"], record["val_pairs"], gold)


class HeldOutPairs:
    """What a preference run is judged by: held-out pairs, and a gold reward if there is one.

    `gold` measures a network: its gold rewards and its distance, by prompt; `start` are those at the start.
    """

    def __init__(
        self, held_out: Sequence[PairPart], objective: Objective,
        gold: Callable[[Transformer], tuple[Floats, Floats]] | None = None, start: Floats | None = None,
    ) -> None:  # fmt: skip
        self.parts, self.objective, self._gold, self._start = list(held_out), objective, gold, start

    def score(self, net: Transformer, learner: Learner | None = None) -> PairScore:
        """Return the score of a network as it is now."""
        losses, margins = [], []
        with torch.no_grad():
            for part in self.parts:
                loss_P, margin_P = self.objective.losses(net, part)
                losses.append(loss_P.cpu())
                margins.append(margin_P.cpu())
        loss_nats, right = float(torch.cat(losses).mean()), accuracy(torch.cat(margins).numpy())
        return PairScore(loss_nats, right, len(torch.cat(losses)), self._point(net))

    def _point(self, net: Transformer) -> Point | None:
        if self._gold is None or self._start is None:
            return None
        rewards, distances = self._gold(net)
        gained = rewards - self._start
        return Point(float(distances.mean()), float(gained.mean()), half_interval(gained), "now")


class PairRun(PatientRun):
    """A run that learns from pairs; `rehearse` weighs the loss of its own answers."""

    read_score = staticmethod(PairScore.read)
    objective: Objective
    rehearse = 0.0

    def _gradients(self, batch: PairBatch) -> float:
        total = 0.0
        for part in batch.parts:
            loss_P, _ = self.objective.losses(self.net, part)
            (loss_P.sum() / batch.pairs).backward()  # type: ignore[no-untyped-call]
            total += float(loss_P.detach().sum()) / batch.pairs
        if batch.own is not None:
            gradients(self.net, batch.own, self.plan.micro_rows, self.learner, self.rehearse)
        return total


def accuracy(margin_P: npt.NDArray[Any]) -> float:
    """Return the share of pairs whose chosen answer has the higher reward, ties half."""
    return float(((margin_P > 0) + 0.5 * (margin_P == 0)).mean()) if len(margin_P) else math.nan


def length_effect(lengths_P2: npt.NDArray[np.int64]) -> float:
    """Return how much of the preference length alone explains, in nats of reward per token.

    The coefficient of a logistic regression without intercept on the difference of lengths. A standard normal
    prior on it, in deviations of that difference, keeps it finite where length explains everything.
    """
    longer_P = (lengths_P2[:, 0] - lengths_P2[:, 1]).astype(np.float64)
    scale = float(np.sqrt((longer_P**2).mean())) if len(longer_P) else 0.0
    if scale == 0:
        return 0.0
    x_P, slope = longer_P / scale, 0.0
    for _ in range(50):  # Newton's method on a convex function
        p_P = 1 / (1 + np.exp(slope * x_P))  # of being wrong
        step = (float((x_P * p_P).sum()) - slope) / (float((x_P**2 * p_P * (1 - p_P)).sum()) + 1)
        slope += max(-1.0, min(1.0, step))
        if abs(step) < 1e-12:
            break
    return slope / scale
