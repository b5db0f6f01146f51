"""Chinchilla's scaling law, fitted anew to the runs that its paper shows, beside the published replication.

    python benchmarks/chinchilla_refit.py           compares; exits 1 when a number is not within its interval
    python benchmarks/chinchilla_refit.py --write   also writes the fit that `twofold plan` uses

The runs are read off figure 4 of Hoffmann et al. 2022 (arXiv:2203.15556) by Besiroglu et al. 2024
(arXiv:2404.10102), who published the file; it lies in the test data. They leave out the five runs with the
fewest tokens per weight (less than 0.45), whose losses stand far from all others.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path

from pairs import table

from twofold.base.files import write_text
from twofold.measure import scaling

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TWOFOLD_DATA", ROOT.parent / "shared/data")) / "scaling"
LAW = ROOT / "src" / "twofold" / "measure" / "laws" / "chinchilla.json"
OUTLIERS = 5
PUBLISHED = {  # table 2 of the replication: estimate, standard error
    "E": (1.8172, 0.03),
    "A": (482.01, 124.58),
    "B": (2085.43, 1293.23),
    "alpha": (0.3478, 0.02),
    "beta": (0.3658, 0.02),
}
KEPT = 200  # fits to drawings that the law's file keeps


def runs(path: Path) -> tuple[list[float], list[float], list[float]]:
    """Return weights, tokens and losses of the runs that count."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [
            (float(row["Model Size"]), float(row["Training FLOP"]), float(row["loss"]))
            for row in csv.DictReader(file)
        ]
    found = sorted(((n, c / 6 / n, loss) for n, c, loss in rows), key=lambda run: run[1] / run[0])[OUTLIERS:]
    weights, tokens, losses = (list(column) for column in zip(*found, strict=True))
    return weights, tokens, losses


def main() -> None:
    """Fit, compare, and write if asked to."""
    parser = argparse.ArgumentParser(description="Fit Chinchilla's runs and compare with the replication.")
    parser.add_argument("--data", type=Path, default=DATA / "chinchilla_svg_extracted_data.csv")
    parser.add_argument("--write", action="store_true", help=f"write {LAW.relative_to(ROOT)}")
    options = parser.parse_args()
    if not options.data.is_file():
        sys.exit(f"There is no {options.data}; set TWOFOLD_DATA or give --data.")
    found = scaling.fit(*runs(options.data), bootstraps=1000)
    rows, good = [], True
    for name, (value, error) in PUBLISHED.items():
        mine = getattr(found.law, name)
        low, high = found.interval(name)
        inside = abs(mine - value) < 1.96 * error and low < value < high
        good &= inside
        digits = 2 if value > 100 else 4
        rows.append([
            name, f"{value:.{digits}f} ± {error}", f"{mine:.{digits}f} ± {found.error(name):.{digits}f}",
            f"{low:.{digits}f} to {high:.{digits}f}", "yes" if inside else "NO",
        ])  # fmt: skip
    print(table(["", "published", "here", "here, 95 %", "agree"], rows))
    if options.write:
        short = scaling.Fit(found.law, found.again[:KEPT], found.residuals)
        record = {
            "law": short.record()["law"],
            "again": [[float(f"{number:.6g}") for number in law] for law in short.record()["again"]],
            "residuals": [round(one, 6) for one in short.residuals],
        }
        write_text(LAW, json.dumps(record, separators=(",", ":")) + "\n")
        print(f"wrote {LAW.relative_to(ROOT)}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
