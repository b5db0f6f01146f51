"""How fast one model runs here: decode, prefill, and several sequences together, as points on the roofline.

Each is the median of several repetitions through run.c's own functions (timing.py). Not covered: speed at
long context, where attention weighs more, and the time to read the file from the disk.
"""

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twofold import parameters
from twofold.measure import speed
from twofold.measure.machine import Machine
from twofold.measure.speed import Point, Work
from twofold.measure.timing import Runner, Timing, seconds, timed
from twofold.parameters import Model, gguf
from twofold.parameters.tensors import source_of

SEQUENCES = 8
_SHORT = 64  # positions of "short context", at most
_LEAST_PROMPT = 32
_SAMPLE_S = 0.03  # what is timed lasts about as long, or the clock would matter
_FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Pace:
    """How fast a model runs: its points on the roofline, and what they are read against.

    `peak`: operations per second in the model's instruction. `disturbed`: other programs were busy meanwhile.
    """

    name: str
    parameters: int
    work: Work
    peak: float
    points: tuple[Point, ...]
    disturbed: bool


def work_of(model: Model) -> Work:
    """Return the work of a model from a GGUF file, by the types that its tensors are stored in."""
    sources = {name: source_of(model.tensors, name) for name in model.config.shapes()}
    types = {name: tensor.type for name, tensor in sources.items() if isinstance(tensor, gguf.Tensor)}
    return speed.work(model.config, types)


@contextlib.contextmanager
def as_gguf(path: Path) -> Iterator[Path]:
    """Yield a GGUF file of the model at `path`: a Hugging Face folder is written as F32, as `run` does it."""
    if not path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="twofold-") as folder:
        file = Path(folder) / "model.gguf"
        parameters.save_gguf(parameters.load(path), file, "F32")
        yield file


def measure(
    path: Path,
    model: Model,
    machine: Machine,
    *,
    budget_s: float = 1.0,
    tries: int = 3,
    progress: Callable[[str], object] | None = None,
) -> Pace:
    """Return how fast `model`, which the GGUF file at `path` holds, runs with the machine's threads.

    Each figure takes about `budget_s` seconds, up to `tries` times when other programs disturb it; a model
    that is too slow for a prompt of speed.PREFILL tokens gets a shorter one. Raises BadFileError for a file
    that run.c does not run, CompilerError without a C compiler.
    """
    config, asked = model.config, work_of(model)
    tell = progress or (lambda what: None)
    context = min(config.context, speed.PREFILL)
    runner = Runner(
        path, vocab_size=config.vocab_size, context=context, sequences=SEQUENCES, threads=machine.all.threads
    )
    bandwidth, peak = limits(asked, machine)
    tell("decode")
    alone, steps = _stepwise(runner, runner.decode, budget_s, tries)
    decode = speed.decode_point(
        "decode", asked, steps / alone.seconds, position=steps // 2, bandwidth=bandwidth, peak=peak
    )
    tell(f"{SEQUENCES} sequences together")
    together, steps = _stepwise(runner, runner.batch, budget_s, tries)
    batch = speed.decode_point(
        f"batch of {SEQUENCES}",
        asked,
        SEQUENCES * steps / together.seconds,
        position=steps // 2,
        bandwidth=bandwidth,
        peak=peak,
        sequences=SEQUENCES,
    )
    tell("prefill")
    tokens = _prompt(runner, budget_s)
    prompt = timed(runner.prefill(tokens), budget_s, runner.threads, tries)
    prefill = speed.prefill_point(
        f"prefill {tokens}", asked, tokens / prompt.seconds, tokens=tokens, bandwidth=bandwidth, peak=peak
    )
    return Pace(
        name=str(model.card.get("name", path.stem)),
        parameters=config.parameters,
        work=asked,
        peak=peak,
        points=(decode, batch, prefill),
        disturbed=alone.disturbed or together.disturbed or prompt.disturbed,
    )


def limits(work: Work, machine: Machine) -> tuple[float, float]:
    """Return the limits of a model: bytes per second at its size, operations per second in its instruction.

    Weights stored as floats are multiplied as float32, all others as int8.
    """
    floats = sum(size for kind, size in work.bytes.items() if kind in _FLOATS)
    peak = machine.all.float32 if 2 * floats > work.weight_bytes else machine.all.int8
    return machine.all.bandwidth_of(work.weight_bytes), 2 * peak


def _stepwise(
    runner: Runner, make: Callable[[int, int], Callable[[], object]], budget_s: float, tries: int
) -> tuple[Timing, int]:
    """Return how long steps from position 0 on take, and how many they are."""
    seconds(make(0, 1))
    once = seconds(make(0, 1))
    steps = max(1, min(_SHORT, runner.context, math.ceil(_SAMPLE_S / once)))
    return timed(make(0, steps), budget_s, runner.threads, tries), steps


def _prompt(runner: Runner, budget_s: float) -> int:
    """Return how long a prompt can be so that three of them take about the budget, at most PREFILL."""
    few = min(_LEAST_PROMPT, runner.context)
    seconds(runner.prefill(few))
    token_s = seconds(runner.prefill(few)) / few
    possible = int(budget_s / 3 / token_s) // _LEAST_PROMPT * _LEAST_PROMPT
    return max(few, min(runner.context, possible))
