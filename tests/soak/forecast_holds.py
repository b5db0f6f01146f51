"""What `twofold pull` forecasts, and what is then measured: published shapes, and two that it does not know.

    python tests/soak/forecast_holds.py [--threads N] [--rounds 5]      about two minutes

In each round the twins are tried anew, and then a random model of the shape is measured. The median ratio of
forecast to measured decode must be within 15 %. A shape that it must guess from a file's size may be off by a
third. A round that other programs disturb is made again, as long as there is hope; where there is none, that
is said, and nothing is judged.
"""

import argparse
import statistics
import sys

from twofold.measure import calibration, forecast, machine, speed
from twofold.measure.timing import timed
from twofold.parameters import ModelConfig

MOST, GUESSED = 0.15, 0.33
SHAPES = {
    **{name: speed.shape(name) for name in ("15M", "110M", "1.1B")},
    "60M": speed._llama(512, 12, 8, 4, 1536, 49_152, tied=True),
    "360M": speed._llama(960, 32, 15, 5, 2560, 49_152, tied=True),
}
MODELS = [("15M", "Q8_0"), ("15M", "Q4_0"), ("60M", "Q8_0"), ("110M", "Q4_0"), ("110M", "Q8_0"),
          ("360M", "Q4_K_M"), ("360M", "Q8_0"), ("1.1B", "Q4_0"), ("1.1B", "Q8_0")]  # fmt: skip


def play_round(config: ModelConfig, kind: str, threads: int) -> tuple[float, float, float, bool]:
    """Return tokens per second as forecast, as guessed from the file's size, as measured; disturbed?."""
    forecast._trial.cache_clear()
    told = forecast.tokens_per_s(config, kind, threads)
    guess = forecast.of_file(speed.file_bytes(config, kind), kind, config.parameters, threads)
    runner = calibration.random_runner(config, kind, context=128, threads=threads)
    timing = timed(runner.decode(0, forecast.STEPS), 0.3, threads, 3)
    return told, guess, forecast.STEPS / timing.seconds, timing.disturbed


def main() -> None:
    """Print a line per model; leave with 1 when one is out of bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    bad = busy = 0
    for size, kind in MODELS:
        quiet: list[tuple[float, ...]] = []
        for _ in range(3 * chosen.rounds):
            *found, disturbed = play_round(SHAPES[size], kind, chosen.threads)
            quiet += [] if disturbed else [tuple(found)]
            if len(quiet) == chosen.rounds:
                break
        if not quiet:
            busy += 1
            continue
        right, near = (statistics.median(one[n] / one[2] for one in quiet) for n in (0, 1))
        told, guess, truth = (statistics.median(side) for side in zip(*quiet, strict=True))
        line = (
            f"{size:>5} {kind:<6} forecast {told:8,.0f} ({right:.2f})  by its size {guess:8,.0f} ({near:.2f})"
        )
        print(f"{line}  measured {truth:8,.0f} in {len(quiet)} rounds", flush=True)
        bad += not 1 - MOST <= right <= 1 + MOST or not 1 - GUESSED <= near <= 1 + GUESSED
    if busy:
        sys.exit(
            f"Other programs were busy during {busy} of {len(MODELS)}: come back when the machine is quiet."
        )
    sys.exit(f"{bad} forecasts out of bounds." if bad else 0)


if __name__ == "__main__":
    main()
