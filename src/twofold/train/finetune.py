"""Finetuning: a base model learns to take turns, from conversations.

Only the assistant's words count in the loss (Ouyang et al. 2022, arXiv:2203.02155, section 3); whole
conversations share a row but do not see each other. Rates are a fraction of pretraining's and fall to zero in
a straight line.

Not covered: low-rank adapters, preferences.
"""

import dataclasses
import time
from pathlib import Path

from rich.console import Console

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus import Corpus, open_corpus, prepare_conversations
from twofold.parameters import Model, load
from twofold.tokens import Tokenizer
from twofold.train import cards, checkpoint, dial, machine, parallel
from twofold.train.appointment import read_decisions
from twofold.train.data import Conversations
from twofold.train.display import Screen, duration
from twofold.train.evaluation import HeldOut
from twofold.train.export import SEPARATOR, from_model, to_model, with_end, write_files
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.loop import Run
from twofold.train.optimiser import OptimizerConfig
from twofold.train.planning import shared
from twofold.train.pretrain import Result
from twofold.train.settings import FinetuneConfig, plain
from twofold.train.step import StepPlan, set_up

TURN_END = "<|im_end|>"
RATES = {"muon_lr": 0.01, "embedding_lr": 0.006, "head_lr": 0.002, "norm_lr": 0.002}
BATCH_TOKENS = 8192


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
) -> tuple[Recipe, FinetuneConfig, Model, Corpus, FinetunePlan]:
    """Return the recipe of a run, its settings, parent, text and plan; what is not there is made."""
    recipe = read_recipe(folder)
    config = restore(FinetuneConfig, recipe.settings, "settings", folder)
    parent = open_parent(config.model)
    tokenizer = with_end(parent.tokenizer, TURN_END)
    context = config.context or parent.config.context
    if context > parent.config.context:
        raise UsageError(
            f"The model's window is {parent.config.context} tokens; context={context} is beyond it."
        )
    corpus = _corpus(config, folder, tokenizer, context, screen)
    if recipe.plan:
        chosen = restore(FinetunePlan, recipe.plan, "plan", folder)
    else:
        chosen = _plan(config, parent, _data(config, corpus, context, 1).epoch_steps, context, began)
        recipe = dataclasses.replace(recipe, plan=dataclasses.asdict(chosen), data=corpus.sources)
        write_recipe(folder, recipe)
    return recipe, config, parent, corpus, chosen


def _run(folder: Path, screen: Screen, team: parallel.Team) -> Result:
    began = time.monotonic()
    recipe, config, parent, corpus, chosen = team.first(lambda: _planned(folder, screen, began))
    context, tokenizer = chosen.context, with_end(parent.tokenizer, TURN_END)
    screen.say(
        f"Plan: {parent.config.parameters / 1e6:.2f}M parameters, {corpus.train_documents:,} conversations, "
        f"{chosen.steps:,} steps of {chosen.rows * context:,} tokens ({chosen.epochs:.2g} epochs), "
        f"{chosen.compute}, {chosen.threads} threads, {chosen.tokens_per_s:,.0f} tokens/s, "
        f"about {duration(chosen.wall_s)}."
    )
    one = _start(config, chosen, parent, corpus, folder, screen, team)
    trained = one.go()
    net = one.learner.whole()
    if net is None:  # the first process writes the files
        return Result(folder, folder / "model.gguf", trained.score, trained, one.elapsed_s)
    wall_s = one.before_s + time.monotonic() - began
    facts = cards.facts(trained.score, trained, wall_s)
    recipe = dataclasses.replace(recipe, decisions=read_decisions(folder), result=facts)
    write_recipe(folder, recipe)
    card = cards.of_finetuning(config, recipe, parent, corpus, trained, config.name or folder.name)
    path = write_files(folder, to_model(net, tokenizer, card), config.file_type)
    screen.say(
        f"Done: {trained.score.bits_per_byte:.3f} bits per byte on held-out answers after {trained.steps:,} "
        f"steps (planned {chosen.steps:,}) in {duration(wall_s)} (planned {duration(chosen.wall_s)})."
    )
    return Result(folder, path, trained.score, trained, wall_s)


def _start(
    config: FinetuneConfig,
    chosen: FinetunePlan,
    parent: Model,
    corpus: Corpus,
    folder: Path,
    screen: Screen,
    team: parallel.Team,
) -> Run:
    """Return the run, at its last checkpoint if it has one."""
    steps = _step_plan(config, chosen)
    net = from_model(parent, compute=set_up(steps)).to(chosen.device)
    tokenizer = with_end(parent.tokenizer, TURN_END)
    held_out = HeldOut(corpus.val, corpus.val_mask, tokenizer, context=chosen.context)
    prompts = [
        tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True)
        for text in config.prompts
    ]
    data = _data(config, corpus, chosen.context, chosen.rows)
    one = Run(net, data, held_out, tokenizer, steps, folder, screen, prompts, team)
    one.resume()
    return one


def _data(config: FinetuneConfig, corpus: Corpus, context: int, rows: int) -> Conversations:
    assert corpus.train_mask is not None
    return Conversations(
        corpus.train, corpus.train_mask, context=context, rows=rows, seed=config.seed, shuffle=config.shuffle,
        separator=corpus.tokenizer.special_id(SEPARATOR),
    )  # fmt: skip


def open_parent(path: Path) -> Model:
    """Return the model to start from; a run folder's weights come unrounded from its last checkpoint."""
    if not path.is_dir() or (path / "config.json").is_file():
        return load(path)
    if not (path / "model.gguf").is_file():
        raise UsageError(
            f"{path} holds no model.gguf: the run is not finished; go on with it by --resume {path}."
        )
    model = load(path / "model.gguf")
    found = checkpoint.steps(path / "checkpoints")
    if not found:
        return model
    try:
        state = checkpoint.load(checkpoint.place(path / "checkpoints", found[-1]))
    except BadFileError as error:
        raise BadFileError(
            f"{error} Start from {path / 'model.gguf'}, whose weights are rounded, or remove that folder."
        ) from error
    try:
        tensors = {name: state.tensors[f"model.{name}"].numpy() for name in model.config.shapes()}
    except KeyError as error:
        raise BadFileError(f"The checkpoint in {path} lacks {error}: it is not of this model.") from error
    return dataclasses.replace(model, tensors=tensors)


def _corpus(
    config: FinetuneConfig, folder: Path, tokenizer: Tokenizer, context: int, screen: Screen
) -> Corpus:
    if config.corpus is not None:
        corpus = open_corpus(config.corpus)
        if corpus.tokenizer.vocabulary.tokens != tokenizer.vocabulary.tokens:
            raise UsageError(f"The corpus {config.corpus} was made with another tokenizer than the model's.")
    else:
        corpus = prepare_conversations(
            list(config.data), folder / "corpus", tokenizer=tokenizer, val_fraction=config.val_fraction,
            seed=config.seed, max_tokens=context,
        )  # fmt: skip
    if corpus.train_mask is None:
        raise UsageError(f"{corpus.folder} holds documents, not conversations.")
    screen.say(
        f"Conversations: {corpus.train_documents:,} to learn from ({len(corpus.train):,} tokens), "
        f"{corpus.val_documents:,} held out."
    )
    for skip in corpus.skipped:
        screen.say(f"left out: {skip['path']}: {skip['reason']}", "dim")
    return corpus


def _plan(
    config: FinetuneConfig, parent: Model, rows_per_epoch: float, context: int, began: float
) -> FinetunePlan:
    """Return the plan, after a short measurement of this machine."""
    host = machine.measure(config.device, config.compute, config.threads)
    rows = config.batch or max(1, min(int(rows_per_epoch), BATCH_TOKENS // context))
    several = parallel.team().size
    rows = rows if config.batch else -(-rows // several) * several
    micro = machine.micro_rows(host, max(1, rows // several), context)
    shape = dataclasses.replace(parent.config, context=context)
    speed = machine.pace(host, shape, micro, threads=config.threads, limit_s=3.0)
    step_s = speed.step_s(rows // several, micro)
    steps = config.steps or max(1, round(config.epochs * rows_per_epoch / rows))
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
    given |= {name: value for name, value in RATES.items() if given[name] is None}
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
