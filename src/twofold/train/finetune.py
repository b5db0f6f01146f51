"""Finetuning: a base model learns to take turns, from conversations.

Only the assistant's words count in the loss (Ouyang et al. 2022, arXiv:2203.02155, section 3); whole
conversations share a row but do not see each other. Rates are a fraction of pretraining's and fall to zero
in a straight line; the run ends early when held-out conversations get worse. All weights are trained, or
adapters of a low rank. Afterwards the model is compared with what it was, so that forgetting is seen.

Not covered: preferences (prefer.py).
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from twofold.base.errors import UsageError
from twofold.measure.compare import HEADINGS, Row, compare, spelled
from twofold.parameters import Model
from twofold.run import load as open_engine
from twofold.tokens import Tokenizer
from twofold.tokens.conversation import Conversation
from twofold.tokens.pair import Pair
from twofold.train import cards, dial, machine, parallel
from twofold.train.adapters import Adapted
from twofold.train.appointment import read_decisions
from twofold.train.display import Screen, duration
from twofold.train.export import from_model, to_model, with_end, write_files
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.loop import Trained
from twofold.train.optimiser import OptimizerConfig
from twofold.train.parent import model_file, open_parent
from twofold.train.patience import PatientRun
from twofold.train.planning import shared
from twofold.train.pretrain import Result
from twofold.train.settings import FinetuneConfig, PreferConfig, plain
from twofold.train.step import StepPlan, set_up
from twofold.train.talk import Talk, prepare
from twofold.train.transformer import Transformer

TURN_END = "<|im_end|>"
RATES = {"muon_lr": 0.01, "embedding_lr": 0.006, "head_lr": 0.002, "norm_lr": 0.002}
# Muon's steps are as large where there is nothing to learn, as in rehearsing: small ones, and more of them,
# move what is known less (docs/log.md).
GENTLE_RATES = {"muon_lr": 0.004, "embedding_lr": 0.0025, "head_lr": 0.0008, "norm_lr": 0.0008}
GENTLE_EPOCHS, GENTLE_STEPS = 2.8, 40  # times as many epochs; at least so many steps
ADAPTER_RATES = {
    "muon_lr": 0.0,
    "embedding_lr": 0.003,
    "head_lr": 0.0,
    "norm_lr": 0.0,
}  # AdamW's is the second
BATCH_TOKENS = 8192
LEAST_STEPS = 4  # in an epoch
MOST_CONTEXT = 4096  # of imported models whose window is far longer; --set context= goes beyond
MOST_COMPARED = 200  # held-out conversations of each kind
COMPARED_TOGETHER = 4  # sequences, for benchmarks


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetunePlan:
    """A finetuning run before it runs."""

    steps: int
    rows: int
    micro_rows: int
    context: int
    epochs: float
    device: str
    compute: str
    threads: int
    peak_flops: float
    tokens_per_s: float
    wall_s: float
    budget_s: float | None = None
    eval_every: int
    sample_every: int


def finetune(config: FinetuneConfig, *, console: Console | None = None) -> Result:
    """Return a finished run: its folder holds model.gguf, which now takes turns.

    Raises UsageError, BadFileError, and Stopped when the user stopped it and everything is saved.
    """
    if bool(config.data) == (config.corpus is not None):
        raise UsageError("Give either conversations to read or the folder of prepared ones.")
    if not config.model.exists():
        raise UsageError(f"There is no model {config.model} to finetune.")
    with parallel.joined() as team:
        folder = Path(team.told(lambda: str(_begun(config))))
        return run(folder, console=console)


def _begun(config: FinetuneConfig) -> Path:
    """Return the folder of a run that is now begun, or of the one that torchrun has started anew."""
    if parallel.restarted() and config.out is not None and (config.out / "recipe.toml").exists():
        return config.out
    folder = new_folder(config.out, config.name or _name(config.model))
    write_recipe(folder, Recipe("finetune", plain(config)))
    return folder


def run(folder: Path, *, console: Console | None = None) -> Result:
    """Return the finetuning run of a folder with a recipe, finished, from wherever it stands."""
    with parallel.joined() as team:
        screen = Screen(console if team.speaks else None)
        with screen.resumable(folder):
            return _run(folder, screen, team)


def _planned(
    folder: Path, screen: Screen, began: float
) -> tuple[Recipe, FinetuneConfig, Model, Talk, FinetunePlan]:
    """Return the recipe of a run, its settings, parent, text and plan; what is not there is made."""
    recipe = read_recipe(folder)
    config = restore(FinetuneConfig, recipe.settings, "settings", folder)
    parent = open_parent(config.model)
    tokenizer = with_end(parent.tokenizer, TURN_END)
    context = recipe.plan.get("context") or config.context or min(parent.config.context, MOST_CONTEXT)
    if context > parent.config.context:
        raise UsageError(
            f"The model's window is {parent.config.context} tokens; context={context} is beyond it."
        )
    talk = prepare(config, folder, tokenizer, context, lambda sentence: screen.say(sentence, "dim"))
    if recipe.plan:
        chosen = restore(FinetunePlan, recipe.plan, "plan", folder)
    else:
        chosen = _plan(config, parent, talk, context, began)
        sources = [source for corpus in talk.kinds.values() for source in corpus.sources]
        recipe = dataclasses.replace(recipe, plan=dataclasses.asdict(chosen), data=sources)
        write_recipe(folder, recipe)
    return recipe, config, parent, talk, chosen


def _run(folder: Path, screen: Screen, team: parallel.Team) -> Result:
    began = time.monotonic()
    recipe, config, parent, talk, chosen = team.first(lambda: _planned(folder, screen, began))
    context, tokenizer = chosen.context, with_end(parent.tokenizer, TURN_END)
    adapters = f", adapters of rank {config.lora}" if config.lora else ""
    screen.say(
        f"Plan: {parent.config.parameters / 1e6:.2f}M parameters{adapters}, {talk.train_documents:,} "
        f"conversations, {chosen.steps:,} steps of {chosen.rows * context:,} tokens ({chosen.epochs:.2g} "
        f"epochs), {chosen.compute}, {chosen.threads} threads, {chosen.tokens_per_s:,.0f} tokens/s, "
        f"about {duration(chosen.wall_s)}."
    )
    one = _start(config, chosen, parent, talk, folder, screen, team)
    trained = one.go()
    if not team.speaks:  # the first process writes the files
        one.learner.whole()
        return Result(folder, folder / "model.gguf", trained.score, trained, one.elapsed_s)
    return _finish(recipe, config, parent, talk, one, trained, tokenizer, screen, began)


def _finish(
    recipe: Recipe,
    config: FinetuneConfig,
    parent: Model,
    talk: Talk,
    one: PatientRun,
    trained: Trained,
    tokenizer: Tokenizer,
    screen: Screen,
    began: float,
) -> Result:
    """Write the files of a run that has ended, with the weights that did best; compare before and after."""
    folder = one.folder
    net = one.learner.whole()
    assert net is not None
    step, score = one.take_best(net)
    if isinstance(net, Adapted):
        net = net.merged()
    wall_s = one.before_s + time.monotonic() - began
    facts = {**cards.facts(score or trained.score, trained, wall_s), "best_step": step}
    recipe = dataclasses.replace(recipe, decisions=read_decisions(folder), result=facts)
    card = cards.of_finetuning(config, recipe, parent, talk.kinds, trained, config.name or folder.name)
    path = write_files(folder, to_model(net, tokenizer, card), config.file_type)
    if config.compare:
        rows = compared(config, path, one.plan.context, screen, talk.held_out_texts())
        facts["changes"] = [row.record() for row in rows]
        card = {**card, "scores": [*(row.score() for row in rows), *card["scores"]]}
        write_files(folder, to_model(net, tokenizer, card), config.file_type)
    write_recipe(folder, recipe)
    screen.say(
        f"Done: {(score or trained.score).bits_per_byte:.3f} bits per byte on held-out answers at step "
        f"{step:,} of {trained.steps:,} in {duration(wall_s)}."
    )
    return Result(folder, path, score or trained.score, trained, wall_s)


def compared(
    config: FinetuneConfig | PreferConfig,
    path: Path,
    context: int,
    screen: Screen,
    conversations: dict[str, list[Conversation]],
    pairs: Sequence[Pair] = (),
) -> list[Row]:
    """Return the comparison of the model in `path` with the one it was made from, after showing it."""
    with screen.busy("comparing with the model before"):
        engines = [
            open_engine(model, threads=config.threads, context=context, sequences=COMPARED_TOGETHER)
            for model in (model_file(config.model), path)
        ]
        rows = compare(
            engines[0], engines[1], conversations, pairs=pairs, most=MOST_COMPARED, tasks=config.tasks
        )
    table = Table(*HEADINGS, box=None, pad_edge=False, header_style="dim")
    for cells in spelled(rows):
        table.add_row(*cells)
    screen.console.print(table)
    return rows


def _start(
    config: FinetuneConfig,
    chosen: FinetunePlan,
    parent: Model,
    talk: Talk,
    folder: Path,
    screen: Screen,
    team: parallel.Team,
) -> PatientRun:
    """Return the run, at its last checkpoint if it has one."""
    steps = _step_plan(config, chosen)
    if config.lora and team.size > 1 and config.layout == "shards":
        raise UsageError("Adapters are trained with a copy on each process: leave out layout=shards.")
    net = network(parent, config.lora, config.seed, set_up(steps)).to(chosen.device)
    if config.compiled:
        net.compile_blocks()
    tokenizer = with_end(parent.tokenizer, TURN_END)
    prompts = [
        tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True)
        for text in config.prompts
    ]
    data, held_out = talk.data(config, chosen.context, chosen.rows), talk.held_out(chosen.context)
    one = PatientRun(net, data, held_out, tokenizer, steps, folder, screen, prompts, team)
    one.patience = config.patience
    one.resume()
    return one


def network(parent: Model, lora: int, seed: int, compute: torch.dtype) -> Transformer:
    """Return the network to train: all of the model, or adapters of the rank `lora` to it."""
    if not lora:
        return from_model(parent, compute=compute)
    net = from_model(parent, compute=compute, kind=Adapted)
    net.adapt(lora, seed)
    return net


def epochs_for(conversations: int) -> float:
    """Return how often so many conversations are read: few ones more often (docs/log.md)."""
    return float(min(12.0, max(2.0, 3.0 * (1000 / max(1, conversations)) ** 0.3)))


def _plan(config: FinetuneConfig, parent: Model, talk: Talk, context: int, began: float) -> FinetunePlan:
    """Return the plan, after a short measurement of this machine."""
    rows_per_epoch = talk.data(config, context, 1).epoch_steps
    epochs = config.epochs or epochs_for(sum(one.train_documents for one in talk.new))
    least = rows_per_epoch / LEAST_STEPS  # few conversations make small steps: else few are left
    if config.rehearse:  # what is new says how much is read; what is rehearsed only fills its share of that
        rows_per_epoch = sum(len(one.train) for one in talk.new) / (1 - config.rehearse) / context
        epochs *= 1 if config.epochs else GENTLE_EPOCHS
        least = epochs * rows_per_epoch / GENTLE_STEPS
    host = machine.measure(config.device, config.compute, config.threads)
    rows = config.batch or max(1, min(int(least), BATCH_TOKENS // context))
    several = parallel.team().size
    rows = rows if config.batch else -(-rows // several) * several
    micro = machine.micro_rows(host, max(1, rows // several), context)
    shape = dataclasses.replace(parent.config, context=context)
    speed = machine.pace(host, shape, micro, threads=config.threads, limit_s=3.0)
    step_s = speed.step_s(rows // several, micro)
    steps = config.steps or max(1, round(epochs * rows_per_epoch / rows))
    budget_s = None
    if config.time is not None:
        total_s = dial.seconds(config.time)
        budget_s = max(1.0, total_s * 0.93 - 6 - (time.monotonic() - began))
        steps = config.steps or max(1, min(steps, int(budget_s / step_s / 1.05)))
    return FinetunePlan(
        steps=steps, rows=rows, micro_rows=micro, context=context, epochs=steps * rows / rows_per_epoch,
        device=host.device, compute=host.compute, threads=speed.threads, peak_flops=host.peak_flops,
        tokens_per_s=rows * context / step_s, wall_s=1.1 * steps * step_s + 10, budget_s=budget_s,
        eval_every=config.eval_every if config.eval_every is not None else max(1, steps // 8),
        sample_every=config.sample_every if config.sample_every is not None else max(1, steps // 4),
    )  # fmt: skip


def _step_plan(config: FinetuneConfig, chosen: FinetunePlan) -> StepPlan:
    """Return the plan as the loop takes it."""
    given = dataclasses.asdict(config.optimizer)
    rates = ADAPTER_RATES if config.lora else GENTLE_RATES if config.rehearse else RATES
    given |= {name: value for name, value in rates.items() if given[name] is None}
    return StepPlan(
        steps=chosen.steps, rows=chosen.rows, micro_rows=chosen.micro_rows, context=chosen.context,
        device=chosen.device, compute=chosen.compute, threads=chosen.threads, peak_flops=chosen.peak_flops,
        budget_s=chosen.budget_s, most_steps=chosen.steps, eval_every=chosen.eval_every,
        sample_every=chosen.sample_every, optimizer=OptimizerConfig(**given), **shared(config),
    )  # fmt: skip


def _name(model: Path) -> str:
    """Return what a run is called when nobody says: after the model it starts from."""
    source = model.parent if model.name == "model.gguf" else model
    return f"{source.stem}-chat"
