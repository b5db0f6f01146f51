"""libFuzzer over run.c: ten minutes of model files and ten of prompts, under ASan and UBSan.

    python tests/soak/fuzz_run.py [--minutes 10] [--keep FOLDER]

Needs clang. Both targets run side by side, one core each. A crash stops it, prints what the sanitizer said
and leaves the input in FOLDER/crashes; once mended, that input belongs into tests/fuzz/corpus, which CI
replays.
`--merge` writes the smallest inputs that reach all that was reached into FOLDER/gguf.small and prompt.small.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FUZZ = ROOT / "tests" / "fuzz"
GOLDEN = ROOT / "tests" / "golden" / "model.gguf"
TARGETS = {"gguf": 16384, "prompt": 400}  # the longest input of each, in bytes


def build(target: str, folder: Path) -> Path:
    """Return the compiled fuzzer."""
    out = folder / f"fuzz_{target}"
    flags = ["-std=gnu11", "-g", "-O1", "-fno-omit-frame-pointer", "-fsanitize=fuzzer,address,undefined"]
    flags += ["-fno-sanitize-recover=all", f"-DFUZZ_{target.upper()}"]
    subprocess.run(
        ["clang", *flags, str(FUZZ / "fuzz_run.c"), "-o", str(out), "-lm", "-lpthread"], check=True
    )
    return out


def start(target: str, folder: Path, seconds: int) -> subprocess.Popen[bytes]:
    """Start a fuzzer; its words go to FOLDER/TARGET.log."""
    found, crashes = folder / f"{target}.found", folder / "crashes"
    found.mkdir(exist_ok=True)
    crashes.mkdir(exist_ok=True)
    command = [str(build(target, folder)), str(found), str(folder / target), str(FUZZ / "corpus" / target)]
    command += [
        f"-max_total_time={seconds}",
        f"-max_len={TARGETS[target]}",
        "-rss_limit_mb=4096",
        "-timeout=20",
    ]
    command += [f"-artifact_prefix={crashes}/", "-print_final_stats=1"]
    if target == "gguf":
        command.append(f"-dict={folder / 'gguf.dict'}")
    with (folder / f"{target}.log").open("wb") as log:
        return subprocess.Popen(command, stderr=log, stdout=log, env=environment())


def environment() -> dict[str, str]:
    """Return the environment of a fuzzer: its model, and a calloc that may fail as in real life."""
    return {**os.environ, "TWOFOLD_FUZZ_MODEL": str(GOLDEN), "ASAN_OPTIONS": "allocator_may_return_null=1"}


def merge(target: str, folder: Path) -> int:
    """Write the smallest set of inputs that reaches what all of them reach; return how many there are."""
    small = folder / f"{target}.small"
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir()
    command = [str(folder / f"fuzz_{target}"), "-merge=1", str(small), str(folder / f"{target}.found")]
    command += [str(folder / target), str(FUZZ / "corpus" / target)]
    subprocess.run(command, check=True, env=environment(), capture_output=True)
    return len(list(small.iterdir()))


def main() -> int:
    """Fuzz; exit code 0 when nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keep", type=Path, help="where inputs and crashes go (default: a temporary folder)")
    parser.add_argument("--merge", action="store_true", help="afterwards, pick the smallest set of inputs")
    options = parser.parse_args()
    if not shutil.which("clang"):
        print("fuzz_run: skipped: clang, which brings libFuzzer, is not installed.")
        return 0
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="twofold-fuzz-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, str(FUZZ / "seeds.py"), str(folder)], check=True)
    print(f"Fuzzing run.c for {options.minutes:g} minutes; inputs and crashes go to {folder}.", flush=True)
    running = {target: start(target, folder, int(60 * options.minutes)) for target in TARGETS}
    bad = 0
    for target, process in running.items():
        code = process.wait()
        log = (folder / f"{target}.log").read_text(errors="replace")
        runs = re.search(r"stat::number_of_executed_units: (\d+)", log)
        reached = re.findall(r"cov: (\d+)", log)
        verdict = "clean" if code == 0 else f"exit {code}"
        edges = reached[-1] if reached else "?"
        print(f"{target}: {int(runs[1]) if runs else 0:,} inputs, {edges} edges reached, {verdict}")
        if code:
            bad = 1
            print(log[-6000:])
        elif options.merge:
            print(f"{target}: {merge(target, folder)} inputs reach all of it")
    return bad


if __name__ == "__main__":
    sys.exit(main())
