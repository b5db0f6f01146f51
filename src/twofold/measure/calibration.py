"""The rates of `speed`, fitted to how long run.c takes for small models with random weights.

Narrow models, in one type, tell what a token, a layer, an element and a row cost; for each tensor type, a
model that fits into the cache, one that does in part, and a wider one that does not tell what reading and
multiplying cost. Their files are temporary, and gone before the clock starts.

Not covered: types that run.c does not read; they get no rates.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from twofold.base.errors import BadFileError
from twofold.measure import machine, speed, synthetic
from twofold.measure.speed import Rates, Terms
from twofold.measure.timing import Runner, Timing, timed
from twofold.parameters import ModelConfig

SHORT = 64  # tokens of a prompt in which attention does not show
LARGE_BYTES = 256_000_000  # of a model that fits into no cache but that of a large server,
CACHES = 2  # ... where it is so many times the largest cache: then little of it stays there
FAR = 248  # a position at which it shows
STEPS = 8  # tokens of a decode that is timed
_MEMORY = Path("/dev/shm")  # files that never reach a disk, on Linux


def _config(width: int, layers: int, heads: int, kv_heads: int, ffn: int, vocab: int) -> ModelConfig:
    return ModelConfig(
        architecture="llama", vocab_size=vocab, layers=layers, width=width, heads=heads, kv_heads=kv_heads,
        head_dim=width // heads, ffn=ffn, context=512, tied=True,
    )  # fmt: skip


NARROW = (  # one layer, many layers, many rows, and the way to wider ones
    _config(64, 1, 1, 1, 192, 512),
    _config(64, 24, 1, 1, 192, 512),
    _config(64, 1, 1, 1, 192, 16384),
    _config(256, 8, 4, 4, 768, 512),
)
NARROW_TYPE = "Q8_0"
SMALL = _config(512, 4, 8, 8, 1536, 512)
LARGE = _config(1024, 1, 16, 4, 2816, 512)  # as many layers as make it too large for the cache
WIDE = _config(1792, 1, 28, 4, 4864, 512)  # and a prompt's activations leave a core's own cache


@dataclass(frozen=True)
class Calibration:
    """The rates, and whether other programs were busy while they were measured (then they are too slow)."""

    rates: Rates
    disturbed: bool


@dataclass(frozen=True)
class Effort:
    """How thoroughly to measure.

    `large_bytes`: of a model beyond the cache, None for one that surely is; `prompt`: its tokens; `seconds`:
    for each timing; `tries`: how often one is made when other programs disturb it.
    """

    large_bytes: int | None = None
    prompt: int = 512
    seconds: float = 0.15
    tries: int = 3


QUICK = Effort(large_bytes=64_000_000, prompt=64, seconds=0.03, tries=1)


def calibrate(
    threads: int,
    types: Iterable[str],
    effort: Effort = Effort(),
    progress: Callable[[str], object] | None = None,
) -> Calibration:
    """Return the rates of run.c on this machine with so many threads, for these tensor types.

    `progress` is called with what is timed next. Raises CompilerError, OSError when there is no room for the
    models.
    """
    decode: list[tuple[Terms, float]] = []
    prefill: list[tuple[Terms, float]] = []
    disturbed = False
    room = machine.available_bytes() // 8  # the file, the weights as run.c lays them out, and others' needs
    beyond = effort.large_bytes or max(LARGE_BYTES, CACHES * machine.cache_bytes())
    for config, kind in models(list(dict.fromkeys(types)), min(beyond, room)):
        if progress is not None:
            progress(f"random weights in {kind}, width {config.width}, {config.layers} layers")
        with contextlib.suppress(BadFileError):  # run.c does not read the type: no rates
            for into, terms, timing, tokens in _timed(config, kind, threads, effort):
                (decode if into == "decode" else prefill).append((terms, timing.seconds / tokens))
                disturbed |= timing.disturbed
    return Calibration(Rates(speed.fit(decode), speed.fit(prefill)), disturbed)


def models(types: Sequence[str], large_bytes: int) -> Iterator[tuple[ModelConfig, str]]:
    """Yield the shape and file type of each model to time; the largest weigh about `large_bytes`."""
    for config in NARROW:
        yield config, NARROW_TYPE
    for kind in types:
        yield SMALL, kind
        for config, size in ((LARGE, large_bytes / 4), (WIDE, large_bytes)):
            layer = speed.work(config, speed.tensor_types(config, kind)).weight_bytes
            yield replace(config, layers=max(1, round(size / layer))), kind


def _timed(
    config: ModelConfig, kind: str, threads: int, effort: Effort
) -> Iterator[tuple[str, Terms, Timing, int]]:
    """Yield each timing of one model: decode or prefill, its terms, the timing, and of how many of them.

    The bandwidth is measured beside it, since that of a machine which others share changes by the minute.
    """
    asked = speed.work(config, speed.tensor_types(config, kind))
    runner = random_runner(config, kind, context=config.context, threads=threads)
    fetched = machine.bandwidth(speed.reach(asked), threads, effort.seconds / 3)
    for start in (0, FAR):
        timing = timed(runner.decode(start, STEPS), effort.seconds, threads, effort.tries)
        yield "decode", speed.decode_terms(asked, start + STEPS // 2, fetched), timing, STEPS
    for tokens in (effort.prompt,) if config.width >= LARGE.width else (SHORT, config.context):
        timing = timed(runner.prefill(tokens), effort.seconds, threads, effort.tries)
        yield "prefill", speed.prefill_terms(asked, tokens), timing, 1


def random_runner(config: ModelConfig, type: str, *, context: int, threads: int) -> Runner:
    """Return a runner of a model with random weights, whose file is gone when this returns.

    The file lies in memory where the system has a place for such; the runner's mapping outlives its name, so
    nothing is left behind even when the program is killed while it measures. Raises BadFileError when run.c
    does not read the type, OSError when there is no room.
    """
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > 2 * speed.file_bytes(config, type)
    with tempfile.TemporaryDirectory(prefix="twofold-", dir=_MEMORY if roomy else None) as folder:
        path = synthetic.write(config, Path(folder) / "model.gguf", type)
        return Runner(path, vocab_size=config.vocab_size, context=context, threads=threads)
