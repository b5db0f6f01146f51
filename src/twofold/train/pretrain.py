"""Pretraining: from text to a base model that goes on with any text.

The stages: look at the machine, choose a size, read and tokenise as much text as the budget can use, measure
how fast this model learns here, fix the number of steps, print the plan, train, score, write the files.

Not covered: continuing a finished run with more text.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from twofold.base import config as configs
from twofold.base.errors import UsageError
from twofold.corpus import Corpus, open_corpus, prepare
from twofold.train import dial, machine
from twofold.train.data import Windows
from twofold.train.display import Screen, duration
from twofold.train.evaluation import HeldOut, Score
from twofold.train.export import to_model, with_end, write_files
from twofold.train.folder import Recipe, new_folder, read_recipe, restore, write_recipe
from twofold.train.loop import Run, StepPlan, Trained, flops_per_token, read_decisions, set_up
from twofold.train.optimiser import OptimizerConfig
from twofold.train.schedule import ScheduleConfig
from twofold.train.transformer import Transformer

SEPARATOR = "<|endoftext|>"
START_S = 4.0  # python and torch were loaded before the clock here starts
PACKED = {".zst": 3.3, ".gz": 3.0, ".pdf": 0.1}  # text bytes per byte of file, roughly
DEFAULT_TIME = "20m"
PROMPTS = ("", "Once upon a time", "The most important")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What a pretraining run is told; None means: the dial decides.

    `data`: files, folders or a hub data set; or `corpus`: the folder of a prepared one. One of `time` ("20m"),
    `flops` and `model.depth` sets the size of the run (`time` with `depth` is allowed); `steps` overrules
    the number of steps. `batch`: rows of `model.context` tokens per step. `checkpoint_steps`: save every so
    many steps instead of every `checkpoint_s` seconds.
    """

    data: tuple[str, ...] = ()
    corpus: Path | None = None
    out: Path | None = None
    val: tuple[str, ...] = ()
    name: str | None = None
    license: str | None = None
    time: str | None = None
    flops: float | None = None
    steps: int | None = None
    batch: int | None = None
    seed: int = 0
    val_fraction: float = 0.02
    max_bytes: int | None = None
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: int | None = None
    eval_every: int | None = None
    eval_tokens: int | None = None
    sample_every: int | None = None
    prompts: tuple[str, ...] = PROMPTS
    checkpoint_s: float = 60.0
    checkpoint_steps: int = 0
    file_type: Literal["Q8_0", "F16", "F32", "BF16", "Q4_0"] = "Q8_0"
    model: dial.ShapeConfig = dial.ShapeConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        if any(number is not None and number < 1 for number in (self.steps, self.batch, self.threads)):
            raise ValueError("steps, batch and threads are 1 or more.")
        if self.flops is not None and self.flops < 1e9:
            raise ValueError("flops is at least 1e9.")


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its folder and model file, the plan (pretraining) and how it went."""

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


def plan(config: PretrainConfig, corpus: Corpus, *, began: float | None = None) -> dial.Plan:
    """Return what a run with `config` on `corpus` will do, after a short measurement of this machine.

    `began`: `time.monotonic()` when the run's clock started. Raises UsageError.
    """
    began = time.monotonic() if began is None else began
    host = machine.measure(config.device, config.compute, config.threads)
    budget_s = None if config.time is None else dial.seconds(config.time)
    vocab, notes = corpus.tokenizer.vocab_size, list[str]()
    train_tokens = len(corpus.train)
    bytes_per_token = corpus.train_bytes / max(1, train_tokens)
    flops = config.flops
    if flops is None and budget_s is not None:
        flops = _budget_flops(budget_s, host)
    chosen = dataclasses.replace(config.model, vocab=vocab)
    depth = dial.depth_for(chosen, flops or 0.0, corpus.train_bytes) if flops or config.model.depth else 4
    shape = dial.shape(chosen, depth, vocab)
    # A guess of the length gives the batch; the batch gives the pace; the pace gives the length.
    guess = dial.tokens_for(shape, flops, train_tokens)
    rows = config.batch or dial.batch_for(guess, shape.context)
    micro = machine.micro_rows(host, rows, shape.context)
    speed = machine.pace(host, shape, micro)
    step_s = 1.01 * speed.step_s(rows, micro)
    batch = rows * shape.context
    reserve_s = 0.0
    if budget_s is not None:
        reserve_s = 6 + 0.03 * budget_s
        steps_s = budget_s - START_S - (time.monotonic() - began) - reserve_s
        steps = max(10, int(steps_s * 0.96 / step_s))  # 4 % go to evaluation on the way
        most = max(10, int(dial.MOST_EPOCHS * train_tokens / batch))
        if steps > most and config.steps is None:
            steps = most
            notes.append(
                f"there is little text: it is read {dial.MOST_EPOCHS:.0f} times, and the run ends sooner"
            )
    else:
        steps_s, steps = None, max(10, round(guess / batch))
    most_steps = max(steps, int(dial.MOST_EPOCHS * train_tokens / batch))
    if config.steps is not None:
        steps = most_steps = config.steps
        steps_s = None
    tokens = steps * batch
    rates = _rates(config.optimizer, shape.width, tokens, batch)
    eval_every = config.eval_every if config.eval_every is not None else max(1, steps // 10)
    eval_tokens = config.eval_tokens or min(
        len(corpus.val), max(4 * shape.context, int(0.003 * steps * step_s / speed.evaluation_token_s))
    )
    middle, low, high = dial.expected(shape, tokens, bytes_per_token)
    item = 2 if host.compute == "bfloat16" else 4
    return dial.Plan(
        depth=depth, width=shape.width, heads=shape.heads, kv_heads=shape.kv_heads, head_dim=shape.head_dim,
        ffn=shape.ffn, vocab=vocab, context=shape.context, tied=shape.tied, rope_theta=shape.rope_theta,
        parameters=shape.parameters, tokens=tokens, train_tokens=train_tokens, steps=steps, rows=rows,
        micro_rows=micro, device=host.device, compute=host.compute, threads=speed.threads,
        peak_flops=host.peak_flops, tokens_per_s=batch / step_s, flops=flops_per_token(shape) * tokens,
        wall_s=1.04 * steps * step_s + (reserve_s or 10), budget_s=None if steps_s is None else max(1.0, steps_s),
        memory_bytes=dial.memory_bytes(shape, micro * shape.context, item), bits_per_byte=middle,
        most_steps=most_steps, bits_per_byte_low=low, bits_per_byte_high=high, eval_every=eval_every, eval_tokens=eval_tokens,
        sample_every=config.sample_every if config.sample_every is not None else max(1, steps // 5),
        notes=notes, **rates,
    )  # fmt: skip


def pretrain(config: PretrainConfig, *, console: Console | None = None) -> Result:
    """Return a finished run: its folder holds model.gguf, the card and the recipe.

    `console` gets the plan and the progress; None is silent. Raises UsageError, BadFileError, and Stopped
    (a KeyboardInterrupt) when the user stopped it and everything is saved.
    """
    if bool(config.data) == (config.corpus is not None):
        raise UsageError("Give either data to read or the folder of a prepared corpus.")
    if config.time is None and config.flops is None and config.model.depth is None and config.steps is None:
        config = dataclasses.replace(config, time=DEFAULT_TIME)
    if config.time is not None:
        dial.seconds(config.time)
    folder = new_folder(config.out, config.name or _name(config))
    write_recipe(folder, Recipe("pretrain", _settings(config)))
    return run(folder, console=console)


def run(folder: Path, *, console: Console | None = None) -> Result:
    """Return the pretraining run of a folder with a recipe, finished, from wherever it stands."""
    screen = Screen(console)
    with screen.resumable(folder):
        return _run(folder, screen)


def _run(folder: Path, screen: Screen) -> Result:
    began = time.monotonic()
    recipe = read_recipe(folder)
    config = restore(PretrainConfig, recipe.settings, "settings", folder)
    corpus = _corpus(config, folder, screen)
    if recipe.plan:
        chosen = restore(dial.Plan, recipe.plan, "plan", folder)
    else:
        screen.say("Measuring how fast this machine learns …", "dim")
        chosen = plan(config, corpus, began=began)
        recipe = dataclasses.replace(
            read_recipe(folder), plan=dataclasses.asdict(chosen), data=corpus.sources
        )
        write_recipe(folder, recipe)
    show_plan(screen, chosen)
    one = _start(config, chosen, corpus, folder, screen)
    net = one.net
    trained = one.go()
    # More held-out text than on the way, for about 3 % of the time that training took.
    limit = max(chosen.eval_tokens, int(0.03 * trained.elapsed_s * 3 * chosen.tokens_per_s))
    score = HeldOut(corpus.val, None, one.tokenizer, context=chosen.context, max_tokens=limit).score(net)
    wall_s = one.before_s + time.monotonic() - began
    result = facts(score, trained, wall_s)
    write_recipe(folder, dataclasses.replace(recipe, decisions=read_decisions(folder), result=result))
    card = _card(config, chosen, corpus, score, trained, wall_s)
    path = write_files(folder, to_model(net, one.tokenizer, card), config.file_type)
    show_result(screen, chosen, score, trained, wall_s)
    return Result(folder, path, score, trained, wall_s, chosen)


def _start(config: PretrainConfig, chosen: dial.Plan, corpus: Corpus, folder: Path, screen: Screen) -> Run:
    """Return the run, at its last checkpoint if it has one."""
    steps = step_plan(config, chosen)
    net = Transformer(chosen.model(), compute=set_up(steps))
    net.initialise(config.seed)
    net.to(steps.device)
    tokenizer = with_end(corpus.tokenizer, SEPARATOR)
    separator = tokenizer.special_id(SEPARATOR)
    data = Windows(
        corpus.train, context=chosen.context, rows=chosen.rows, separator=separator, seed=config.seed,
        shuffle=config.shuffle,
    )  # fmt: skip
    held_out = HeldOut(corpus.val, None, tokenizer, context=chosen.context, max_tokens=chosen.eval_tokens)
    prompts = [[separator, *tokenizer.encode(text)] for text in config.prompts]
    one = Run(net, data, held_out, tokenizer, steps, folder, screen, prompts)
    if one.resume():
        screen.say(f"Going on from step {one.step:,}.")
    return one


def step_plan(config: PretrainConfig, chosen: dial.Plan) -> StepPlan:
    """Return the plan as the loop takes it."""
    optimizer = dataclasses.replace(
        config.optimizer, muon_lr=chosen.muon_lr, embedding_lr=chosen.embedding_lr, head_lr=chosen.head_lr,
        norm_lr=chosen.norm_lr,
    )  # fmt: skip
    return StepPlan(
        steps=chosen.steps, rows=chosen.rows, micro_rows=chosen.micro_rows, context=chosen.context,
        seed=config.seed, device=chosen.device, compute=chosen.compute, threads=chosen.threads,
        peak_flops=chosen.peak_flops, budget_s=chosen.budget_s, most_steps=chosen.most_steps, eval_every=chosen.eval_every,
        sample_every=chosen.sample_every, checkpoint_s=config.checkpoint_s,
        checkpoint_steps=config.checkpoint_steps, optimizer=optimizer, schedule=config.schedule,
    )  # fmt: skip


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
    table.add_row(
        "bits per byte", f"{chosen.bits_per_byte:.2f} {interval}",
        f"{score.bits_per_byte:.3f}{'' if inside else ' (outside the interval)'}",
    )  # fmt: skip
    table.add_row("steps", f"{chosen.steps:,}", f"{trained.steps:,}")
    table.add_row("tokens", f"{chosen.tokens:,}", f"{trained.tokens:,}")
    pace = trained.tokens / max(trained.elapsed_s, 1e-9)
    table.add_row("tokens/s", f"{chosen.tokens_per_s:,.0f}", f"{pace:,.0f} (evaluation included)")
    table.add_row("share of peak", "", f"{100 * trained.utilisation:.0f} %")
    table.add_row("time", duration(chosen.wall_s), duration(wall_s))
    screen.console.print(table)


def _corpus(config: PretrainConfig, folder: Path, screen: Screen) -> Corpus:
    """Return the corpus of the run, read as far as the budget can use it."""
    if config.corpus is not None:
        return open_corpus(config.corpus)
    text_bytes = _text_bytes(config.data)
    host_flops = (
        None
        if config.time is None
        else _budget_flops(dial.seconds(config.time), machine.measure(config.device, "auto", config.threads))
    )
    flops = config.flops or host_flops
    depth = dial.depth_for(config.model, flops, text_bytes) if flops else config.model.depth or 4
    vocab = config.model.vocab or dial.vocab_for(depth, text_bytes)
    shape = dial.shape(config.model, depth, vocab)
    wanted = dial.tokens_for(shape, flops, float("inf"))
    if config.steps is not None:
        wanted = config.steps * (config.batch or dial.batch_for(wanted, shape.context)) * shape.context
    limit = config.max_bytes
    if limit is None and wanted * dial.BYTES_PER_TOKEN * 1.5 < 0.8 * text_bytes:
        limit = max(10_000_000, int(1.5 * dial.BYTES_PER_TOKEN * wanted))
    # Preparing twice must give the same corpus, so what was decided is written down before.
    recipe = read_recipe(folder)
    stored = recipe.settings.get("max_bytes"), recipe.settings["model"].get("vocab")
    if stored != (limit, vocab) and not recipe.plan:
        model = {**recipe.settings["model"], "vocab": stored[1] or vocab}
        settings = {**recipe.settings, "model": model, "max_bytes": stored[0] or limit}
        write_recipe(folder, dataclasses.replace(recipe, settings=settings))
    vocab, limit = stored[1] or vocab, stored[0] or limit
    last = [0.0]

    def progress(what: str, done: int) -> None:
        if time.monotonic() - last[0] > 5:
            last[0] = time.monotonic()
            screen.say(f"{what}: {done / 1e6:,.1f} MB", "dim")

    corpus = prepare(
        list(config.data), folder / "corpus", vocab_size=vocab, val_fraction=config.val_fraction,
        val_path=list(config.val) or None, seed=config.seed, max_bytes=limit, progress=progress,
    )  # fmt: skip
    screen.say(
        f"Text: {corpus.train_bytes / 1e6:,.1f} MB to learn from ({len(corpus.train):,} tokens, "
        f"{corpus.train_documents:,} documents), {corpus.val_bytes / 1e6:,.2f} MB held out."
    )
    return corpus


def _budget_flops(budget_s: float, host: machine.Machine) -> float:
    """Return the operations that fit into a time, before anything real was measured: half of the peak."""
    return 0.85 * budget_s * 0.5 * host.peak_flops


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


def _rates(chosen: OptimizerConfig, width: int, tokens: float, batch: int) -> dict[str, float]:
    """Return the learning rates that `chosen` leaves open, from width, length and batch."""
    # Short runs cannot wait: they take larger steps (measured, docs/log.md). Small rows of noise: smaller ones.
    muon = 0.03 * min(1.5, max(0.5, (5e6 / max(tokens, 1)) ** 0.15))
    adam = (width / 256) ** -0.5
    defaults = {"muon_lr": muon, "embedding_lr": 0.04 * adam, "head_lr": 0.006 * adam, "norm_lr": 0.01}
    return {name: getattr(chosen, name) or value for name, value in defaults.items()}


def _name(config: PretrainConfig) -> str:
    if config.corpus is not None:
        return config.corpus.name or "run"
    first = Path(config.data[0])
    return first.name.split(".")[0].replace("/", "-") or "run"


def _settings(config: PretrainConfig) -> dict[str, Any]:
    """Return the settings as plain values; paths are made absolute, so that resuming works from anywhere."""

    def whole(entry: str) -> str:
        return str(Path(entry).resolve()) if Path(entry).exists() else entry

    config = dataclasses.replace(
        config, data=tuple(whole(entry) for entry in config.data), val=tuple(whole(entry) for entry in config.val),
        corpus=config.corpus and config.corpus.resolve(), out=None,
    )  # fmt: skip
    return configs_plain(config)


def configs_plain(config: Any) -> dict[str, Any]:
    """Return a config dataclass as nested plain values, as a recipe holds them."""
    import tomllib

    return tomllib.loads(configs.to_toml(config))


def public(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings for a card, which others read: paths of this machine become names of files."""

    def named(value: Any) -> Any:
        return [Path(entry).name for entry in value] if isinstance(value, list) else Path(value).name

    return {
        k: named(v) if k in ("data", "val", "corpus", "model") and not isinstance(v, dict) else v
        for k, v in settings.items()
    }


def facts(score: Score, trained: Trained, wall_s: float) -> dict[str, Any]:
    return {
        "bits_per_byte": score.bits_per_byte, "val_loss_nats": score.loss_nats, "val_tokens": score.tokens,
        "val_bytes": score.bytes, "steps": trained.steps, "tokens": trained.tokens,
        "train_s": round(trained.elapsed_s, 1), "wall_s": round(wall_s, 1),
        "utilisation": round(trained.utilisation, 4),
    }  # fmt: skip


def _card(
    config: PretrainConfig, chosen: dial.Plan, corpus: Corpus, score: Score, trained: Trained, wall_s: float
) -> dict[str, Any]:
    """Return the model's card."""
    shape = chosen.model()
    name = config.name or _name(config)
    sources = [
        {"name": Path(s["path"]).name, "bytes": s["bytes"], "sha256": s["sha256"] or ""}
        for s in corpus.sources
    ]
    card: dict[str, Any] = {
        "name": name,
        "summary": f"A base model of {shape.parameters:,} parameters that goes on with text; it takes no turns.",
        "data": sources,
        "scores": [{"name": "bits per byte", "value": round(score.bits_per_byte, 4), "split": "held out",
                    "bytes": score.bytes}],
        "samples": trained.samples,
        "limits": ["It is small: it writes fluent text and makes things up. Believe nothing it says."],
        "training": facts(score, trained, wall_s),
        "recipe": {"kind": "pretrain", "settings": public(_settings(config)), "plan": dataclasses.asdict(chosen)},
    }  # fmt: skip
    if config.license:
        card["license"] = config.license
    return card
