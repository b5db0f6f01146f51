"""Is every answer under a JSON schema valid, and what does keeping to it cost?

    python benchmarks/constrained.py [--model MODEL] [--schemas 1000] [--threads 2] [--together 1 8]

Schemas made at random (tests/run/schemas.py): a model (by default the one in the box) answers under each, at
temperature 0.8, and what it says is checked by code that shares nothing with the grammar. In turns, with the
same number of tokens: without a grammar, with masks alone (what is forced is asked of the model, too), and as
twofold does it; guesses (speculation) are off, as how often they are right is another question. Overhead: the
time beside that without a grammar, median of the rounds' ratios; what it takes to make a grammar, once per
schema, is told apart.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from machine import describe
from pairs import figure, table

from twofold import run
from twofold.run import Sampler, box
from twofold.run.batcher import Ask, Batcher
from twofold.run.constraints import Constraint, Grammars

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "run"))
from schemas import fault, make  # noqa: E402 (the schemas that the tests use too)

MOST = 900  # tokens of an answer; no schema made here needs as many
ROUND = 40  # schemas between two turns
NEVER = (1 << 30,)  # no token ends the answer


class Unforced:
    """A constraint that keeps to itself what must come."""

    def __init__(self, inner: Constraint) -> None:
        self.mask, self.take, self._inner = inner.mask, inner.take, inner

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return self._inner.done

    def forced(self) -> list[int]:
        """Return nothing."""
        return []


class Bench:
    """A batcher with so many sequences, and what it is asked."""

    def __init__(self, path: Path, threads: int, sequences: int) -> None:
        engine = run.load(path, threads=threads, context=MOST + 64, sequences=sequences)
        self.tokenizer, self.batcher = engine.tokenizer, Batcher(engine, waiting=ROUND)
        self.batcher._pacer.length = lambda: 0  # no guesses
        self.grammars = Grammars(self.tokenizer)
        self.prompt = self.tokenizer.encode("A record in JSON:\n")

    def write(
        self, seeds: list[int], lengths: list[int] | None, forced: bool
    ) -> tuple[float, list[list[int]]]:
        """Return the seconds and the answers; `lengths`: without a grammar, so many tokens each."""
        start, asked = time.perf_counter(), []
        for place, seed in enumerate(seeds):
            how = {"ids": self.prompt, "sampler": Sampler(temperature=0.8, seed=seed)}
            if lengths:
                asked.append(self.batcher.submit(Ask(**how, max_tokens=lengths[place], stop_ids=NEVER)))
                continue
            constraint = self.grammars.json_schema(make(seed))
            given = constraint if forced else Unforced(constraint)
            asked.append(self.batcher.submit(Ask(**how, max_tokens=MOST, constraint=given)))
        answers = [[step.id for step in answering] for answering in asked]
        return time.perf_counter() - start, answers

    def valid(self, seed: int, ids: list[int]) -> bool:
        """Return whether an answer is valid under its schema; says what is wrong."""
        stops = self.tokenizer.stop_ids
        text = self.tokenizer.decode_bytes(token for token in ids if token not in stops).decode()
        try:
            wrong = fault(json.loads(text), make(seed))
        except ValueError as error:
            wrong = str(error)
        if wrong:
            print(f"schema {seed}: {wrong}\n  {text[:300]}")
        return not wrong


def main() -> None:
    """Print the share of valid answers and the overhead."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=box.path())
    parser.add_argument("--schemas", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--together", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    print(describe())
    rows, making_s = [], []
    for together in options.together:
        bench = Bench(options.model, options.threads, together)
        bench.write([0], None, True)  # the vocabulary is made ready, the weights packed
        valid = tokens = chosen = 0
        sums, ratios = [0.0, 0.0, 0.0], [[], []]
        for first in range(0, options.schemas, ROUND):
            seeds = list(range(first, min(first + ROUND, options.schemas)))
            for seed in seeds:
                start = time.perf_counter()
                bench.grammars.json_schema(make(seed))
                making_s.append(time.perf_counter() - start)
            masked_s, masked = bench.write(seeds, None, False)
            steps = bench.batcher.figures()["steps"]
            forced_s, forced = bench.write(seeds, None, True)
            chosen += bench.batcher.figures()["steps"] - steps
            free = [bench.write(seeds, [len(ids) for ids in side], True)[0] for side in (masked, forced)]
            valid += sum(
                bench.valid(seed, ids)
                for side in (masked, forced)
                for seed, ids in zip(seeds, side, strict=True)
            )
            tokens += sum(map(len, forced))
            ratios[0].append(masked_s / free[0])
            ratios[1].append(forced_s / free[1])
            for place, seconds in enumerate((free[1], masked_s, forced_s)):
                sums[place] += seconds
        overhead = [f"{100 * (sorted(side)[len(side) // 2] - 1):+.1f} %" for side in ratios]
        share = 100 * valid / (2 * options.schemas)
        rows.append(
            [together, f"{share:.1f} %", figure(tokens / sums[0]), *overhead, figure(tokens / max(1, chosen))]
        )
        bench.batcher.close()
    header = [
        "answers at once",
        "valid",
        "tokens/s without a grammar",
        "overhead of masks",
        "with what is forced",
    ]
    print(table([*header, "tokens per pass"], rows))
    making_s.sort()
    middle, last = making_s[len(making_s) // 2], making_s[int(len(making_s) * 0.99)]
    print(f"to make a grammar: median {1e3 * middle:.2f} ms, 99 of 100 within {1e3 * last:.1f} ms")


if __name__ == "__main__":
    main()
