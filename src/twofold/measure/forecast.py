"""How fast a model will write here, before it is there: from how many bytes it reads for a token.

A token takes the time to read every weight once, and a little besides. The bandwidth is measured on first
use, for as many bytes as the model has (caches are faster than memory), and kept while the program runs.
This is a rough figure for people who wonder whether to download: `twofold bench --size` runs small models of
every kind of tensor first and is nearer, and takes longer. tests/soak/forecast_holds.py holds it against what
is measured; on a machine that is crowded both are luck.

Not covered: long context, prompts, several users, GPUs.
"""

import functools

from twofold.measure import machine, speed

REACHED = 0.9  # the share of the bandwidth that run.c makes use of
TOKEN_S = 50e-6  # what a token takes beside reading
_MOST_BYTES = 256_000_000  # beyond every cache; more would tell the same
_PACKING = 1.12  # of run.c's layout of weights, at most
_CACHE = 0.05  # keys and values of a usual context, as a share of a usual model


def tokens_per_s(weight_bytes: int, threads: int | None = None) -> float:
    """Return about how many tokens per second a model writes that has so many bytes of weights.

    `threads`: all cores by default. Raises TwofoldError without memory to measure, CompilerError.
    """
    reach = min(_MOST_BYTES, max(1 << 20, round(speed.CROWD * weight_bytes)))
    bandwidth = _bandwidth(1 << (reach - 1).bit_length(), threads or machine.cores())
    return 1 / (weight_bytes / (REACHED * bandwidth) + TOKEN_S)


def memory_bytes(file_bytes: int) -> int:
    """Return about how much memory a model in a file of so many bytes needs to run."""
    return int((_PACKING + _CACHE) * file_bytes)


@functools.cache
def _bandwidth(size: int, threads: int) -> float:
    """Return bytes per second for `size` bytes, a power of two so that few are ever measured."""
    return machine.bandwidth(min(size, machine.available_bytes() // 4), threads, 0.05)
