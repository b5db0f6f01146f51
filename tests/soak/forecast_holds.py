"""What `twofold pull` forecasts, and what is then measured, for random models of published shapes.

    python tests/soak/forecast_holds.py [--threads N] [--rounds 5]

The forecast knows only how many bytes a model has, so it is held to a factor: the median ratio of forecast to
measured decode must lie between 0.6 and 1.67. Run it on a machine that does nothing else.
"""

import argparse
import statistics
import sys

from twofold.measure import calibration, forecast, machine, speed
from twofold.measure.timing import timed

STEPS = 8
MODELS = (("15M", "Q8_0"), ("110M", "Q4_0"), ("110M", "Q8_0"), ("1.1B", "Q4_0"))


def ratio(size: str, kind: str, threads: int) -> tuple[float, float]:
    """Return the forecast and the measured tokens per second of a random model."""
    config = speed.shape(size)
    weights = speed.work(config, speed.tensor_types(config, kind)).weight_bytes
    runner = calibration.random_runner(config, kind, context=128, threads=threads)
    timing = timed(runner.decode(0, STEPS), 0.3, threads, 3)
    forecast._bandwidth.cache_clear()
    return forecast.tokens_per_s(weights, threads), STEPS / timing.seconds


def main() -> None:
    """Print a line per model; leave with 1 when one is out of bounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    bad = 0
    for size, kind in MODELS:
        both = [ratio(size, kind, chosen.threads) for _ in range(chosen.rounds)]
        middle = statistics.median(told / found for told, found in both)
        told, found = (statistics.median(side) for side in zip(*both, strict=True))
        print(
            f"{size:>5} {kind:<5} forecast {told:8,.0f}  measured {found:8,.0f}  ratio {middle:.2f}",
            flush=True,
        )
        bad += not 0.6 <= middle <= 1.67
    sys.exit(f"{bad} forecasts out of bounds." if bad else 0)


if __name__ == "__main__":
    main()
