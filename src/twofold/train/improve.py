"""Improving: a model learns a task from rewards that check themselves (twofold/environments).

    twofold improve MODEL --on countdown --time 20m

The stages: examples by the task's own solver, if the model cannot do the task at all (`imitate`); a test on
problems that it will never train on; rounds of trying and learning until the time is up; the test again; the
files. Two methods, `grpo` and `expert` (policy.py says how they learn); what a round does is in rounds.py.

Not covered: rewards that a model gives, several tasks in one run, rollouts on a GPU.
"""

import dataclasses
import time
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from twofold.base import config as configs
from twofold.base import runlog
from twofold.base.errors import UsageError
from twofold.base.files import atomic_write, write_text
from twofold.environments import TASKS
from twofold.measure.attempts import Prompts, bootstrap, scores
from twofold.parameters import Model, save_gguf
from twofold.run import library
from twofold.tokens.specials import TURN_END
from twofold.train import cards, dial, machine
from twofold.train.curve import draw
from twofold.train.display import duration
from twofold.train.examples import Examples, write
from twofold.train.export import from_model, spell, to_model, with_end
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.optimiser import OptimizerConfig
from twofold.train.parent import open_parent
from twofold.train.policy import Method
from twofold.train.reinforce import Learning
from twofold.train.rounds import MODES, RoundPlan, Rounds, evaluations, solver_rewards
from twofold.train.schedule import Schedule, ScheduleConfig
from twofold.train.transformer import Transformer
from twofold.train.watching import Watch

DEFAULT_TIME = "20m"
FILES_S = 3.0  # that writing the files takes
RATES = OptimizerConfig(muon_lr=0.002, embedding_lr=0.001, head_lr=0.0005, norm_lr=0.0005)
IMITATION_RATES = OptimizerConfig(muon_lr=0.03, embedding_lr=0.02, head_lr=0.003, norm_lr=0.01)
IMITATION_SCHEDULE = ScheduleConfig(warmup=0.02, decay=0.7, final=0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImproveConfig:
    """What a run is told; None means that the task or this machine decides.

    `time`: for everything; or `rounds`. A round: `group` attempts at each of `problems`, then `updates`
    steps. `imitate`: so many of the solver's turns are learned first, `imitate_epochs` times over.
    `engine_type`: as what the engine holds the weights while it writes answers. `compiled`: blocks go
    through torch's compiler, which takes half a minute and needs a C++ compiler; worth it in long runs whose
    turns are of about one length, since each length is compiled anew. `decay`: the share of `rounds` at the
    end over which rates fall to 0; without a number of rounds there is none.
    """

    model: Path
    task: str
    method: Method = "grpo"
    out: Path | None = None
    name: str | None = None
    license: str | None = None
    time: str | None = None
    rounds: int | None = None
    seed: int = 0
    problems: int = 32
    group: int = 8
    updates: int = 1
    warmup: int = 5
    decay: float = 0.0
    temperature: float = 1.0
    max_tokens: int | None = None
    clip_low: float = 0.2
    clip_high: float = 0.28
    kl: float = 0.0
    imitate: int = 0
    imitate_epochs: float = 1.0
    imitate_batch: int = 256
    test_problems: int = 400
    eval_every: int = 25
    engine_type: Literal["F32", "F16", "BF16", "Q8_0"] = "F32"
    sequences: int = 64
    device: Literal["cpu", "cuda"] = "cpu"
    compute: Literal["bfloat16", "float32"] = "float32"
    compiled: bool = False
    threads: int | None = None
    file_type: Literal["Q8_0", "F16", "F32", "BF16", "Q4_0"] = "Q8_0"
    optimizer: OptimizerConfig = RATES
    imitation_optimizer: OptimizerConfig = IMITATION_RATES

    def __post_init__(self) -> None:
        counts = (self.problems, self.updates, self.imitate_batch, self.test_problems, self.sequences)
        if min(counts) < 1 or self.group < 2:
            raise ValueError("problems, updates, test_problems are 1 or more, group 2 or more.")
        if self.imitate < 0 or self.imitate_epochs <= 0 or (self.rounds or 0) < 0 or (self.threads or 1) < 1:
            raise ValueError("imitate and rounds are 0 or more, imitate_epochs above 0, threads 1 or more.")
        if not 0 <= self.decay <= 1:
            raise ValueError("decay is a share of the rounds, from 0 to 1.")
        if self.temperature <= 0 or not 0 < self.clip_low < 1 or self.clip_high <= 0 or self.kl < 0:
            raise ValueError("temperature and clip_high are above 0, clip_low in (0, 1), kl 0 or more.")


@dataclasses.dataclass(frozen=True)
class Improved:
    """A finished run: its folder and model file, and the tests of it by stage and mode."""

    folder: Path
    model: Path
    rounds: int
    table: list[dict[str, str]]
    wall_s: float
    chats: bool = True


def improve(config: ImproveConfig, *, console: Console | None = None) -> Improved:
    """Return a finished run: its folder holds model.gguf, the card with the table, and the recipe.

    Raises UsageError, BadFileError, and Stopped when the user stopped it and everything is saved.
    """
    TASKS.get(config.task)
    if not config.model.exists():
        raise UsageError(f"There is no model {config.model} to improve.")
    if config.time is None and config.rounds is None:
        config = dataclasses.replace(config, time=DEFAULT_TIME)
    if config.time is not None:
        dial.seconds(config.time)  # a time that makes no sense is said before anything is made
    source = config.model.parent if config.model.name == "model.gguf" else config.model
    folder = new_folder(config.out, config.name or f"{source.stem}-{config.task}")
    settings = dataclasses.replace(config, out=None, model=config.model.resolve())
    write_recipe(folder, Recipe("improve", tomllib.loads(configs.to_toml(settings))))
    return run(folder, console=console)


def run(folder: Path, *, console: Console | None = None) -> Improved:
    """Return the run of a folder with a recipe, finished, from wherever it stands."""
    watch = Watch(console)
    with watch.resumable(folder):
        return _run(folder, watch)


def _run(folder: Path, watch: Watch) -> Improved:
    began = time.monotonic()
    recipe = read_recipe(folder)
    config = restore(ImproveConfig, recipe.settings, "settings", folder)
    task, parent = TASKS.get(config.task), open_parent(config.model)
    parent = dataclasses.replace(parent, tokenizer=with_end(parent.tokenizer, TURN_END))
    threads = config.threads or machine.cores()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    net: Transformer = from_model(parent, compute=getattr(torch, config.compute)).to(config.device)
    examples = _examples(config, folder, task, parent, watch)
    plan = _plan(config, len(examples) if examples else 0, threads, time.monotonic() - began)
    if config.compiled:
        net.compile_blocks()
    watch.say(_spell(config, plan, parent))
    one = Rounds(net, task, parent.tokenizer, examples, plan, folder, watch)
    if one.resume() and not one.finished:
        watch.say(f"Going on from step {one.step:,}.")
    one.go()
    table = _table(one)
    facts = {"rounds": one.round, "steps": one.step, "tokens": one.tokens, "train_s": round(one.elapsed_s, 1)}
    recipe = dataclasses.replace(recipe, result=facts)
    write_recipe(folder, recipe)
    path = _write_files(config, recipe, folder, to_model(net, parent.tokenizer, {}), parent, one, table)
    show(watch, one, table)
    watch.say(f"Done: {one.round:,} rounds of {config.method} in {duration(one.elapsed_s)}.")
    return Improved(folder, path, one.round, table, one.elapsed_s)


def _examples(
    config: ImproveConfig, folder: Path, task: ModuleType, parent: Model, watch: Watch
) -> Examples | None:
    """Return the solver's examples as tokens, None when none are asked for."""
    if not config.imitate:
        return None
    path = folder / "examples.jsonl"
    write(path, task, config.imitate, config.seed, watch.written)
    found = Examples(path, Prompts(parent.tokenizer), parent.config.context)
    if not len(found):
        raise UsageError(
            f"No example of {config.task} fits into the model's window of {parent.config.context} tokens."
        )
    if found.left_out:
        watch.say(f"left out: {found.left_out:,} examples longer than the model's window", "dim")
    return found


def _plan(config: ImproveConfig, examples: int, threads: int, spent_s: float) -> RoundPlan:
    """Return the plan as the loop takes it."""
    steps = -(-round(examples * config.imitate_epochs) // config.imitate_batch)
    budget_s = None
    if config.time is not None:
        budget_s = max(1.0, dial.seconds(config.time) - FILES_S - spent_s)

    def same(cls: Any) -> dict[str, Any]:
        names = {field.name for field in dataclasses.fields(cls)} & set(vars(config))
        return {name: getattr(config, name) for name in names - {"threads"}}

    return RoundPlan(
        **same(RoundPlan), learning=Learning(**same(Learning)), threads=threads, budget_s=budget_s,
        imitation=Schedule.of(IMITATION_SCHEDULE, steps) if steps else None,
    )  # fmt: skip


def _spell(config: ImproveConfig, plan: RoundPlan, parent: Model) -> str:
    """Return the plan in a sentence."""
    first = f"{plan.imitation_steps:,} steps of imitation, then " if plan.imitation else ""
    until = f"{config.rounds:,} rounds" if config.rounds is not None else "rounds"
    until += f", {config.time} in all" if config.time else ""
    return (
        f"Plan: {parent.config.parameters / 1e6:.2f}M parameters on {config.task}: {first}{until}; a round "
        f"is {config.group} attempts at each of {config.problems} problems, learned from by {config.method}."
    )


def _table(one: Rounds) -> list[dict[str, str]]:
    """Return the tests at the start, after imitation and at the end, the solver's, and what was gained."""
    found = evaluations(one.folder)
    stages = {"start": found[0]}
    if one.plan.imitation:
        stages["after imitation"] = next(r for r in found if r["step"] == one.plan.imitation_steps)
    stages["after rewards"] = found[-1]
    rows = []
    for stage, record in stages.items():
        score = {mode: scores(record[f"rewards_{mode}"]).spell() for mode in MODES}
        rows.append({"stage": stage, **score})
    before = list(stages.values())[-2]
    gains = {}
    for mode in MODES:
        key = f"rewards_{mode}"
        gained = [b - a for a, b in zip(before[key], found[-1][key], strict=True)]
        low, high = bootstrap(gained)
        mean = sum(gained) / max(1, len(gained))
        gains[mode] = f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"
    solver = scores(solver_rewards(one.task, one.tests))
    rows.append({"stage": "gained by rewards", **gains})
    rows.append({"stage": "the task's own solver", **dict.fromkeys(MODES, solver.spell())})
    return rows


def show(watch: Watch, one: Rounds, table: list[dict[str, str]]) -> None:
    """Print the table of the tests."""
    shown = Table("", *MODES, box=None, pad_edge=False, header_style="dim")
    for row in table:
        shown.add_row(row["stage"], *(row[mode] for mode in MODES))
    watch.say(f"{len(one.tests):,} problems never trained on (95 % intervals):")
    watch.console.print(shown)


def _write_files(
    config: ImproveConfig, recipe: Recipe, folder: Path, model: Model, parent: Model, one: Rounds,
    table: list[dict[str, str]],
) -> Path:  # fmt: skip
    """Write model.gguf, run.c, tokenizer.json, reward.svg and card.md; return the path of the first."""
    card = _card(config, recipe, parent, one, table)
    path = folder / "model.gguf"
    with atomic_write(folder / "run.c") as file:
        file.write(library.program().encode())
    save_gguf(dataclasses.replace(model, card=card), path, config.file_type)
    model.tokenizer.save(folder / "tokenizer.json")
    records = runlog.read(folder / "metrics.jsonl")
    train = [(r["step"], r["reward"]) for r in records if r.get("phase") == "reward"]
    tests = [(r["step"], scores(r["rewards_sampled"]).reward) for r in records if r.get("phase") == "test"]
    names = ("reward of a round's attempts", "reward on unseen problems, sampled")
    write_text(folder / "reward.svg", draw(train, tests, names))
    write_text(folder / "card.md", spell(card, ("Reward", "reward.svg")))
    return path


def _card(
    config: ImproveConfig, recipe: Recipe, parent: Model, one: Rounds, table: list[dict[str, str]]
) -> dict[str, Any]:
    before = parent.card
    split = f"{len(one.tests)} unseen problems"
    scored = [
        {"name": f"{config.task}, {mode}, {row['stage']}", "value": row[mode], "split": split}
        for mode in MODES
        for row in table
    ]
    size = parent.config.parameters
    card: dict[str, Any] = {
        "name": config.name or one.folder.name,
        "summary": f"A model of {size:,} parameters, improved at {config.task} by rewards.",
        "parents": [{"name": before.get("name") or config.model.stem}],
        "data": before.get("data", []),
        "scores": [
            *scored,
            *({**score, "name": f"{score['name']} (parent)"} for score in before.get("scores", [])),
        ],
        "limits": [
            *cards.LIMITS,
            f"It learned what {config.task} rewards, and may have forgotten other things: measure them.",
        ],
        "training": recipe.result,
        "recipe": {
            "kind": "improve", "settings": cards.public(recipe.settings), "parent": before.get("recipe", {}),
        },
    }  # fmt: skip
    license_ = config.license or before.get("license")
    return {**card, "license": license_} if license_ else card
