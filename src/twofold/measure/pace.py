"""How fast one model runs here: decode, prefill, and several sequences together, as points on the roofline.

Each is the median of several repetitions through run.c's own functions (timing.py). Not covered: speed at long
context, where attention weighs more, and the time to read the file from the disk.
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
from twofold.measure.timing import Runner, seconds, timed
from twofold.parameters import Model, gguf
from twofold.parameters.tensors import source_of

SEQUENCES = 8
_SHORT = 64  # positions of "short context", at most
_LEAST_PROMPT = 32
_SAMPLE_S = 0.03  # what is timed lasts about as long, or the clock would matter
_FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Pace:
    """How fast a model runs: its name, parameters and work, the peak of operations per second, the points."""

    name: str
    parameters: int
    work: Work
    peak: float
    points: tuple[Point, ...]


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
    budget_s: float = 1.5,
    progress: Callable[[str], object] | None = None,
) -> Pace:
    """Return how fast `model`, which the GGUF file at `path` holds, runs with the machine's threads.

    Each figure takes about `budget_s` seconds; a model that is too slow for a prompt of speed.PREFILL tokens gets a
    shorter one. Raises BadFileError for a file that run.c does not run, CompilerError without a C compiler.
    """
    config = model.config
    asked = work_of(model)
    tell = progress or (lambda what: None)
    context = min(config.context, config.sliding_window or config.context, speed.PREFILL)
    runner = Runner(
        path, vocab_size=config.vocab_size, context=context, sequences=SEQUENCES, threads=machine.all.threads
    )
    tell("decode")
    decode_s, steps = _stepwise(runner.decode, context, budget_s)
    tell(f"{SEQUENCES} sequences together")
    batch_s, batch_steps = _stepwise(runner.batch, context, budget_s)
    tell("prefill")
    prompt = _prompt(runner, context, budget_s)
    prompt_s = timed(runner.prefill(prompt), budget_s).seconds
    bandwidth, peak = limits(asked, machine)
    points = (
        speed.decode_point(
            "decode", asked, 1 / decode_s, position=steps // 2, bandwidth=bandwidth, peak=peak
        ),
        speed.decode_point(
            f"{SEQUENCES} together", asked, SEQUENCES / batch_s,
            position=batch_steps // 2, bandwidth=bandwidth, peak=peak, sequences=SEQUENCES,
        ),
        speed.prefill_point(
            f"prefill {prompt}", asked, prompt / prompt_s, tokens=prompt, bandwidth=bandwidth, peak=peak
        ),
    )  # fmt: skip
    return Pace(str(model.card.get("name", path.stem)), config.parameters, asked, peak, points)


def limits(work: Work, machine: Machine) -> tuple[float, float]:
    """Return the limits of a model: bytes per second at its size, operations per second in its instruction.

    Weights stored as floats are multiplied as float32, all others as int8.
    """
    floats = sum(size for kind, size in work.bytes.items() if kind in _FLOATS)
    peak = machine.all.float32 if 2 * floats > work.weight_bytes else machine.all.int8
    return machine.all.bandwidth_of(work.weight_bytes), 2 * peak


def _stepwise(
    make: Callable[[int, int], Callable[[], object]], context: int, budget_s: float
) -> tuple[float, int]:
    """Return the median seconds of a step, and how many steps were taken from position 0 on."""
    seconds(make(0, 1))
    once = seconds(make(0, 1))
    steps = max(1, min(_SHORT, context, math.ceil(_SAMPLE_S / once)))
    return timed(make(0, steps), budget_s).seconds / steps, steps


def _prompt(runner: Runner, context: int, budget_s: float) -> int:
    """Return how long a prompt can be so that three of them take about the budget, at most PREFILL."""
    most = min(speed.PREFILL, context)
    few = min(_LEAST_PROMPT, most)
    seconds(runner.prefill(few))
    token_s = seconds(runner.prefill(few)) / few
    possible = int(budget_s / 3 / token_s) // _LEAST_PROMPT * _LEAST_PROMPT
    return max(few, min(most, possible))
