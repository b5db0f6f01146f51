"""From settings to a plan: how much text to read, which shape, how many steps, at which rates.

The dial's rules meet this machine's measured speed here. What is decided is written into the recipe before it
counts, so that a resumed run does not decide again.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from twofold.base.errors import UsageError
from twofold.corpus import Corpus, open_corpus, prepare
from twofold.corpus.build import fingerprint
from twofold.measure import ladder as ladders
from twofold.measure.ladder import Ladder
from twofold.parameters import ModelConfig
from twofold.train import dial, machine
from twofold.train.display import Screen
from twofold.train.keeper import Rule
from twofold.train.optimiser import OptimizerConfig
from twofold.train.parallel import team
from twofold.train.parent import described
from twofold.train.settings import PretrainConfig, TuningConfig
from twofold.train.step import StepPlan, flops_per_token

START_S = 4.0  # python and torch were loaded before the clock here starts
RESERVE_S, RESERVE = 6.0, 0.03  # kept for the last evaluation and the files: seconds, share of the budget
EVALUATION = 0.04  # share of the steps' time that evaluation on the way takes
LEAST_STEPS = 10
STEPS_SHARE = 0.85  # of a time, before it is known better: the rest is for reading, measuring and the end
PACKED = {".zst": 3.3, ".gz": 3.0, ".pdf": 0.1}  # bytes of text per byte of file, roughly
EVERYTHING = 2**62
DEFAULT_DEPTH = 4
COMPILING_PAYS_S = 300.0
GENTLE = 0.6  # of the usual rates, where a model goes on: a guess that served once, compared with nothing


def size(config: PretrainConfig) -> PretrainConfig:
    """Return `config` with `model.vocab` and `max_bytes` filled in: what the text is to be prepared for."""
    known = config.model.vocab is not None or config.start is not None
    if config.corpus is not None or (config.max_bytes is not None and known):
        return config
    spend, ladder = None, None
    if config.flops is not None or config.time is not None:
        host = machine.measure(config.device, config.compute, config.threads)
        ladder = own_ladder(host)
        spend = _spending(config, host, ladder)
    text_bytes = _text_bytes(config.data)
    vocab = None
    if config.start is not None:
        shape = _shape_of(config.start, config.model.context)
    else:
        depth = config.model.depth or DEFAULT_DEPTH
        if spend is not None:
            depth = dial.depth_for(config.model, spend, text_bytes, ladder)
        vocab = config.model.vocab or dial.vocab_for(depth, text_bytes)
        shape = dial.shape(config.model, depth, vocab)
    tokens = dial.tokens_for(shape, spend(shape) if spend else None, float("inf"))
    if config.steps is not None:
        tokens = config.steps * (config.batch or dial.batch_for(tokens, shape.context)) * shape.context
    # Half as much again as needed: the estimate is rough, and a tokenizer wants text to learn from.
    wanted = max(10_000_000, int(1.5 * dial.BYTES_PER_TOKEN * tokens))
    most = config.max_bytes or (wanted if wanted < 0.8 * text_bytes else EVERYTHING)
    return dataclasses.replace(config, max_bytes=most, model=dataclasses.replace(config.model, vocab=vocab))


def read(config: PretrainConfig, folder: Path, screen: Screen) -> Corpus:
    """Return the corpus of a run whose size is decided."""
    tokenizer = None if config.start is None else described(config.start).tokenizer
    if config.corpus is not None:
        found = open_corpus(config.corpus)
        if tokenizer is not None and fingerprint(found.tokenizer) != fingerprint(tokenizer):
            raise UsageError(f"{config.corpus} was prepared with another tokenizer than {config.start} has.")
        return found
    corpus = prepare(
        list(config.data), folder / "corpus", vocab_size=config.model.vocab, tokenizer=tokenizer,
        val_fraction=config.val_fraction, val_path=list(config.val) or None, seed=config.seed,
        max_bytes=config.max_bytes, progress=_reporter(screen),
    )  # fmt: skip
    for skip in corpus.skipped:
        screen.say(f"left out: {skip['path']}: {skip['reason']}", "yellow")
    screen.say(
        f"Text: {corpus.train_bytes / 1e6:,.1f} MB to learn from ({len(corpus.train):,} tokens, "
        f"{corpus.train_documents:,} documents), {corpus.val_bytes / 1e6:,.2f} MB held out."
    )
    return corpus


def plan(config: PretrainConfig, corpus: Corpus, *, began: float | None = None) -> dial.Plan:
    """Return what a run with `config` on `corpus` will do, after a short measurement of this machine.

    `began`: `time.monotonic()` when the run's clock started, now by default. Raises UsageError.
    """
    began = time.monotonic() if began is None else began
    host = machine.measure(config.device, config.compute, config.threads)
    budget_s = None if config.time is None else dial.seconds(config.time)
    ladder = own_ladder(host)
    spend = _spending(config, host, ladder)
    if config.start is not None:
        shape = _shape_of(config.start, config.model.context)
    else:
        chosen = dataclasses.replace(config.model, vocab=corpus.tokenizer.vocab_size)
        depth = config.model.depth or (
            dial.depth_for(chosen, spend, corpus.train_bytes, ladder) if spend else DEFAULT_DEPTH
        )
        shape = dial.shape(chosen, depth, corpus.tokenizer.vocab_size)
    # A guess of the length gives the batch; the batch gives the pace; the pace gives the length.
    guess = dial.tokens_for(shape, spend(shape) if spend else None, len(corpus.train))
    rows = config.batch or dial.batch_for(guess, shape.context)
    several = team().size
    rows = rows if config.batch else -(-rows // several) * several
    micro = machine.micro_rows(host, max(1, rows // several), shape.context)
    if _nothing_to_find_out(config):
        speed = machine.guessed_pace(host, shape, micro)
    else:
        limit_s = 1.5 if budget_s is None else min(6.0, max(1.5, 0.01 * budget_s))
        speed = machine.pace(host, shape, micro, threads=config.threads, limit_s=limit_s)
    compiled, speed = compiling(config, host, shape, micro, speed, several)
    step_s, batch = 1.01 * speed.step_s(rows // several, micro), rows * shape.context
    most_steps = max(LEAST_STEPS, int(dial.MOST_EPOCHS * len(corpus.train) / batch))
    steps_s, notes = None, list[str]()
    reserve_s = 10.0
    if config.steps is not None:
        steps = most_steps = config.steps
    elif budget_s is not None:
        reserve_s = RESERVE_S + RESERVE * budget_s
        steps_s = max(1.0, budget_s - START_S - (time.monotonic() - began) - reserve_s)
        steps = max(LEAST_STEPS, int(steps_s * (1 - EVALUATION) / step_s))
    else:
        steps = max(LEAST_STEPS, round(guess / batch))
    if steps > most_steps:
        steps = most_steps
        notes.append(f"there is little text: read {dial.MOST_EPOCHS:.0f} times, it ends before the budget")
    if config.start is not None:
        notes.append(f"it goes on from {config.start.name}: what is expected is that of a run from nothing")
    tokens = steps * batch
    hashes = tuple(source["sha256"] for source in corpus.sources if source.get("sha256"))
    per_token = corpus.train_bytes / max(1, len(corpus.train))
    middle, low, high = dial.expected(shape, tokens, per_token, ladder, corpus.train_bytes, hashes)
    affordable = int(EVALUATION / 13 * steps * step_s / speed.evaluation_token_s)
    return dial.Plan(
        depth=shape.layers, width=shape.width, heads=shape.heads, kv_heads=shape.kv_heads,
        head_dim=shape.head_dim, ffn=shape.ffn, vocab=shape.vocab_size, context=shape.context,
        tied=shape.tied, rope_theta=shape.rope_theta, parameters=shape.parameters, tokens=tokens,
        train_tokens=len(corpus.train), steps=steps, rows=rows, micro_rows=micro, device=host.device,
        compute=host.compute, threads=speed.threads, peak_flops=host.peak_flops, tokens_per_s=batch / step_s,
        flops=flops_per_token(shape) * tokens, wall_s=(1 + EVALUATION) * steps * step_s + reserve_s,
        budget_s=steps_s, most_steps=most_steps,
        memory_bytes=dial.memory_bytes(shape, micro * shape.context, 2 if host.compute == "bfloat16" else 4),
        bits_per_byte=middle, bits_per_byte_low=low, bits_per_byte_high=high,
        eval_every=max(1, steps // 10) if config.eval_every is None else config.eval_every,
        eval_tokens=config.eval_tokens or min(len(corpus.val), max(4 * shape.context, affordable)),
        sample_every=max(1, steps // 5) if config.sample_every is None else config.sample_every,
        notes=notes, compiled=compiled,
        rules=dial.BUILT_IN if ladder is None else f"this machine's ladder, {ladder.name!r}",
        **rates(config.optimizer, shape.width, tokens, GENTLE if config.start else 1.0),
    )  # fmt: skip


def _shape_of(start: Path, context: int) -> ModelConfig:
    """Return the shape of the model that a run goes on from, in rows of `context` tokens."""
    return dataclasses.replace(described(start).config, context=context)


def compiling(
    config: PretrainConfig,
    host: machine.Machine,
    shape: ModelConfig,
    micro: int,
    plain: machine.Pace,
    several: int,
) -> tuple[bool, machine.Pace]:
    """Return whether blocks are compiled, and the pace then: as asked for, or else where it pays."""
    budget_s = 0.0 if config.time is None else dial.seconds(config.time)
    pays = budget_s >= COMPILING_PAYS_S and (host.device != "cpu" or machine.compiler())
    wanted = several == 1 and pays if config.compiled is None else config.compiled
    if not wanted or _nothing_to_find_out(config):
        return bool(config.compiled), plain
    faster = machine.compiled_pace(host, shape, micro, plain)
    return bool(config.compiled) or faster is not None, faster or plain


def _nothing_to_find_out(config: PretrainConfig) -> bool:
    """Return whether the settings fix all that a measurement would decide."""
    fixed = (config.steps, config.batch, config.threads)
    return None not in fixed and config.compute != "auto" and config.time is None


def rates(chosen: OptimizerConfig, width: int, tokens: float, gentle: float = 1.0) -> dict[str, float]:
    """Return the learning rates that `chosen` leaves open, from the model's width and the run's length.

    `gentle`: a factor on all of them, below 1 for a model that has learned already.
    """
    short = min(1.5, max(0.5, (5e6 / max(tokens, 1)) ** 0.15))  # a short run cannot wait (docs/log.md)
    narrow = (width / 256) ** -0.5
    defaults = {
        "muon_lr": 0.03 * short, "embedding_lr": 0.04 * narrow, "head_lr": 0.006 * narrow, "norm_lr": 0.01,
    }  # fmt: skip
    return {
        name: gentle * value if getattr(chosen, name) is None else getattr(chosen, name)
        for name, value in defaults.items()
    }


def step_plan(config: PretrainConfig, chosen: dial.Plan) -> StepPlan:
    """Return the plan as the loop takes it."""
    optimizer = dataclasses.replace(
        config.optimizer, muon_lr=chosen.muon_lr, embedding_lr=chosen.embedding_lr, head_lr=chosen.head_lr,
        norm_lr=chosen.norm_lr,
    )  # fmt: skip
    return StepPlan(
        steps=chosen.steps, rows=chosen.rows, micro_rows=chosen.micro_rows, context=chosen.context,
        device=chosen.device, compute=chosen.compute, threads=chosen.threads, peak_flops=chosen.peak_flops,
        budget_s=chosen.budget_s, most_steps=chosen.most_steps, eval_every=chosen.eval_every,
        sample_every=chosen.sample_every, optimizer=optimizer, **shared(config),
    )  # fmt: skip


def shared(config: PretrainConfig | TuningConfig) -> dict[str, Any]:
    """Return what all kinds of run hand to the loop as it stands in their settings."""
    rule = Rule(
        seconds=config.checkpoint_s, steps=config.checkpoint_steps, keep=config.checkpoint_keep,
        keep_best=config.checkpoint_best, share=config.checkpoint_share,
    )  # fmt: skip
    names = ("seed", "layout", "schedule", "guard")
    return {"saving": rule, **{name: getattr(config, name) for name in names}}


def own_ladder(host: machine.Machine) -> Ladder | None:
    """Return the ladder that `twofold scale` made on this machine, None when there is none."""
    return ladders.kept(device_name(host.device))


def device_name(device: str) -> str:
    """Return the name under which this machine's ladder is kept."""
    if device != "cuda":
        return ladders.device_name(device)
    return ladders.device_name(device, torch.cuda.get_device_name())


def _spending(
    config: PretrainConfig, host: machine.Machine, ladder: Ladder | None
) -> Callable[[ModelConfig], float] | None:
    """Return a function that says how many operations a model can spend within the budget; None without one.

    A ladder knows how fast each size is here; else every size is taken to reach half of the peak.
    """
    flops = config.flops
    if flops is not None:
        return lambda shape: flops
    if config.time is None:
        return None
    budget_s = dial.seconds(config.time)
    if ladder is None:
        return lambda shape: budget_flops(budget_s, host)
    return lambda shape: STEPS_SHARE * budget_s * ladder.flops_per_s(dial.weights(shape))


def budget_flops(budget_s: float, host: machine.Machine) -> float:
    """Return the operations that fit into a time, before the model was measured: about half of the peak."""
    return STEPS_SHARE * budget_s * 0.5 * host.peak_flops


def _text_bytes(data: tuple[str, ...]) -> float:
    """Return about how much text the paths hold; infinite for a hub data set."""
    total = 0.0
    for entry in data:
        path = Path(entry)
        if not path.exists():
            return float("inf")
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        total += sum(file.stat().st_size * PACKED.get(file.suffix.lower(), 1.0) for file in files)
    return total


def _reporter(screen: Screen) -> Callable[[str, int], None]:
    """Return a function that says now and then how far the preparation is."""
    said_s = time.monotonic()

    def report(what: str, done: int) -> None:
        nonlocal said_s
        if time.monotonic() - said_s > 5:
            said_s = time.monotonic()
            screen.say(f"{what}: {done / 1e6:,.1f} MB", "dim")

    return report
