"""What this machine can do: a few seconds of measuring before a run is planned.

Nothing is assumed about the processor: 16-bit products are used where they prove faster, and as many threads
as prove faster (on a busy machine one thread may beat two that wait for each other).

Not covered: more than one device.
"""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable

import torch
from torch import Tensor

from twofold.base.errors import UsageError
from twofold.parameters import ModelConfig
from twofold.train.data import Batch
from twofold.train.optimiser import Optimiser, OptimizerConfig
from twofold.train.step import flops_per_token, gradients, keep_memory
from twofold.train.transformer import Transformer

PRODUCT = 1024  # rows and columns of the products that measure the peak
PEAK_S = 0.15  # how long each product is tried
CPU_MICRO_TOKENS = 4096
GAIN = 0.95  # compiled blocks must take less than this share of the time
CUDA_MICRO_TOKENS = 65536


@dataclasses.dataclass(frozen=True)
class Machine:
    """`device` cpu or cuda; `compute` the dtype of products; `peak_flops` operations per second in it."""

    device: str
    compute: str
    threads: int
    peak_flops: float


def measure(device: str = "auto", compute: str = "auto", threads: int | None = None) -> Machine:
    """Return what the machine can do, measured in a second or two. Raises UsageError."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("There is no CUDA device that torch can use here; leave device=auto.")
    keep_memory()
    candidates = [threads] if threads else sorted({1, cores()})
    kinds = ["float32", "bfloat16"] if compute == "auto" else [compute]
    best: Machine | None = None
    for kind in kinds:
        for count in candidates if device == "cpu" else candidates[-1:]:
            torch.set_num_threads(count)
            found = Machine(device, kind, count, _product_flops(device, getattr(torch, kind)))
            # 16 bits lose precision and threads disturb each other: each must pay to be taken.
            if best is None or found.peak_flops > best.peak_flops * (1.3 if kind != best.compute else 1.05):
                best = found
    assert best is not None
    torch.set_num_threads(best.threads)
    return best


def cores() -> int:
    """Return how many processors this process may use: its share, when torchrun started several here."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _product_flops(device: str, dtype: torch.dtype) -> float:
    a = torch.ones(PRODUCT, PRODUCT, dtype=dtype, device=device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < PEAK_S:
        times.append(_timed(lambda: a @ a, device))
    best_s = min(times)
    return 2 * PRODUCT**3 / best_s


def _timed(work: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def micro_rows(machine: Machine, rows: int, context: int) -> int:
    """Return how many rows go through at a time: a divisor of `rows` that suits the cache."""
    most = max(1, (CUDA_MICRO_TOKENS if machine.device == "cuda" else CPU_MICRO_TOKENS) // context)
    return max(size for size in range(1, min(rows, most) + 1) if rows % size == 0)


@dataclasses.dataclass(frozen=True)
class Pace:
    """Seconds for a micro-batch forward and backward, for an update, and per token of evaluation."""

    micro_s: float
    update_s: float
    evaluation_token_s: float
    threads: int

    def step_s(self, rows: int, micro: int) -> float:
        """Return the seconds of a step."""
        return self.micro_s * rows / micro + self.update_s


def guessed_pace(machine: Machine, config: ModelConfig, micro: int) -> Pace:
    """Return a pace at two fifths of the machine's peak, for when it decides nothing and time is short."""
    micro_s = flops_per_token(config) * micro * config.context / (0.4 * machine.peak_flops)
    return Pace(micro_s, 0.1 * micro_s, micro_s / 3 / (micro * config.context), machine.threads)


def compiler() -> bool:
    """Return whether torch's compiler finds a C++ compiler here, which it needs for the CPU."""
    return any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")))


def compiled_pace(machine: Machine, config: ModelConfig, micro: int, plain: Pace) -> Pace | None:
    """Return how fast this model learns when its blocks are compiled, with the threads of `plain`.

    None when that is no gain, or the compiler fails. What was compiled serves the run that follows in this
    process. Takes half a minute on a CPU, the first time.
    """
    try:
        found = pace(machine, config, micro, threads=plain.threads, limit_s=2.0, compiled=True)
    except Exception:  # whatever a compiler may raise: then things stay as they are
        return None
    return found if found.micro_s < GAIN * plain.micro_s else None


def pace(
    machine: Machine,
    config: ModelConfig,
    micro: int,
    *,
    threads: int | None = None,
    limit_s: float = 6.0,
    compiled: bool = False,
) -> Pace:
    """Return how fast this model learns here, measured on random tokens for about `limit_s` seconds.

    Tries one thread and all of them unless `threads` is given, and says which was faster.
    """
    dtype = getattr(torch, machine.compute)
    net = Transformer(config, compute=dtype).to(machine.device)
    net.initialise(0)
    if compiled:
        net.compile_blocks()
    rates = OptimizerConfig(muon_lr=0.0, embedding_lr=0.0, head_lr=0.0, norm_lr=0.0)
    optimiser = Optimiser(net.named(), rates, compute=dtype)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, config.vocab_size, (micro, config.context), generator=generator)
    documents = (torch.arange(config.context) // 200).expand(micro, config.context).contiguous()
    batch = Batch(ids.numpy(), ids.numpy(), documents.numpy())

    def learn() -> Tensor:
        return gradients(net, batch, micro)

    found: list[Pace] = []
    choices = sorted({machine.threads, 1, cores()}) if machine.device == "cpu" else [machine.threads]
    if threads is not None:
        choices = [threads]
    for count in choices:
        torch.set_num_threads(count)
        learn()  # the first one builds caches
        times: list[float] = []
        until = time.perf_counter() + limit_s / 2 / len(choices)
        while len(times) < 2 or time.perf_counter() < until:
            times.append(_timed(learn, machine.device))
        # The mean, not the best: a busy machine stays busy.
        micro_s = sum(times) / len(times)
        update_s = min(
            _timed(lambda: (learn(), optimiser.step(0.0)), machine.device) for _ in range(2)
        ) - min(times)
        with torch.no_grad():
            score_s = _timed(lambda: net.loss(ids, ids, documents), machine.device)
        found.append(Pace(micro_s, max(update_s, 0.01 * micro_s), score_s / ids.numel(), count))
    chosen = min(found, key=lambda one: one.micro_s + one.update_s)
    torch.set_num_threads(chosen.threads)
    return chosen
