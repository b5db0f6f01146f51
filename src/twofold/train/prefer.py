"""Preferences: a model learns from pairs which of two answers is better, by itself (DPO) or as a judge.

    twofold prefer MODEL --on PAIRS            the model makes better answers likelier
    twofold prefer MODEL --on PAIRS --reward   a reward model, which says how good an answer is

The rewards and losses are in preference.py. A run goes: pairs are read and split by prompt; a judge is made
of those kept back, if there is one to make; the reference's log-probabilities are computed once and kept;
steps, with evaluations on held-out pairs and by the gold reward (gold.py); then what is left of it
(preferred.py). The loop, its checkpoints and all that happens to them are those of every other run (loop.py).

Not covered: several processes; pairs made while learning (online DPO); several epochs of new references.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from twofold.base.errors import UsageError
from twofold.base.files import atomic_write
from twofold.corpus.pairs import PairCorpus, pairs, prepare_pairs
from twofold.environments import TASKS, draw
from twofold.measure.judge import Judge, verdict_ids
from twofold.measure.overoptimisation import Gold, of_pairs
from twofold.parameters import Model
from twofold.run import load as open_engine
from twofold.tokens.specials import TURN_END
from twofold.train import dial, machine
from twofold.train.display import Screen, duration
from twofold.train.export import with_end
from twofold.train.finetune import MOST_CONTEXT, epochs_for, network
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.gold import GoldReward
from twofold.train.optimiser import OptimizerConfig
from twofold.train.parallel import team
from twofold.train.parent import model_file, open_parent
from twofold.train.planning import shared
from twofold.train.preference import (
    HeldOutPairs,
    Objective,
    PairData,
    PairRun,
    length_effect,
    parts,
    reference,
)
from twofold.train.preferred import Ending
from twofold.train.pretrain import Result
from twofold.train.settings import PreferConfig, plain
from twofold.train.step import StepPlan, set_up
from twofold.train.talk import Talk, rehearsed
from twofold.train.transformer import Transformer

RATES = {"muon_lr": 0.001, "embedding_lr": 0.0003, "head_lr": 0.0003, "norm_lr": 0.0003}
REWARD_RATES = {"muon_lr": 0.004, "embedding_lr": 0.002, "head_lr": 0.002, "norm_lr": 0.002}
ADAPTER_RATES = {"muon_lr": 0.0, "embedding_lr": 0.001, "head_lr": 0.0, "norm_lr": 0.0}  # AdamW's
BATCH = 32  # pairs
LEAST_STEPS = 8  # in an epoch
EVALUATIONS = 10
JUDGE_TIME = 0.25  # of a time, for the judge
PACE_ROW = 256  # tokens
OWN_ROWS = 2  # of own answers and text in a step


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferPlan:
    """A preference run before it runs: `pairs` a step, `alpha` per token of difference in length."""

    steps: int
    pairs: int
    epochs: float
    alpha: float
    context: int
    device: str
    compute: str
    threads: int
    peak_flops: float
    wall_s: float
    budget_s: float | None = None
    eval_every: int
    sample_every: int


@dataclasses.dataclass(frozen=True)
class _Begun:
    """What a run consists of, once it is planned."""

    recipe: Recipe
    config: PreferConfig
    parent: Model
    corpus: PairCorpus
    gold: GoldReward | None
    chosen: PreferPlan
    objective: Objective


def prefer(config: PreferConfig, *, console: Console | None = None) -> Result:
    """Return a finished run: its folder holds model.gguf, better liked or a judge.

    Raises UsageError, BadFileError, and Stopped when the user stopped it and everything is saved.
    """
    if not config.data:
        raise UsageError("Give pairs to learn from: files with `prompt`, `chosen` and `rejected`.")
    if not config.model.exists():
        raise UsageError(f"There is no model {config.model} to start from.")
    if config.time is not None:
        dial.seconds(config.time)  # a time that makes no sense is said before anything is made
    if config.judge is not None and config.judge not in TASKS.names():
        config = dataclasses.replace(config, judge=str(Path(config.judge).resolve()))
    source = config.model.parent if config.model.name == "model.gguf" else config.model
    name = f"{source.stem}-{'judge' if config.reward else 'preferred'}"
    folder = new_folder(config.out, config.name or name)
    write_recipe(folder, Recipe("prefer", plain(config)))
    return run(folder, console=console)


def run(folder: Path, *, console: Console | None = None) -> Result:
    """Return the preference run of a folder with a recipe, finished, from wherever it stands."""
    if team().size > 1:
        raise UsageError("Preferences are learned in one process: start this without torchrun.")
    screen = Screen(console)
    with screen.resumable(folder):
        return _run(folder, screen)


def _run(folder: Path, screen: Screen) -> Result:
    began = time.monotonic()
    begun = _begin(folder, screen, began)
    _tell(begun, screen)
    one = _start(begun, folder, screen)
    trained = one.go()
    return Ending(
        begun.recipe, begun.config, begun.parent, begun.corpus, begun.gold, one, trained, screen, began
    ).result()


# ---- before the first step


def _begin(folder: Path, screen: Screen, began: float) -> _Begun:
    """Return what the run consists of; what is not there yet is made and written down."""
    recipe = read_recipe(folder)
    config = restore(PreferConfig, recipe.settings, "settings", folder)
    parent = open_parent(config.model)
    parent = dataclasses.replace(parent, tokenizer=with_end(parent.tokenizer, TURN_END))
    context = recipe.plan.get("context") or config.context or min(parent.config.context, MOST_CONTEXT)
    if context > parent.config.context:
        raise UsageError(
            f"The model's window is {parent.config.context} tokens; context={context} is beyond it."
        )
    known = config.judge is not None or config.reward
    corpus = prepare_pairs(
        list(config.data), folder / "pairs", tokenizer=parent.tokenizer, context=context, val=config.val,
        val_fraction=config.val_fraction, seed=config.seed, bad_lines=config.bad_lines,
        keep_back=0.0 if known and config.keep_back is None else config.keep_back,
    )  # fmt: skip
    back = f", {corpus.kept_back:,} kept back for a judge" if corpus.kept_back else ""
    screen.say(f"{len(corpus.train):,} pairs to learn from, {len(corpus.val):,} held out{back}.", "dim")
    for sentence in corpus.about["skipped"]:
        screen.say(f"left out: {sentence}", "dim")
    gold = _gold(config, folder, corpus, parent, screen)
    if recipe.plan:
        chosen = restore(PreferPlan, recipe.plan, "plan", folder)
    else:
        chosen = _plan(config, corpus, parent, context, gold, folder, began)
        recipe = dataclasses.replace(recipe, plan=dataclasses.asdict(chosen), data=corpus.about["sources"])
        write_recipe(folder, recipe)
    verdicts = verdict_ids(parent.tokenizer) if config.reward else None
    objective = Objective(config.beta, chosen.alpha, verdicts)
    return _Begun(recipe, config, parent, corpus, gold, chosen, objective)


def _gold(
    config: PreferConfig, folder: Path, corpus: PairCorpus, parent: Model, screen: Screen
) -> GoldReward | None:
    """Return who gives the gold reward: a task, a judge that is given, or one made of what is kept back."""
    if config.judge is not None and config.judge in TASKS.names():
        task = TASKS.get(config.judge)
        asked = draw(task, 2 * config.gold_prompts, seed=config.seed, split="test")
        gold = Gold(config.judge, task, asked)
    elif config.judge is not None or corpus.kept_back:
        given = config.judge is not None
        path = model_file(Path(config.judge)) if config.judge else _judge(config, folder, corpus, screen)
        if not path.exists():
            raise UsageError(f"There is no judge {path}: give a reward model's file, or the name of a task.")
        judge = Judge(open_engine(path, threads=config.threads, sequences=config.sequences))
        name = path.stem if given else f"a judge of {corpus.kept_back:,} pairs kept back"
        gold = of_pairs(
            name, corpus.held_out(), judge, most=2 * config.gold_prompts, max_tokens=config.max_tokens
        )
    else:
        return None
    found = GoldReward(gold, config, parent, parent.tokenizer)
    return found if found.gold.problems else None


def _judge(config: PreferConfig, folder: Path, corpus: PairCorpus, screen: Screen) -> Path:
    """Return the reward model of the pairs that are kept back, a run of its own inside of this one."""
    place = folder / "judge"
    if not (place / "recipe.toml").exists():
        limit = None if config.time is None else f"{JUDGE_TIME * dial.seconds(config.time):.0f}s"
        inner = PreferConfig(
            model=config.model, data=(str(corpus.folder / "judge.jsonl"),), reward=True, keep_back=0.0,
            name=f"{config.name or folder.name}-gold", lora=config.lora, seed=config.seed + 1, time=limit,
            context=config.context, device=config.device, compute=config.compute, threads=config.threads,
            steps=config.steps, batch=config.batch, epochs=config.epochs, compare=False,
            checkpoint_s=config.checkpoint_s, checkpoint_steps=config.checkpoint_steps,
        )  # fmt: skip
        place.mkdir(parents=True, exist_ok=True)
        write_recipe(place, Recipe("prefer", plain(inner)))
    if not read_recipe(place).result:
        screen.say("First a judge, from the pairs kept back: its reward is the gold reward of this run.")
        _run(place, screen)
        screen.say("Now the run itself.")
    return place / "model.gguf"


def _plan(
    config: PreferConfig, corpus: PairCorpus, parent: Model, context: int, gold: GoldReward | None,
    folder: Path, began: float,
) -> PreferPlan:  # fmt: skip
    """Return the plan, after a short measurement of this machine."""
    count = len(corpus.train)
    asked_s = time.monotonic()
    if gold is not None and not config.reward:
        gold.start(folder / "start.json")
    gold_s = time.monotonic() - asked_s
    host = machine.measure(config.device, config.compute, config.threads)
    row = min(context, PACE_ROW)
    shape = dataclasses.replace(parent.config, context=row)
    if None in (config.steps, config.batch, config.threads) or config.time is not None:
        speed = machine.pace(host, shape, 4, threads=config.threads, limit_s=2.0)
    else:  # it would decide nothing
        speed = machine.guessed_pace(host, shape, 4)
    size = config.batch or max(1, min(BATCH, count // LEAST_STEPS))
    tokens = 1.15 * size * corpus.train.read / count  # rows are not full
    step_s = tokens / (4 * row) * speed.micro_s + speed.update_s
    epochs = config.epochs or epochs_for(count)
    steps = config.steps or max(1, round(epochs * count / size))
    budget_s, around_s = None, (EVALUATIONS + 1) * gold_s
    if config.time is not None:
        left_s = 0.97 * dial.seconds(config.time) - (time.monotonic() - began)
        budget_s = max(1.0, left_s - 5 - around_s)
        steps = config.steps or max(1, min(steps, int((budget_s - around_s) / step_s / 1.05)))
    alpha = 0.0
    if config.length_control:
        alpha = config.alpha if config.alpha is not None else length_effect(corpus.train.lengths)
    return PreferPlan(
        steps=steps, pairs=size, epochs=steps * size / count, alpha=alpha, context=context,
        device=host.device, compute=host.compute, threads=speed.threads, peak_flops=host.peak_flops,
        wall_s=1.1 * steps * step_s + 2 * around_s + 10, budget_s=budget_s,
        eval_every=config.eval_every if config.eval_every is not None else max(1, steps // EVALUATIONS),
        sample_every=config.sample_every if config.sample_every is not None else 0,
    )  # fmt: skip


def _tell(begun: _Begun, screen: Screen) -> None:
    """Say the plan in a sentence."""
    config, chosen, size = begun.config, begun.chosen, begun.parent.config.parameters
    what = "a reward model" if config.reward else f"DPO (β {config.beta:g})"
    length = f", length control (α {chosen.alpha:+.4f} a token)" if config.length_control else ""
    adapters = f", adapters of rank {config.lora}" if config.lora else ""
    screen.say(
        f"Plan: {what}{length}, {size / 1e6:.2f}M parameters{adapters}, {chosen.steps:,} steps of "
        f"{chosen.pairs} pairs ({chosen.epochs:.2g} epochs), {chosen.compute}, {chosen.threads} threads, "
        f"about {duration(chosen.wall_s)}."
    )


def _start(begun: _Begun, folder: Path, screen: Screen) -> PairRun:
    """Return the run, at its last checkpoint if it has one."""
    config, chosen, parent, corpus = begun.config, begun.chosen, begun.parent, begun.corpus
    steps = _step_plan(config, chosen)
    net = network(parent, config.lora, config.seed, set_up(steps)).to(chosen.device)
    objective = begun.objective
    if objective.verdicts is not None and not config.lora:
        _begin_alike(net, objective.verdicts)
    shape = parent.config.context, parent.config.vocab_size
    kept = _reference(net, corpus, objective, folder / "pairs" / "reference.npz", screen)
    own = None
    if config.rehearse:
        asked = (str(pair.messages[-1]["content"]) for pair in pairs(config.data, bad=lambda _: None))
        kinds = rehearsed(
            config, folder, parent.tokenizer, chosen.context, asked, lambda s: screen.say(s, "dim")
        )
        talk = Talk(kinds, [1.0] * len(kinds), parent.tokenizer)
        own = talk.data(config, chosen.context, OWN_ROWS)
    data = PairData(
        corpus.train, kept["train"], objective, count=chosen.pairs, shape=shape, seed=config.seed,
        shuffle=config.shuffle, own=own,
    )  # fmt: skip
    everything = range(len(corpus.val))
    gold, start = begun.gold, None
    if gold is not None and not config.reward:
        start = gold.start(folder / "start.json")
    held_out = HeldOutPairs(
        list(parts(corpus.val, everything, objective, shape, kept["val"])), objective,
        gold.measure if gold is not None and not config.reward else None, start,
    )  # fmt: skip
    said = [] if config.reward else config.prompts  # a judge has nothing to say
    prompts = [parent.tokenizer.chat([{"role": "user", "content": text}]) for text in said]
    one = PairRun(net, data, held_out, parent.tokenizer, steps, folder, screen, prompts)
    one.objective, one.rehearse, one.patience = objective, config.rehearse, config.patience
    one.judged_by = f"{'held-out pairs have' if start is None else 'the gold reward has'} not become better"
    one.resume()
    return one


def _begin_alike(net: Transformer, ids: tuple[int, int]) -> None:
    """Let good and bad begin as the same token, so that every reward begins as 0."""
    rows = list(ids)
    with torch.no_grad():
        net.head[rows] = net.head[rows].mean(0, keepdim=True)


def _reference(
    net: Transformer, corpus: PairCorpus, objective: Objective, path: Path, screen: Screen
) -> dict[str, Any]:
    """Return the log-probabilities of all answers by the model as it was, None for a reward model.

    They are computed once and kept at `path`.
    """
    if objective.verdicts is not None:
        return {"train": None, "val": None}
    if not path.exists():
        with screen.busy("asking the model as it is about all pairs"):
            train, val = (reference(net, some, objective) for some in (corpus.train, corpus.val))
        with atomic_write(path) as file:
            np.savez(file, train=train, val=val)
    with np.load(path) as arrays:
        return {name: arrays[name] for name in ("train", "val")}


def _step_plan(config: PreferConfig, chosen: PreferPlan) -> StepPlan:
    """Return the plan as the loop takes it."""
    rates = ADAPTER_RATES if config.lora else REWARD_RATES if config.reward else RATES
    given = dataclasses.asdict(config.optimizer)
    given |= {name: value for name, value in rates.items() if given[name] is None}
    return StepPlan(
        steps=chosen.steps, rows=chosen.pairs, micro_rows=OWN_ROWS, context=chosen.context,
        device=chosen.device, compute=chosen.compute, threads=chosen.threads, peak_flops=chosen.peak_flops,
        budget_s=chosen.budget_s, most_steps=chosen.steps, eval_every=chosen.eval_every,
        sample_every=chosen.sample_every, optimizer=OptimizerConfig(**given), **shared(config),
    )  # fmt: skip
