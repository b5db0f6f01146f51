"""How to spread a training run over devices: which parts each holds, and whether that fits and pays.

Three ways are combined. Tensor parallel (t) splits every matrix among devices of one machine, which exchange
activations in every layer (Shoeybi et al. 2019, arXiv:1909.08053). Pipeline parallel (p) gives each group of
devices some of the layers; while the pipe fills and drains, devices wait (Narayanan et al. 2021,
arXiv:2104.04473). Data parallel (d) gives each group other text, and shards what it can: the optimiser
(ZeRO-1) or weights and gradients too (FSDP, ZeRO-3; Rajbhandari et al. 2020, arXiv:1910.02054). Activations
are counted as in Korthikanti et al. 2022 (arXiv:2205.05198), without attention matrices, and may be computed
again instead of kept.

The search is over all t, p, d whose product is the number of devices. What fits is ranked by the share of
time that it loses, in rough terms: communication that arithmetic cannot hide, the pipe's bubble, recomputing.

Not covered: expert and context parallel, offloading, networks slower than their links.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from twofold.measure.hardware import Device

WEIGHT, GRADIENT, OPTIMISER = 2, 4, 12  # bytes per parameter: bfloat16, float32 sums, master and two moments
KEPT, KEPT_INPUTS = 34, 2  # bytes of activations per token and channel of a layer: all, or its input only
LOSS = 6  # bytes per logit: float32, and its gradient in bfloat16
SPARE = 0.10  # of the memory, for buffers and fragments
WIDTH_PER_LAYER = 128  # Llama's shapes: 7B is 32 × 4096, 405B is 126 × 16384
COMPUTE = 0.5  # share of the peak that arithmetic takes when nothing waits
MOST_PIPE = 64
MOST_INTERLEAVED = (
    4  # parts of the model that a stage may hold, which shortens the bubble (ibid., section 2.2)
)


@dataclass(frozen=True)
class Shape:
    """A usual shape for so many weights."""

    weights: float
    layers: int
    width: int
    vocabulary: int


@dataclass(frozen=True)
class Memory:
    """Bytes per device."""

    weights: float
    gradients: float
    optimiser: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimiser + self.activations


@dataclass(frozen=True)
class Layout:
    """How the devices share the work. `rows` sequences go through a device at a time, `micro` times a step.

    `lost`: share of the time, in rough terms, that this layout costs more than arithmetic alone.
    """

    data: int
    tensor: int
    pipeline: int
    sharded: bool  # weights and gradients too (FSDP), not only the optimiser
    recompute: bool
    rows: int
    micro: int
    memory: Memory
    lost: float

    @property
    def spelled(self) -> str:
        """The layout in words."""
        parts = [f"data {self.data:,}", f"tensor {self.tensor}", f"pipeline {self.pipeline}"]
        how = (
            "weights, gradients and optimiser sharded (FSDP)"
            if self.sharded
            else "optimiser sharded (ZeRO-1)"
        )
        if self.data == 1:
            how = "nothing to shard over"
        return " × ".join(parts) + f"; {how}{'; layers recomputed' if self.recompute else ''}"


def shape(weights: float) -> Shape:
    """Return the usual shape for so many weights: a width of 128 per layer, 12·width² weights in a layer."""
    layers = max(1, round((weights / (12 * WIDTH_PER_LAYER**2)) ** (1 / 3)))
    width = max(32, 32 * round(math.sqrt(weights / (12 * layers)) / 32))
    vocabulary = min(131072, max(2048, 2 ** round(math.log2(16 * width))))
    return Shape(weights, layers, width, vocabulary)


def best(weights: float, devices: int, device: Device, batch_tokens: float, context: int) -> Layout | None:
    """Return the layout that fits and loses least; None when none fits."""
    model = shape(weights)
    fitting = [one for one in _all(model, devices, device, batch_tokens, context) if one is not None]
    return min(
        fitting, key=lambda one: (round(one.lost, 3), one.tensor * one.pipeline, one.recompute), default=None
    )


def least_devices(weights: float, device: Device, context: int) -> int:
    """Return the smallest power of two of devices that a model fits on, a million at most."""
    for count in (1 << exponent for exponent in range(20)):
        if best(weights, count, device, count * context, context) is not None:
            return count
    return 1 << 20


def _all(
    model: Shape, devices: int, device: Device, batch_tokens: float, context: int
) -> Iterator[Layout | None]:
    for tensor in (1, 2, 4, 8, 16):
        if tensor > device.per_node or devices % tensor or model.width % tensor:
            continue
        for pipeline in _divisors(devices // tensor):
            if pipeline > min(model.layers, MOST_PIPE):
                continue
            data = devices // tensor // pipeline
            rows_each = batch_tokens / context / data  # sequences per data rank and step
            if rows_each < 1 - 1e-9 or (pipeline > 1 and rows_each < pipeline):
                continue
            for sharded in (False, True) if data > 1 and pipeline == 1 else (False,):
                for recompute in (False, True):
                    yield _layout(
                        model, device, data, tensor, pipeline, sharded, recompute, rows_each, context
                    )


def _divisors(number: int) -> list[int]:
    return [one for one in range(1, min(number, MOST_PIPE) + 1) if number % one == 0]


def _layout(
    model: Shape, device: Device, data: int, tensor: int, pipeline: int, sharded: bool, recompute: bool,
    rows_each: float, context: int,
) -> Layout | None:  # fmt: skip
    """Return one layout with as many rows at a time as fit, or None when not even one does."""
    held = model.weights / tensor / pipeline
    own = held / data
    gathered = 2 * WEIGHT * model.weights / model.layers / tensor  # the layer at work and the next
    fixed = Memory(
        weights=WEIGHT * own + gathered if sharded else WEIGHT * held,
        gradients=GRADIENT * own if sharded else GRADIENT * held,
        optimiser=OPTIMISER * own,
        activations=0.0,
    )
    per_layer = context * model.width / tensor
    kept = (KEPT_INPUTS if recompute else KEPT) * per_layer * model.layers  # p stages hold p rows in flight
    row = kept + (KEPT * per_layer if recompute else 0) + LOSS * context * model.vocabulary / tensor
    room = device.memory * (1 - SPARE) - fixed.total
    if room < row:
        return None
    most = max(1, int(room / row)) if pipeline == 1 else 1
    rows = max(1, min(most, math.ceil(rows_each)))
    micro = math.ceil(rows_each / rows)
    memory = Memory(fixed.weights, fixed.gradients, fixed.optimiser, row * rows)
    speed = COMPUTE * device.peak
    compute_s = 6 * held * rows_each * context / speed
    link = device.link_gb_s * 1e9
    wide = link if data * tensor * pipeline <= device.per_node else device.network_gb_s * 1e9
    # A step sums gradients and gathers weights once; FSDP gathers weights twice for each micro-batch.
    moved = (2 * WEIGHT * micro + WEIGHT) * held if sharded else 2 * WEIGHT * held
    data_s = 0.0 if data == 1 else moved / wide
    # Per token and layer: eight passes of a row's activations, there and back, over the fast link.
    tensor_share = (16 * model.width * (tensor - 1) / tensor / link) / (72 * model.width**2 / tensor / speed)
    bubble = (pipeline - 1) / rows_each / max(1, min(MOST_INTERLEAVED, model.layers // pipeline))
    hidden = max(0.0, data_s / compute_s - 1) + 0.1 * min(1.0, data_s / compute_s)
    slowdown = 1 + hidden + tensor_share + bubble + (1 / 3 if recompute else 0)
    return Layout(data, tensor, pipeline, sharded, recompute, rows, micro, memory, 1 - 1 / slowdown)
