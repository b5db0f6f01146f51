"""Finetuning: a base model learns to take turns, from conversations.

Only the assistant's words count in the loss (Ouyang et al. 2022, arXiv:2203.02155, section 3); whole
conversations share a row but do not see each other. Rates are a fraction of pretraining's and fall to zero in
a straight line.

Not covered: low-rank adapters, preferences.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus import Corpus, open_corpus, prepare_conversations
from twofold.parameters import Model, load
from twofold.train import checkpoint, dial, machine
from twofold.train.data import Conversations
from twofold.train.display import Screen, duration
from twofold.train.evaluation import HeldOut
from twofold.train.export import from_model, to_model, with_end, write_files
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.loop import Run, StepPlan, Trained, read_decisions, set_up
from twofold.train.optimiser import OptimizerConfig
from twofold.train.pretrain import Result, configs_plain, facts, public
from twofold.train.schedule import ScheduleConfig

TURN_END = "<|im_end|>"
PROMPTS = ("Hello! Who are you?", "What is the sun?", "Tell me a story.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """What a finetuning run is told; None means: follows from the data.

    `model`: a model.gguf or a run folder (then the unrounded weights of its last checkpoint are used).
    `data`: files of conversations, or `corpus`: the folder of prepared ones. `time` cuts the number of steps
    that `epochs` ask for; `steps` overrules both. `batch`: rows of `context` tokens per step.
    """

    model: Path
    data: tuple[str, ...] = ()
    corpus: Path | None = None
    out: Path | None = None
    name: str | None = None
    license: str | None = None
    epochs: float = 3.0
    time: str | None = None
    steps: int | None = None
    batch: int | None = None
    context: int | None = None
    seed: int = 0
    val_fraction: float = 0.02
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: int | None = None
    eval_every: int | None = None
    sample_every: int | None = None
    prompts: tuple[str, ...] = PROMPTS
    checkpoint_s: float = 60.0
    checkpoint_steps: int = 0
    file_type: Literal["Q8_0", "F16", "F32", "BF16", "Q4_0"] = "Q8_0"
    optimizer: OptimizerConfig = OptimizerConfig(
        muon_lr=0.006, embedding_lr=0.004, head_lr=0.001, norm_lr=0.001
    )
    schedule: ScheduleConfig = ScheduleConfig(warmup=0.02, decay=0.98, final=0.0)

    def __post_init__(self) -> None:
        if any(number is not None and number < 1 for number in (self.steps, self.batch, self.threads)):
            raise ValueError("steps, batch and threads are 1 or more.")
        if self.epochs <= 0:
            raise ValueError("epochs is above 0.")


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
    budget_s: float | None
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
    source = config.model.parent if config.model.name == "model.gguf" else config.model
    folder = new_folder(config.out, config.name or f"{source.stem}-chat")
    write_recipe(folder, Recipe("finetune", _settings(config)))
    return run(folder, console=console)


def run(folder: Path, *, console: Console | None = None) -> Result:
    """Return the finetuning run of a folder with a recipe, finished, from wherever it stands."""
    screen = Screen(console)
    with screen.resumable(folder):
        return _run(folder, screen)


def _run(folder: Path, screen: Screen) -> Result:
    began = time.monotonic()
    recipe = read_recipe(folder)
    config = restore(FinetuneConfig, recipe.settings, "settings", folder)
    parent = open_parent(config.model)
    tokenizer = with_end(parent.tokenizer, TURN_END)
    context = config.context or parent.config.context
    corpus = _corpus(config, folder, tokenizer, context, screen)
    assert corpus.train_mask is not None
    separator = tokenizer.special_id("<|endoftext|>")

    def data(rows: int) -> Conversations:
        assert corpus.train_mask is not None
        return Conversations(
            corpus.train, corpus.train_mask, context=context, rows=rows, separator=separator, seed=config.seed,
            shuffle=config.shuffle,
        )  # fmt: skip

    if recipe.plan:
        chosen = restore(FinetunePlan, recipe.plan, "plan", folder)
    else:
        chosen = _plan(config, parent, data(1).epoch_steps, context, began)
        recipe = dataclasses.replace(recipe, plan=dataclasses.asdict(chosen), data=corpus.sources)
        write_recipe(folder, recipe)
    screen.say(
        f"Plan: {parent.config.parameters / 1e6:.2f}M parameters, {corpus.train_documents:,} conversations, "
        f"{chosen.steps:,} steps of {chosen.rows * context:,} tokens ({chosen.epochs:.2g} epochs), {chosen.compute}, "
        f"{chosen.threads} threads, {chosen.tokens_per_s:,.0f} tokens/s, about {duration(chosen.wall_s)}."
    )
    steps = _step_plan(config, chosen)
    net = from_model(parent, compute=set_up(steps)).to(chosen.device)
    held_out = HeldOut(corpus.val, corpus.val_mask, tokenizer, context=context)
    prompts = [
        tokenizer.chat([{"role": "user", "content": text}], add_generation_prompt=True)
        for text in config.prompts
    ]
    one = Run(net, data(chosen.rows), held_out, tokenizer, steps, folder, screen, prompts)
    if one.resume():
        screen.say(f"Going on from step {one.step:,}.")
    trained = one.go()
    wall_s = one.before_s + time.monotonic() - began
    result = facts(trained.score, trained, wall_s)
    write_recipe(folder, dataclasses.replace(recipe, decisions=read_decisions(folder), result=result))
    card = _card(config, parent, corpus, trained, wall_s, recipe)
    path = write_files(folder, to_model(net, tokenizer, card), config.file_type)
    screen.say(
        f"Done: {trained.score.bits_per_byte:.3f} bits per byte on held-out answers after {trained.steps:,} steps "
        f"(planned {chosen.steps:,}) in {duration(wall_s)} (planned {duration(chosen.wall_s)})."
    )
    return Result(folder, path, trained.score, trained, wall_s)


def open_parent(path: Path) -> Model:
    """Return the model to start from; a run folder's weights come unrounded from its last checkpoint."""
    if not path.is_dir() or (path / "config.json").is_file():
        return load(path)
    if not (path / "model.gguf").is_file():
        raise UsageError(
            f"{path} holds no model.gguf: the run is not finished; go on with it by --resume {path}."
        )
    model = load(path / "model.gguf")
    state = checkpoint.load_latest(path / "checkpoints")
    if state is None:
        return model
    try:
        tensors = {name: state.tensors[f"model.{name}"].numpy() for name in model.config.shapes()}
    except KeyError as error:
        raise BadFileError(f"The checkpoint in {path} lacks {error}: it is not of this model.") from error
    return dataclasses.replace(model, tensors=tensors)


def _corpus(config: FinetuneConfig, folder: Path, tokenizer: Any, context: int, screen: Screen) -> Corpus:
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
    rows = config.batch or max(1, min(int(rows_per_epoch), 8192 // context))
    micro = machine.micro_rows(host, rows, context)
    shape = dataclasses.replace(parent.config, context=context)
    speed = machine.pace(host, shape, micro, limit_s=3.0)
    step_s = speed.step_s(rows, micro)
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
    return StepPlan(
        steps=chosen.steps, rows=chosen.rows, micro_rows=chosen.micro_rows, context=chosen.context,
        seed=config.seed, device=chosen.device, compute=chosen.compute, threads=chosen.threads,
        peak_flops=chosen.peak_flops, budget_s=chosen.budget_s, most_steps=chosen.steps, eval_every=chosen.eval_every,
        sample_every=chosen.sample_every, checkpoint_s=config.checkpoint_s,
        checkpoint_steps=config.checkpoint_steps, optimizer=_rates(config.optimizer), schedule=config.schedule,
    )  # fmt: skip


def _rates(chosen: OptimizerConfig) -> OptimizerConfig:
    """Return the rates with those filled in that were left open by `--set` of others."""
    defaults = {"muon_lr": 0.006, "embedding_lr": 0.004, "head_lr": 0.001, "norm_lr": 0.001}
    open_ = {name: value for name, value in defaults.items() if getattr(chosen, name) is None}
    return dataclasses.replace(chosen, **open_)  # type: ignore[arg-type]


def _settings(config: FinetuneConfig) -> dict[str, Any]:
    config = dataclasses.replace(
        config, data=tuple(str(Path(entry).resolve()) for entry in config.data), model=config.model.resolve(),
        corpus=config.corpus and config.corpus.resolve(), out=None,
    )  # fmt: skip
    return configs_plain(config)


def _card(
    config: FinetuneConfig, parent: Model, corpus: Corpus, trained: Trained, wall_s: float, recipe: Recipe
) -> dict[str, Any]:
    """Return the model's card: its own figures, its parent, and what the parent was made of."""
    before = parent.card
    source = config.model.parent if config.model.name == "model.gguf" else config.model
    parent_name = before.get("name") or source.stem
    sources = [
        {"name": Path(s["path"]).name, "bytes": s["bytes"], "sha256": s["sha256"] or ""}
        for s in corpus.sources
    ]
    card: dict[str, Any] = {
        "name": config.name or f"{parent_name}-chat",
        "summary": f"A model of {parent.config.parameters:,} parameters, tuned to answer in turns.",
        "parents": [{"name": parent_name, "scores": before.get("scores", [])}],
        "data": [*before.get("data", []), *sources],
        "scores": [
            {"name": "bits per byte of answers", "value": round(trained.score.bits_per_byte, 4), "split": "held out"}
        ],
        "samples": trained.samples,
        "limits": ["It is small: it writes fluent text and makes things up. Believe nothing it says."],
        "training": facts(trained.score, trained, wall_s),
        "recipe": {
            "kind": "finetune", "settings": public(_settings(config)), "plan": recipe.plan,
            "parent": before.get("recipe", {}),
        },
    }  # fmt: skip
    license_ = config.license or before.get("license")
    if license_:
        card["license"] = license_
    return card
