"""What a budget buys: the best size and length, the loss to expect, days, dollars, memory, and a layout.

Training costs about 6 operations per weight and token. A cluster does its devices' peak times the share of
it that is usual; the law (`scaling`) says what loss that buys. Any of size, length, operations, dollars, days
and loss may be given, and the rest follows; what is left open is chosen so that the loss is least.

The usual share of the peak is a rule drawn through published runs: half of it in one machine, and a little
less with every doubling of the machines (nanochat 50 % on 8 H100; Llama 3 41 % on 16,384; Llama 2 43 %).

Not covered: failures and restarts, storage, the cost of data and people, sparse models.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from twofold.base.errors import UsageError
from twofold.measure import layout as layouts
from twofold.measure import scaling
from twofold.measure.hardware import Device
from twofold.measure.ladder import Ladder
from twofold.measure.layout import Layout
from twofold.measure.scaling import Fit

USUAL = 0.50  # of the peak, in one machine
CHINCHILLA_RANGE = (44e6, 16e9)  # weights; table A9 of arXiv:2203.15556
FALLING = 0.025  # the power of the number of machines by which that falls
HOUR = 3600.0
DAY = 24 * HOUR
PATIENCE_S = 30 * DAY  # when nothing says how many devices there are
MOST_DEVICES = 1 << 17
MOST_DOUBLINGS = 2  # of the usual batch, when there are too many devices for it


@dataclass(frozen=True)
class Yardstick:
    """A fitted law, what it was fitted to, the unit of its loss, and how its text is counted.

    `range`: the smallest and the largest number of weights among its runs. `per_token`: what the law counts
    as length, per token (1, or the bytes of one). `overhead`: operations by six for each weight and token.
    """

    name: str
    unit: str
    fit: Fit
    range: tuple[float, float]
    per_token: float = 1.0
    overhead: float = 1.0

    def best(self, flops: float) -> tuple[float, float]:
        """Return the weights and tokens that make the loss least."""
        weights, length = self.fit.law.best(flops, 6 * self.overhead / self.per_token)
        return weights, length / self.per_token

    def loss(self, weights: float, tokens: float) -> tuple[float, float, float]:
        """Return the loss to expect and its bounds."""
        return self.fit.predict(weights, tokens * self.per_token)

    def flops(self, weights: float, tokens: float) -> float:
        """Return the operations of a run."""
        return 6 * self.overhead * weights * tokens

    def flops_for(self, loss: float) -> float:
        """Return the least operations that reach a loss, infinite when none do."""
        return self.fit.law.flops_for(loss, 6 * self.overhead / self.per_token)


def chinchilla() -> Yardstick:
    """Return the law of Chinchilla's runs, as fitted here (laws/chinchilla.json)."""
    path = Path(__file__).with_name("laws") / "chinchilla.json"
    fit = scaling.of_record(json.loads(path.read_text(encoding="utf-8")), str(path))
    return Yardstick("Chinchilla's runs", "nats per token", fit, CHINCHILLA_RANGE)


def of_ladder(ladder: Ladder) -> Yardstick:
    """Return the law of this machine's ladder."""
    found = sorted(run.flops / (6 * run.weights * run.tokens) for run in ladder.runs)
    sizes = [float(run.weights) for run in ladder.runs]
    return Yardstick(
        f"the ladder {ladder.name!r}", "bits per byte", ladder.fit, (min(sizes), max(sizes)),
        ladder.bytes_per_token, found[len(found) // 2],
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is given; the rest follows. `days` and `dollars` are what may be spent at most.

    `price`: dollars for an hour of a device, instead of what the table says.
    """

    weights: float | None = None
    tokens: float | None = None
    flops: float | None = None
    dollars: float | None = None
    days: float | None = None
    loss: float | None = None
    devices: int | None = None
    price: float | None = None
    utilisation: float | None = None
    batch_tokens: float | None = None
    context: int = 4096

    def __post_init__(self) -> None:
        numbers = (
            self.weights,
            self.tokens,
            self.flops,
            self.dollars,
            self.days,
            self.loss,
            self.batch_tokens,
        )
        if any(number is not None and not 0 < number < math.inf for number in numbers):
            raise UsageError("Sizes, budgets, days and losses are above 0.")
        if (self.devices is not None and self.devices < 1) or self.context < 1:
            raise UsageError("Devices and the context are 1 or more.")
        if self.price is not None and not 0 <= self.price < math.inf:
            raise UsageError("The price is 0 or more.")
        if self.utilisation is not None and not 0 < self.utilisation <= 1:
            raise UsageError("The utilisation is a share of the peak, above 0 and at most 1.")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A run that the budget buys. `loss` has bounds for 95 in 100 runs; `layout` is None when none fits."""

    device: Device
    devices: int
    weights: float
    tokens: float
    flops: float
    utilisation: float
    seconds: float
    loss: tuple[float, float, float]
    batch_tokens: float
    layout: Layout | None

    @property
    def days(self) -> float:
        """How long it takes."""
        return self.seconds / DAY

    @property
    def device_hours(self) -> float:
        """Devices times hours."""
        return self.devices * self.seconds / HOUR

    @property
    def dollars(self) -> float:
        """What the devices cost."""
        return self.device_hours * self.device.dollars_per_hour


def utilisation(device: Device, devices: int, wished: float | None = None) -> float:
    """Return the share of the peak that so many devices usually reach."""
    machines = max(1.0, devices / device.per_node)
    return wished or (device.utilisation or USUAL) * machines**-FALLING


def batch_tokens(tokens: float) -> float:
    """Return a usual batch for a run, in tokens: it grows with about the square root of the run's length.

    Through what the dial does at a million tokens (2,048) and Llama 3 405B's 16 million; nanochat's half a
    million lies on the way, and so does Llama 2's 4 million, nearly.
    """
    return float(2 ** round(math.log2(max(1024.0, 2048 * (tokens / 1e6) ** 0.56))))


def answer(wish: Wish, device: Device, law: Yardstick) -> Answer:
    """Return the run that `wish` leads to on `device`, with the loss that `law` expects.

    Raises UsageError when too much or too little is given, or the loss is out of reach.
    """
    flops = _budget(wish, device, law)
    if wish.weights and wish.tokens:
        weights, tokens = wish.weights, wish.tokens
    elif wish.weights:
        weights, tokens = wish.weights, flops / law.flops(wish.weights, 1.0)
    elif wish.tokens:
        weights, tokens = flops / law.flops(1.0, wish.tokens), wish.tokens
    else:
        weights, tokens = law.best(flops)
    return _run(wish, device, law, weights, tokens)


def _budget(wish: Wish, device: Device, law: Yardstick) -> float:
    """Return the operations that the wish allows: the least of all that it says."""
    if wish.weights and wish.tokens:
        if wish.flops or wish.dollars or wish.loss:
            raise UsageError(
                "Size and length together are the budget: leave out --flops, --dollars and --loss."
            )
        return law.flops(wish.weights, wish.tokens)
    found = []
    if wish.flops:
        found.append(wish.flops)
    if wish.loss:
        if wish.weights or wish.tokens:
            raise UsageError("For a loss, the best size and length follow: leave out one or the other.")
        found.append(law.flops_for(wish.loss))
        if math.isinf(found[-1]):
            least = law.fit.law.E
            raise UsageError(
                f"A loss of {wish.loss:g} {law.unit} is out of reach: by {law.name}, not even an endless run "
                f"goes below {least:.3g}."
            )
    if wish.dollars:
        if not device.dollars_per_hour:
            raise UsageError(
                f"No price is known for {device.title}: --set price=X, or dollars_per_hour in hardware.toml."
            )
        hours = wish.dollars / device.dollars_per_hour
        found.append(hours * HOUR * device.peak * utilisation(device, wish.devices or 1, wish.utilisation))
    if wish.days and (wish.devices or not found):
        count = wish.devices or device.per_node
        found.append(wish.days * DAY * count * device.peak * utilisation(device, count, wish.utilisation))
    if not found:
        raise UsageError(
            "Say what there is to spend: --flops, --dollars or --time, a --loss to reach, or "
            "--params and --tokens."
        )
    return min(found)


def _run(wish: Wish, device: Device, law: Yardstick, weights: float, tokens: float) -> Answer:
    flops = law.flops(weights, tokens)
    devices = wish.devices or _devices(wish, device, weights, flops)
    share = utilisation(device, devices, wish.utilisation)
    layout, batch = None, wish.batch_tokens or batch_tokens(tokens)
    for _ in range(1 if wish.batch_tokens else MOST_DOUBLINGS + 1):
        layout = layouts.best(weights, devices, device, batch, wish.context)
        if layout is not None:
            break
        batch *= 2
    return Answer(
        device=device, devices=devices, weights=weights, tokens=tokens, flops=flops, utilisation=share,
        seconds=flops / (devices * device.peak * share), loss=law.loss(weights, tokens), batch_tokens=batch,
        layout=layout,
    )  # fmt: skip


def _devices(wish: Wish, device: Device, weights: float, flops: float) -> int:
    """Return as few devices as hold the model and end in time; whole machines beyond the first."""
    limit_s = wish.days * DAY if wish.days else PATIENCE_S
    count = layouts.least_devices(weights, device, wish.context) if device.per_node > 1 else 1
    while device.per_node > 1 and count < MOST_DEVICES:
        if flops / (count * device.peak * utilisation(device, count, wish.utilisation)) <= limit_s * 1.001:
            break
        count += (
            count if count < device.per_node else device.per_node * max(1, count // device.per_node // 16)
        )
    return count


def instead(wish: Wish, found: Answer, law: Yardstick) -> list[tuple[str, Answer]]:
    """Return what else could be done, each with a name: the best size, the same loss for less, more."""
    free = replace(wish, weights=None, tokens=None, flops=None, dollars=None, days=None, loss=None)
    others = []
    best = answer(replace(free, flops=found.flops), found.device, law)
    if abs(best.weights / found.weights - 1) > 0.02:
        others.append(("the best size for as much", best))
    least = law.flops_for(found.loss[0])
    if least < 0.98 * found.flops:
        others.append(("the same loss for the least", answer(replace(free, flops=least), found.device, law)))
    lower = law.fit.law.E + 0.9 * (found.loss[0] - law.fit.law.E)
    more = law.flops_for(lower)
    if math.isfinite(more):
        others.append(("a tenth nearer to the floor", answer(replace(free, flops=more), found.device, law)))
    faster = replace(wish, devices=None, days=found.days / 2, dollars=None, flops=None, loss=None)
    if found.device.per_node > 1:
        faster = replace(faster, weights=found.weights, tokens=found.tokens)
        others.append(("in half the time", answer(faster, found.device, law)))
    return others
