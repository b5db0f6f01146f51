"""Pretraining: from text to a base model that goes on with any text.

The stages: look at the machine, choose a size, read and tokenise as much text as the budget can use, measure
how fast this model learns here, fix the number of steps, print the plan, train, score, write the files.

A run may go on from a finished model (`start`) with other text.

Not covered: remembering what that model has read already.
"""

import dataclasses
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from twofold.base.errors import UsageError
from twofold.corpus import Corpus
from twofold.train import cards, dial, parallel, planning
from twofold.train.appointment import read_decisions
from twofold.train.data import Windows
from twofold.train.display import Screen, duration
from twofold.train.evaluation import HeldOut, Score
from twofold.train.export import (
    SEPARATOR,
    check_trained,
    from_model,
    to_model,
    with_end,
    write_files,
)
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.loop import Run, Trained
from twofold.train.parent import described, open_parent
from twofold.train.settings import PretrainConfig, plain
from twofold.train.step import set_up
from twofold.train.transformer import Transformer

DEFAULT_TIME = "20m"
FINAL_EVALUATION = 0.03  # share of the training time that the last evaluation may take


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its folder and model file, its score, how it went, and the plan (pretraining)."""

    folder: Path
    model: Path
    score: Score
    trained: Trained
    wall_s: float
    plan: dial.Plan | None = None

    @property
    def chats(self) -> bool:
        """Whether the model takes turns."""
        return self.plan is None


def pretrain(config: PretrainConfig, *, console: Console | None = None) -> Result:
    """Return a finished run: its folder holds model.gguf, the card and the recipe.

    `console` gets the plan and the progress; None is silent. Raises UsageError, BadFileError, and Stopped
    (a KeyboardInterrupt) when the user stopped it and everything is saved.
    """
    if bool(config.data) == (config.corpus is not None):
        raise UsageError("Give either data to read or the folder of a prepared corpus.")
    if config.time is None and config.flops is None and config.model.depth is None and config.steps is None:
        config = dataclasses.replace(config, time=DEFAULT_TIME)
    if config.start is not None:
        check_trained(described(config.start).config)
    if config.time is not None:
        dial.seconds(config.time)  # a time that makes no sense is said before anything is made
    with parallel.joined() as team:
        folder = Path(team.told(lambda: str(_begun(config))))
        return run(folder, console=console)


def _begun(config: PretrainConfig) -> Path:
    """Return the folder of a run that is now begun, or of the one that torchrun has started anew."""
    if parallel.restarted() and config.out is not None and (config.out / "recipe.toml").exists():
        return config.out
    folder = new_folder(config.out, config.name or _name(config))
    write_recipe(folder, Recipe("pretrain", plain(config)))
    return folder


def run(folder: Path, *, console: Console | None = None) -> Result:
    """Return the pretraining run of a folder with a recipe, finished, from wherever it stands."""
    with parallel.joined() as team:
        screen = Screen(console if team.speaks else None)
        with screen.resumable(folder):
            return _run(folder, screen, team)


def _planned(folder: Path, screen: Screen, began: float) -> tuple[Recipe, PretrainConfig, Corpus, dial.Plan]:
    """Return the recipe of a run, its settings, text and plan, after making and writing what is not there."""
    recipe = read_recipe(folder)
    config = planning.size(restore(PretrainConfig, recipe.settings, "settings", folder))
    recipe = dataclasses.replace(recipe, settings=plain(config))
    write_recipe(folder, recipe)
    corpus = planning.read(config, folder, screen)
    if recipe.plan:
        chosen = restore(dial.Plan, recipe.plan, "plan", folder)
    else:
        screen.say("Measuring how fast this machine learns …", "dim")
        chosen = planning.plan(config, corpus, began=began)
        recipe = dataclasses.replace(recipe, plan=dataclasses.asdict(chosen), data=corpus.sources)
        write_recipe(folder, recipe)
    return recipe, config, corpus, chosen


def _run(folder: Path, screen: Screen, team: parallel.Team) -> Result:
    began = time.monotonic()
    recipe, config, corpus, chosen = team.first(lambda: _planned(folder, screen, began))
    show_plan(screen, chosen)
    one = _start(config, chosen, corpus, folder, screen, team)
    trained = one.go()
    net = one.learner.whole()
    if net is None:  # the first process writes the files
        return Result(folder, folder / "model.gguf", trained.score, trained, one.elapsed_s, chosen)
    # More held-out text than on the way; evaluation is about three times as fast as training.
    limit = max(chosen.eval_tokens, int(FINAL_EVALUATION * trained.elapsed_s * 3 * chosen.tokens_per_s))
    score = trained.score
    if min(limit, len(corpus.val)) > chosen.eval_tokens:
        held_out = HeldOut(corpus.val, None, one.tokenizer, context=chosen.context, max_tokens=limit)
        score = held_out.score(net)
    wall_s = one.before_s + time.monotonic() - began
    facts = cards.facts(score, trained, wall_s)
    recipe = dataclasses.replace(recipe, decisions=read_decisions(folder), result=facts)
    write_recipe(folder, recipe)
    before = None if config.start is None else described(config.start).card
    card = cards.of_pretraining(config, recipe, chosen, corpus, trained, config.name or folder.name, before)
    path = write_files(folder, to_model(net, one.tokenizer, card), config.file_type)
    show_result(screen, chosen, score, trained, wall_s)
    return Result(folder, path, score, trained, wall_s, chosen)


def _start(
    config: PretrainConfig,
    chosen: dial.Plan,
    corpus: Corpus,
    folder: Path,
    screen: Screen,
    team: parallel.Team,
) -> Run:
    """Return the run, at its last checkpoint if it has one."""
    steps = planning.step_plan(config, chosen)
    if config.start is None:
        net = Transformer(chosen.model(), compute=set_up(steps))
        net.initialise(config.seed)
    else:
        parent = open_parent(config.start)
        window = max(parent.config.context, chosen.context)  # longer rows teach a longer window
        parent = dataclasses.replace(parent, config=dataclasses.replace(parent.config, context=window))
        net = from_model(parent, compute=set_up(steps))
    net.to(steps.device)
    if chosen.compiled:
        net.compile_blocks()
    tokenizer = with_end(corpus.tokenizer, SEPARATOR)
    separator = tokenizer.separator_id
    data = Windows(
        corpus.train, context=chosen.context, rows=chosen.rows, separator=separator, seed=config.seed,
        shuffle=config.shuffle,
    )  # fmt: skip
    held_out = HeldOut(corpus.val, None, tokenizer, context=chosen.context, max_tokens=chosen.eval_tokens)
    prompts = [[separator, *tokenizer.encode(text)] for text in config.prompts]
    one = Run(net, data, held_out, tokenizer, steps, folder, screen, prompts, team)
    one.resume()
    return one


def show_plan(screen: Screen, chosen: dial.Plan) -> None:
    """Print the plan as a table."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column()
    for name, value in chosen.rows_of_text():
        table.add_row(name, value)
    screen.console.print(table)


def show_result(screen: Screen, chosen: dial.Plan, score: Score, trained: Trained, wall_s: float) -> None:
    """Print what was planned beside what happened."""
    table = Table("", "planned", "happened", box=None, pad_edge=False, header_style="dim")
    inside = chosen.bits_per_byte_low <= score.bits_per_byte <= chosen.bits_per_byte_high
    interval = f"({chosen.bits_per_byte_low:.2f} to {chosen.bits_per_byte_high:.2f})"
    happened = f"{score.bits_per_byte:.3f}{'' if inside else ' (outside the interval)'}"
    table.add_row("bits per byte", f"{chosen.bits_per_byte:.2f} {interval}", happened)
    table.add_row("steps", f"{chosen.steps:,}", f"{trained.steps:,}")
    table.add_row("tokens", f"{chosen.tokens:,}", f"{trained.tokens:,}")
    pace = trained.tokens / max(trained.elapsed_s, 1e-9)
    table.add_row("tokens/s", f"{chosen.tokens_per_s:,.0f}", f"{pace:,.0f} (evaluation included)")
    table.add_row("share of peak", "", f"{100 * trained.utilisation:.0f} %")
    table.add_row("time", duration(chosen.wall_s), duration(wall_s))
    screen.console.print(table)


def _name(config: PretrainConfig) -> str:
    """Return what a run is called when nobody says: after its first path."""
    first = config.corpus or Path(config.data[0])
    return first.name.split(".")[0] or "run"
