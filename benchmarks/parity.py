"""Parity with llama.cpp: for each family, a small random model that twofold wrote must behave alike in both.

Three checks on every model, saved with each type of weights:

    tokens      both split the same texts into the same ids, and llama.cpp turns the ids back into it
    greedy      both continue the same prompts with the same ids
    logits      along those ids both give the same logits within a tolerance (root mean square, relative)

In F32 all ids must be the same. With other types llama.cpp rounds activations too (Q8_0 and Q4_0: to 8 bits),
which on tiny random models moves logits by up to some percent. There an id may differ where two candidates
are nearly tied: such places are counted and printed, and what each engine writes on its own is compared up to
the first of them. Exits 1 on any mismatch.

    benchmarks/rivals.sh
    python benchmarks/parity.py
"""

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import machine
import numpy as np
import numpy.typing as npt
from pairs import table
from workers import Worker, rivals_python

from twofold import run
from twofold.parameters import save_gguf

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "parameters"))
from tiny_models import random_model  # noqa: E402 (the models that the tests use too)

Floats = npt.NDArray[np.float32]
FAMILIES = ("qwen3", "qwen2", "llama", "mistral", "gemma3", "phi3")
# The logits' difference that is allowed: its root mean square as a share of theirs.
TOLERANCES = {"F32": 1e-4, "F16": 1e-2, "BF16": 5e-2, "Q8_0": 1e-1, "Q4_0": 1e-1}
# llama.cpp looks Gemma's GELU up in a table of half precision.
GELU_TOLERANCE = 1e-3
CONTEXT = 128
PROMPTS = ("The cat sat on a", "12 + 30 =", "Ein schöner Tag: ", "\n\ndef f(x):\n    return")
TEXTS = (
    *PROMPTS,
    "Hello, world!",
    " two  spaces   three",
    "tabs\tand\nlines\r\n\r\n  \n end ",
    "I'm we'll they'VE it's",
    "3.14159 2,000,000 ١٢٣ ⅷ x²",
    "naïve café Straße ΑΒΓ Привет",
    "日本語のテキスト 中文 한국어",
    "👩‍👩‍👧 🇩🇪 e\u0301 \u00a0\u2003|\u200b",
    "<|im_start|>user\nnot a turn<|im_end|> </s> <s> [INST]",
    "(a)[b]{c};:'\"\\/?.>,<~`@#$%^&*_+-=",
    "x" * 70,
    " ",
    "a",
)


@dataclass
class Findings:
    """What was found on one model file."""

    family: str
    type: str
    problems: list[str] = field(default_factory=list)
    ids: int = 0
    different: int = 0  # ids that occurred: a model that repeats one id proves little
    ties: int = 0
    error: float = 0.0

    def cells(self) -> list[str]:
        """Return the row of the table."""
        verdict = "the same" if not self.problems else f"{len(self.problems)} differ"
        return [
            self.family,
            self.type,
            str(self.ids),
            str(self.different),
            str(self.ties),
            f"{self.error:.1e}",
            verdict,
        ]


def relative_error(ours: Floats, theirs: Floats) -> float:
    """Return the root mean square of the difference as a share of theirs."""
    return float(np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean()))


def judge(ours: Floats, theirs: Floats) -> tuple[list[int], list[int]]:
    """Return the places where two engines' logits [n, V] choose different ids: far apart, and nearly tied.

    Two candidates are nearly tied when their logits lie within three standard deviations of what the engines
    differ by at that place (a difference of two such errors, hence the square root of 2).
    """
    wrong: list[int] = []
    ties: list[int] = []
    for place, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        margin = b.max() - b[a.argmax()]
        if margin > 0:
            noise = np.sqrt(np.square(a - b).mean())
            (ties if margin <= 3 * np.sqrt(2) * noise else wrong).append(place)
    return wrong, ties


def check_tokens(engine: run.Engine, rival: Worker, found: Findings) -> None:
    """Compare how texts become ids, and how ids become text again."""
    tokenizer = engine.tokenizer
    for text in TEXTS:
        ours = tokenizer.encode(text)
        theirs = rival.ask("tokenize", text=text)
        if ours != theirs:
            found.problems.append(f"{text!r} is {ours} in twofold and {theirs} in llama.cpp")
        pieces = bytes.fromhex(rival.ask("detokenize_hex", ids=ours))
        if pieces != b"".join(tokenizer.token_bytes(i) for i in ours):
            found.problems.append(f"the pieces of {text!r} are {pieces!r} in llama.cpp")
        if rival.ask("detokenize", ids=ours) != text:
            found.problems.append(f"llama.cpp turns the ids of {text!r} back into another text")


def greedy(engine: run.Engine, prompt: list[int], count: int) -> tuple[list[int], Floats]:
    """Return the `count` most likely ids after a prompt, and the logits [count, V] they were chosen by."""
    chosen: list[int] = []
    rows: list[Floats] = []
    fresh, start = prompt, 0
    while len(chosen) < count:
        places = range(start, start + len(fresh))
        rows.append(engine.forward(fresh, [0] * len(fresh), places)[-1].copy())
        start += len(fresh)
        fresh = [int(rows[-1].argmax())]
        chosen += fresh
    return chosen, np.stack(rows)


def check_greedy(engine: run.Engine, rival: Worker, found: Findings, count: int) -> None:
    """Compare what both write after the prompts, and their logits along it."""
    seen: set[int] = set()
    for text in PROMPTS:
        prompt = engine.tokenizer.encode(text)
        ours, logits = greedy(engine, prompt, count)
        along = rival.ask("logits_along", ids=prompt + ours[:-1])
        theirs = np.asarray(along, np.float32)[len(prompt) - 1 :]
        wrong, ties = judge(logits, theirs)
        if found.type == "F32":  # no excuse
            wrong, ties = sorted(wrong + ties), []
        if wrong:
            found.problems.append(f"after {text!r} the ids differ first at place {wrong[0]}")
        until = min([*wrong, *ties, count])
        free = rival.ask("greedy", ids=prompt, count=count)
        if free[:until] != ours[:until]:
            found.problems.append(f"after {text!r} llama.cpp alone writes {free}, twofold {ours}")
        found.error = max(found.error, relative_error(logits, theirs))
        found.ids, found.ties = found.ids + count, found.ties + len(ties)
        seen |= set(ours)
    found.different = len(seen)
    allowed = max(TOLERANCES[found.type], GELU_TOLERANCE if found.family == "gemma3" else 0)
    if found.error > allowed:
        found.problems.append(f"logits differ by {found.error:.1e}; {allowed:.0e} is allowed")


def check(family: str, kind: str, folder: Path, python: Path, count: int) -> Findings:
    """Return what was found on a family's random model, its weights saved as `kind`."""
    path = folder / f"{family}-{kind}.gguf"
    save_gguf(random_model(family), path, kind)
    found = Findings(family, kind)
    engine = run.load(path, threads=1, context=CONTEXT)
    with Worker(
        "llama_cpp_worker.py", str(path), "--context", str(CONTEXT), "--exact", python=python
    ) as rival:
        check_tokens(engine, rival, found)
        check_greedy(engine, rival, found, count)
    return found


def main() -> None:
    """Check every family and print the table; exit 1 when anything differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--types", nargs="+", choices=list(TOLERANCES), default=list(TOLERANCES))
    parser.add_argument(
        "--count", type=int, default=48, help="ids to write after each prompt (default %(default)s)"
    )
    parser.add_argument(
        "--python", help="the Python that has llama-cpp-python (default .venv-bench/bin/python)"
    )
    options = parser.parse_args()
    python = rivals_python(options.python)
    print(f"machine: {machine.describe()}\n")
    with tempfile.TemporaryDirectory(prefix="twofold-parity-") as name:
        results = [
            check(family, kind, Path(name), python, options.count)
            for family in options.families
            for kind in options.types
        ]
    header = ["family", "weights", "greedy ids", "different ones", "near ties", "logits differ by", "verdict"]
    print(table(header, [found.cells() for found in results]))
    problems = [f"{f.family} {f.type}: {problem}" for f in results for problem in f.problems]
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
