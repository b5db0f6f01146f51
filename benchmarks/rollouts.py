"""How fast are answers written to learn from, and how far is the engine from torch?

    python benchmarks/rollouts.py [--model MODEL] [--attempts 256] [--threads 2]

A model (by default the one in the box) answers arithmetic problems, so many attempts side by side, sampled at
temperature 1: through run.c with the weights in float32, bfloat16 and 8 bits (the making of the engine
included, as it is made anew each round), and through transformers' `generate` with its key/value cache, as
trainers built on it do. In turns, medians of three. Mismatch: mean and most of the distance between the
engine's log-probability of an answer token and that of the torch network that learns, in nats.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import describe

from twofold.environments import TASKS, draw
from twofold.measure.attempts import Prompts
from twofold.parameters import Model, save_hf
from twofold.run import Answer, answers, box, open_model
from twofold.train.export import from_model
from twofold.train.parent import open_parent
from twofold.train.policy import Sample, log_probabilities, pack

KINDS = ("F32", "BF16", "Q8_0")
TOKENS = 24
ROUNDS = 3


def by_engine(model: Model, kind: str, prompts: list[list[int]], threads: int) -> list[Answer]:
    """Return answers by run.c."""
    engine = open_model(model, file_type=kind, threads=threads, sequences=64, context=256)
    return answers(engine, prompts, max_tokens=TOKENS, seeds=range(len(prompts)))


def by_transformers(model: Model, folder: Path) -> Callable[[list[list[int]]], int]:
    """Return a function that answers by transformers and says how many tokens it wrote."""
    from transformers import AutoModelForCausalLM

    save_hf(model, folder, "F32")
    net = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    stop = sorted(model.tokenizer.stop_ids)

    def write(prompts: list[list[int]]) -> int:
        written = 0
        longest = max(map(len, prompts))
        for start in range(0, len(prompts), 64):
            part = prompts[start : start + 64]
            ids = torch.tensor([[stop[0]] * (longest - len(p)) + p for p in part])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in part])
            made = net.generate(
                ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=TOKENS, eos_token_id=stop, pad_token_id=stop[0],
            )[:, longest:]  # fmt: skip
            for row in made.tolist():
                written += next((n for n, token in enumerate(row, 1) if token in stop), len(row))
        return written

    return write


def mismatch(model: Model, prompts: list[list[int]], found: list[Answer]) -> tuple[float, float]:
    """Return mean and most of the distances of log-probabilities, engine against torch, in nats."""
    net = from_model(model)
    samples = [Sample(p, one.ids, one.log_p) for p, one in zip(prompts, found, strict=True)]
    gaps = []
    with torch.no_grad():
        for micro in pack(samples, rows=16, most=256, separator=0):
            gaps.append((log_probabilities(net, micro.batch) - micro.log_p_A).abs())
    gap = torch.cat(gaps)
    return float(gap.mean()), float(gap.max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a run folder (float weights) or a file; default: the box")
    parser.add_argument("--attempts", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = open_parent(options.model or box.path())
    task, reader = TASKS.get("arithmetic"), Prompts(model.tokenizer)
    problems = draw(task, -(-options.attempts // 8), seed=0, split="train")
    prompts = [reader.ids(task.begin(p)) for p in problems for _ in range(8)]
    print(f"{describe()}; {model.config.parameters / 1e6:.2f}M parameters, {len(prompts)} attempts")
    times: dict[str, list[float]] = {name: [] for name in (*KINDS, "transformers")}
    written: dict[str, int] = {}
    found: dict[str, list[Answer]] = {}
    with tempfile.TemporaryDirectory() as folder:
        rival = by_transformers(model, Path(folder))
        for _ in range(ROUNDS):
            for kind in KINDS:
                began = time.perf_counter()
                found[kind] = by_engine(model, kind, prompts, options.threads)
                times[kind].append(time.perf_counter() - began)
                written[kind] = sum(len(one.ids) for one in found[kind])
            began = time.perf_counter()
            written["transformers"] = rival(prompts)
            times["transformers"].append(time.perf_counter() - began)
    rates = {name: written[name] / sorted(took)[ROUNDS // 2] for name, took in times.items()}
    print("| | answer tokens/s | against transformers | mismatch, mean | most |\n|---|---|---|---|---|")
    for name, rate in rates.items():
        gaps = "– | –"
        if name in found:
            gaps = " | ".join(f"{gap:.2g}" for gap in mismatch(model, prompts, found[name]))
        print(f"| {name} | {rate:,.0f} | {rate / rates['transformers']:.1f} | {gaps} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
