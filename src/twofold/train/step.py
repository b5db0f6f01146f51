"""One step: what it is made of, what it costs, and the gradients of its batch.

Everything here is known before a run begins, so that the dial, the ladder and the measurements of a machine
use the very step that the run will take (loop.py).

Not covered: the update (optimiser.py) and which tokens a batch holds (data.py).
"""

import contextlib
import ctypes
import dataclasses

import torch
from torch import Tensor

from twofold.parameters import ModelConfig
from twofold.train.data import Batch
from twofold.train.guard import GuardConfig
from twofold.train.keeper import Rule
from twofold.train.optimiser import OptimizerConfig
from twofold.train.schedule import ScheduleConfig
from twofold.train.sharding import Learner
from twofold.train.transformer import Transformer

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepPlan:
    """What every step of a run does, fixed before the first one.

    `rows` × `context` tokens a step, `micro_rows` at a time. `compute`: dtype of the products. `peak_flops`:
    what the machine does per second in large products of that dtype. `budget_s`: seconds the steps may take,
    evaluation included; None = as long as it takes. `most_steps`: the end is never moved beyond.
    `eval_every` and `sample_every` are steps, 0 = only at the end.
    """

    steps: int
    rows: int
    micro_rows: int
    context: int
    seed: int
    device: str
    compute: str
    threads: int
    peak_flops: float
    budget_s: float | None
    most_steps: int
    eval_every: int
    sample_every: int
    layout: str
    saving: Rule
    guard: GuardConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig

    @property
    def anchor_every(self) -> int:
        """Every so many steps there is a checkpoint that the run may roll back to: after an evaluation."""
        return self.eval_every or max(1, self.steps // 10)


def set_up(plan: StepPlan) -> torch.dtype:
    """Set threads and the float environment as the plan says; return the dtype of the products."""
    torch.set_num_threads(plan.threads)
    torch.set_flush_denormal(True)
    keep_memory()
    return {"bfloat16": torch.bfloat16, "float32": torch.float32}[plan.compute]


def keep_memory() -> None:
    """Let glibc keep what is freed: a step asks for the same large blocks as the one before.

    Otherwise each goes back to the system, and comes anew as pages that must be cleared first. Elsewhere
    nothing changes.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def flops_per_token(config: ModelConfig) -> float:
    """Return the floating-point operations to learn from one token: forward, and twice that backward.

    Counts products with the weights (two operations per weight; looking up an embedding is none) and the
    half of attention that causality leaves.
    """
    lookups = config.vocab_size * config.width * (0 if config.tied else 1)
    attention = config.layers * config.heads * config.head_dim * config.context
    return 6.0 * (config.parameters - lookups + attention)


def gradients(
    net: Transformer, batch: Batch, micro_rows: int, learner: Learner | None = None, weight: float = 1.0
) -> Tensor:
    """Add the gradients of a batch's mean loss, times `weight`, to the parameters; return that loss in nats.

    With a `learner` on several processes, each does its rows; the mean of what they return is the loss.
    """
    learner = learner or Learner(net)
    device = net.token_embd.device
    counted = max(1, batch.counted) / learner.team.size
    batch = learner.team.share(batch)
    total = torch.zeros((), device=device)
    for start in range(0, len(batch.ids), micro_rows):
        rows = slice(start, start + micro_rows)
        ids, targets, documents = (
            torch.from_numpy(array[rows]).to(device) for array in (batch.ids, batch.targets, batch.documents)
        )
        with learner.micro_batch(last=start + micro_rows >= len(batch.ids)):
            loss = learner.loss(ids, targets, documents) / counted
            (loss if weight == 1.0 else weight * loss).backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total
