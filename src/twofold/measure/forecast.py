"""How fast a model will write here, before it is there: a twin of it, with random weights, is tried.

Speed depends on a model's shape and on how its weights are stored, not on what it knows (synthetic.py). A
model that is small has a twin of its own shape. What is too large for that reads its weights from memory, and
takes as many times longer as it has more bytes than the largest twin of its type. Of a file that has not come
the shape is not known: it is taken for the published shape (speed.SIZES) that is nearest in size. A trial
takes one to three seconds and is kept while the program runs.

tests/soak/forecast_holds.py holds this against what is measured: within 15 % on a machine that does nothing
else; on one that is crowded both are luck. `twofold bench --size` predicts prompts, too.

Not covered: long context, prompts, several users, GPUs.
"""

import functools
import math
from dataclasses import replace

from twofold.base.errors import BadFileError, TwofoldError
from twofold.measure import calibration, machine, speed
from twofold.measure.timing import timed
from twofold.parameters import ModelConfig
from twofold.parameters.model import FILE_TYPES

STEPS = 4  # tokens of a trial, from the beginning of a text
_MOST_BYTES = 256_000_000  # of a twin's weights: beyond every cache
_TRIAL_S = 0.15
_PACKING = 1.12  # of run.c's layout of weights, at most
_CACHE = 0.05  # keys and values of a usual context, as a share of a usual model


def tokens_per_s(config: ModelConfig, type: str, threads: int | None = None) -> float:
    """Return about how many tokens per second a model of this shape and file type writes.

    `threads`: all cores by default. Raises TwofoldError for a type that run.c does not run, or without room
    for a twin; CompilerError.
    """
    type = type.upper().removesuffix("_S")
    weights = _weights(config, type)
    most = min(_MOST_BYTES, machine.available_bytes() // 8)
    twin = replace(config, context=128)
    if weights > most:
        layer = _weights(calibration.LARGE, type)
        twin = replace(calibration.LARGE, layers=max(1, most // layer), context=128)
    try:
        took = _trial(twin, type, threads or machine.cores())
    except (BadFileError, OSError) as error:
        raise TwofoldError(f"The speed of {type} cannot be tried here: {error}.") from error
    return _weights(twin, type) / weights / took


def of_file(file_bytes: int, type: str, parameters: int = 0, threads: int | None = None) -> float:
    """Return the same for a GGUF file of so many bytes, of which only type and size are known.

    `type`: "" where that is not known either; `parameters`: 0 where nobody says how many. Raises as
    tokens_per_s does.
    """
    type = type or "Q8_0"

    def apart(config: ModelConfig) -> float:
        size = config.parameters / parameters if parameters else speed.file_bytes(config, stored) / file_bytes
        return abs(math.log(size))

    stored = type.upper().removesuffix("_S")
    _known(stored)
    alike = min(speed.SIZES.values(), key=apart)
    return tokens_per_s(alike, stored, threads) * speed.file_bytes(alike, stored) / file_bytes


def memory_bytes(file_bytes: int) -> int:
    """Return about how much memory a model in a file of so many bytes needs to run."""
    return int((_PACKING + _CACHE) * file_bytes)


def _weights(config: ModelConfig, type: str) -> int:
    _known(type)
    return speed.work(config, speed.tensor_types(config, type)).weight_bytes


def _known(type: str) -> None:
    if type not in FILE_TYPES:
        raise TwofoldError(f"The speed of {type} cannot be tried here: twofold does not write it.")


@functools.lru_cache(maxsize=64)
def _trial(config: ModelConfig, type: str, threads: int) -> float:
    """Return the seconds that a token takes a model of random weights."""
    runner = calibration.random_runner(config, type, context=config.context, threads=threads)
    return timed(runner.decode(0, STEPS), _TRIAL_S, threads, tries=1).seconds / STEPS
