"""Damaged bytes for the parsers of devices: documents, pages, drawings, tables, sums, addresses.

    python tests/soak/devices_fuzz.py [--minutes 10] [--seed 0]

Each parser gets damaged copies of good inputs. It may read them or refuse them in its own error, within five
seconds of processor time; anything else is a finding: the input is kept in the folder named at the end.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "devices"))
from test_device_browser import APP, PAGE
from test_device_documents import PAGE as RICH
from test_device_documents import W, a_pdf, a_word_file, mutants, paragraph, rezipped
from test_device_draw import HOUSE, harmless
from test_device_plot import TABLE

from twofold.base.errors import BadFileError
from twofold.devices import _documents, _drawings, _expressions, _pages, _tables, _units, _web
from twofold.devices import table as fill_table
from twofold.devices._numbers import CalculationError
from twofold.kernel.device import Context, DeviceError

_MOST_S = 5.0
WORD = "".join(
    paragraph(text, style) for text, style in (("Plan", "Heading1"), ("A &amp; b", ""), ("c", "Heading9"))
)
INNER = f'<w:document xmlns:w="{W}"><w:body>{WORD}</w:body></w:document>'
SUMS = (
    "max(3, 4.5e2) * sqrt(2) ^ 3 + 15%",
    "90 km / 1 h 30 min in km/h",
    "17 mod 5 // 2 - 3! * 0xff",
    "20 °C in °F",
)


def pdf(data: bytes) -> None:
    found = _documents.pages_of_pdf(data)
    assert found.keys() in ({"pages", "title"}, {"error"})


def drawing(data: bytes) -> None:
    harmless(_drawings.check(data.decode("utf-8", "replace")).svg)


def expression(data: bytes) -> None:
    _units.amount(_expressions.evaluate(data.decode("utf-8", "replace")))


def table(data: bytes) -> None:
    for row in _tables.rows(data.decode("utf-8", "replace")):
        for cell in row.values():
            _tables.date(cell)
            try:
                _tables.number(cell)
            except ValueError:
                continue


def filled(data: bytes) -> None:
    formula, _, text = data.decode("utf-8", "replace").partition("\n")
    arguments = {"table": text, "column": "Valuation", "formula": formula}
    found = fill_table.open({}).call("fill", arguments, Context(pid=1, workspace=Path("none"), call="c"))
    assert len(_tables.rows(found.text or "")) == len(found.value)


PARSERS: dict[str, tuple[list[bytes], Callable[[bytes], object]]] = {
    "pdf": ([a_pdf("One line", "Two lines\nhere")], pdf),
    "docx": ([a_word_file(WORD)], lambda data: _documents.parse(data, "docx", "a")),
    "xml": ([INNER.encode()], lambda data: _documents.parse(rezipped(data), "docx", "a")),
    "html": ([RICH, PAGE.encode(), APP.encode()], lambda data: _pages.parse(data, None, "http://h/")),
    "svg": ([HOUSE.encode()], drawing),
    "expression": ([text.encode() for text in SUMS], expression),
    "table": ([TABLE.encode(), b'[{"a": 1, "b": "$2M"}]', b"a;b\n1;Mar 2020\n"], table),
    "filled": ([b"Raised, $M * mean(Valuation / Raised, $M)\n" + TABLE.encode(),
                b"max(a, b) + sum(a)\na;b;Valuation\n1;2;\n$3M;?;9\n"], filled),
    "address": ([b"https://example.org:80/a/b?c=d#e"],
                lambda data: _web.address(data.decode("utf-8", "ignore"))),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, seed, found = time.monotonic() + 60 * options.minutes, options.seed, 0
    counts = {name: [0, 0] for name in PARSERS}
    kept = Path(tempfile.gettempdir()) / "twofold-devices-fuzz"
    while time.monotonic() < end:
        seed += 1
        for name, (seeds, parse) in PARSERS.items():
            for data in mutants(random.Random(seed).choice(seeds), 20 if name != "pdf" else 5, seed):
                began = time.process_time()
                counts[name][0] += 1
                try:
                    parse(data)
                    counts[name][1] += 1
                except (BadFileError, DeviceError, CalculationError):
                    pass
                except Exception as error:
                    found += 1
                    print(f"{name}: {type(error).__name__}: {error}", flush=True)
                    kept.mkdir(exist_ok=True)
                    (kept / f"{name}-{seed}-{found}").write_bytes(data)
                if time.process_time() - began > _MOST_S:
                    found += 1
                    print(f"{name}: {time.process_time() - began:.1f} s", flush=True)
                    kept.mkdir(exist_ok=True)
                    (kept / f"{name}-{seed}-{found}-slow").write_bytes(data)
    for name, (tried, read) in counts.items():
        print(f"{name}: {tried:,} inputs, {read:,} read, the others refused")
    print(f"{found} findings" + (f", kept in {kept}" if found else ""))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
