"""A scaling ladder: many small runs of several sizes and lengths, from which larger ones are foretold.

Each rung is an ordinary pretraining run with the dial's own batch and rates, whose schedule ends where the
run ends: a loss read out of the middle of a longer schedule would be too high, by different amounts at
different lengths. All read one prepared corpus and are judged on the same held-out text. The budgets are a
geometric series, and each size is trained at several neighbouring ones: small sizes at the small budgets,
large at the large, so that every budget is met by several sizes (the isoFLOP picture of Hoffmann et al. 2022,
arXiv:2203.15556, approach 2) and the rungs surround the best size. One more run, larger than all of them, is
not shown to the fit but foretold by it.

A killed ladder goes on where it was: finished rungs are found in their folders, a broken one resumes.

Not covered: several seeds of a rung, tuning of rates within the ladder.
"""

import dataclasses
import itertools
import math
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from rich.console import Console

from twofold.base import config as configs
from twofold.base.errors import BadFileError, UsageError
from twofold.base.files import write_text
from twofold.corpus import Corpus, open_corpus, prepare
from twofold.measure import ladder as ladders
from twofold.measure.ladder import Ladder
from twofold.parameters import ModelConfig
from twofold.train import dial, machine
from twofold.train.dial import ShapeConfig
from twofold.train.display import Screen, duration
from twofold.train.folder import read_recipe, restore
from twofold.train.planning import device_name
from twofold.train.pretrain import pretrain, run
from twofold.train.settings import PretrainConfig
from twofold.train.step import flops_per_token

STEP = 2.2  # from one budget to the next
SIZE_RANGE = 7.0  # the largest size by the smallest
HELD_OUT_SIZE = 1.4  # the held-out size by the largest of the others
LEAST_STEPS = 60  # a shorter run says more about its first steps than about its size
OVERHEAD_S = 6.0  # of a rung besides its steps: start, evaluation, files
FIRST_GUESS = 0.35  # share of the peak that small models reach, to choose sizes before they are measured
# Shapes that differ in width only, as long as that will do: another layer or another head is a step in the
# loss that the law, which knows sizes only, would take for a slope.
WIDTHS = {2: tuple(range(24, 192, 8)), 3: (192, 224)}  # by depth; deeper ones below
HEADS = 2  # of depth 2
MARGIN = 1.4  # above short: attention is not in 6 operations per weight, and sizes come in steps
DEEPEST = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class LadderConfig:
    """What a ladder is told. `time` is for all rungs; or `flops`: the largest budget but the held-out one.

    `lengths`: at how many budgets each of the `sizes` is trained. `hold_out`: whether one more is foretold.
    """

    data: tuple[str, ...]
    out: Path = Path("runs/ladder")
    time: str = "25m"
    flops: float | None = None
    sizes: int = 6
    lengths: int = 3
    hold_out: bool = True
    vocab: int = 2048
    context: int = 512
    max_bytes: int = 120_000_000
    val: tuple[str, ...] = ()
    val_fraction: float = 0.01
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.sizes < 2 or self.lengths < 2 or self.sizes * self.lengths < 6:
            raise ValueError("a law needs at least 2 sizes, 2 lengths, and 6 runs.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One rung before it runs: its shape, its steps of `rows` × context tokens, and what to expect of it."""

    name: str
    depth: int
    width: int
    weights: int
    steps: int
    rows: int
    tokens: int
    threads: int
    seconds: float
    held_out: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
    """All rungs, in the order in which they run: cheap ones first, the held-out one last."""

    device: str
    compute: str
    rungs: list[Step]

    @property
    def seconds(self) -> float:
        """About how long they take."""
        return sum(rung.seconds for rung in self.rungs)


def scale(config: LadderConfig, *, console: Console | None = None) -> Ladder:
    """Return the ladder of `config`, trained, fitted, written to `config.out`; goes on with what is there.

    `console` gets a line for each rung; None is silent. Raises UsageError when `config.out` holds another
    ladder or something else, and as `pretrain` does.
    """
    screen = Screen(console)
    begin(config, screen)
    return climb(config.out, screen)


def begin(config: LadderConfig, screen: Screen) -> None:
    """Make a ladder's folder with its corpus and rungs, or see that it is the one asked for."""
    folder, path = config.out, config.out / "ladder.toml"
    told = dataclasses.replace(_absolute(config), out=Path("."))
    if path.exists():
        if dataclasses.replace(read(folder)[0], out=told.out) != told:
            raise UsageError(
                f"{folder} holds a ladder with other settings: go on with it (`--resume {folder}`) or choose "
                "another --out."
            )
        return
    dial.seconds(config.time)  # a time that makes no sense is said before anything is made
    design = plan(config, _corpus(told, folder, screen), screen)
    settings = dataclasses.asdict(told)
    record = {"twofold_ladder": 1, "settings": settings, **dataclasses.asdict(design)}
    write_text(path, configs.to_toml(record))


def read(folder: Path) -> tuple[LadderConfig, Design]:
    """Return the settings and the rungs of a ladder's folder. Raises UsageError, BadFileError."""
    path = folder / "ladder.toml"
    if not path.is_file():
        raise UsageError(f"{folder} is not the folder of a ladder: it holds no ladder.toml.")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        settings, _ = raw.pop("settings"), raw.pop("twofold_ladder")
    except (OSError, ValueError, KeyError) as error:
        raise BadFileError(f"{path} is damaged ({error}).") from error
    config = restore(LadderConfig, {**settings, "out": str(folder)}, "settings", folder)
    rungs = [restore(Step, rung, "rungs", folder) for rung in raw.pop("rungs", [])]
    return config, Design(rungs=rungs, **{name: raw[name] for name in ("device", "compute")})


def climb(folder: Path, screen: Screen) -> Ladder:
    """Return the ladder of a folder: trains the rungs that are not done, fits, writes `ladder.json`."""
    _, design = read(folder)
    done = sum(finished(folder, rung) for rung in design.rungs)
    left_s = sum(rung.seconds for rung in design.rungs if not finished(folder, rung))
    screen.say(
        f"{len(design.rungs)} runs, {done} of them done; about {duration(left_s)} to go. Ctrl-C stops; the "
        "same command goes on."
    )
    for number, rung in enumerate(design.rungs, 1):
        if not finished(folder, rung):
            train_one(folder, rung)
            result = read_recipe(folder / "rungs" / rung.name).result
            mark = ", held out" if rung.held_out else ""
            screen.say(
                f"{number:>2} of {len(design.rungs)}  {rung.weights / 1e6:6.2f}M weights  "
                f"{rung.tokens / 1e6:6.2f}M tokens  {result['bits_per_byte']:.4f} bits per byte  "
                f"{duration(result['wall_s'])}{mark}"
            )
    ladder = gather(folder)
    write_text(folder / "ladder.json", ladder.dump())
    return ladder


def finished(folder: Path, rung: Step) -> bool:
    """Return whether a rung has its result."""
    path = folder / "rungs" / rung.name
    return (path / "recipe.toml").is_file() and bool(read_recipe(path).result)


def train_one(folder: Path, rung: Step) -> None:
    """Train one rung, or go on with it. Raises as `pretrain` does."""
    config, design = read(folder)
    path = folder / "rungs" / rung.name
    if (path / "recipe.toml").exists():
        run(path)
    else:
        corpus = open_corpus(folder / "corpus")
        shape = ShapeConfig(depth=rung.depth, width=rung.width, context=config.context, vocab=config.vocab)
        pretrain(
            PretrainConfig(
                corpus=folder / "corpus", out=path, steps=rung.steps, batch=rung.rows, seed=config.seed,
                device=_kind(design.device), compute=_dtype(design.compute), threads=rung.threads,
                eval_every=0, eval_tokens=len(corpus.val), sample_every=0, prompts=(), model=shape,
            )
        )  # fmt: skip
    shutil.rmtree(path / "checkpoints", ignore_errors=True)  # a rung is for its figures


def gather(folder: Path) -> Ladder:
    """Return the fitted ladder of a folder whose rungs are done."""
    config, design = read(folder)
    corpus = open_corpus(folder / "corpus")
    per_token = corpus.train_bytes / max(1, len(corpus.train))
    runs = []
    for rung in design.rungs:
        recipe = read_recipe(folder / "rungs" / rung.name)
        made, result = recipe.plan, recipe.result
        speed = result["utilisation"] * made["peak_flops"]
        runs.append(
            ladders.Rung(
                depth=rung.depth, width=rung.width, weights=rung.weights, parameters=made["parameters"],
                tokens=result["tokens"], text_bytes=result["tokens"] * per_token, flops=made["flops"],
                bits_per_byte=result["bits_per_byte"], held_out=rung.held_out,
                train_s=made["flops"] / speed if speed else result["train_s"],
            )
        )  # fmt: skip
    return ladders.of_runs(
        runs, name=folder.resolve().name, device=device_name(design.device), compute=design.compute,
        vocabulary=config.vocab, bytes_per_token=per_token,
        text=tuple(source["sha256"] for source in corpus.sources if source["sha256"]),
    )  # fmt: skip


# --- the design


def plan(config: LadderConfig, corpus: Corpus, screen: Screen) -> Design:
    """Return the rungs that fill the budget, after measuring how fast each size learns here."""
    screen.say("Measuring how fast each size learns …", "dim")
    host = machine.measure(config.device, config.compute, config.threads)
    budgets = config.lengths + min(2, config.sizes - 1)
    total_s, paces = dial.seconds(config.time), dict[ModelConfig, tuple[float, int]]()
    top = config.flops or _top_budget(total_s, FIRST_GUESS * host.peak_flops, config)
    for _ in range(1 if config.flops else 2):  # then with sizes for the budget that there really is
        shapes = _shapes(config, math.sqrt(top / 6 / _top_tokens_per_weight(config)))
        paces |= {shape: _pace(host, shape, config) for shape in shapes if shape not in paces}
        if config.flops is None:
            # Seconds grow with the budgets, but for what each rung costs besides: solve for the top one.
            trial = _rungs(config, shapes, paces, budgets, top)
            besides_s = len(trial) * OVERHEAD_S
            top *= max(0.05, (total_s - besides_s) / (sum(rung.seconds for rung in trial) - besides_s))
    rungs = _rungs(config, shapes, paces, budgets, top)
    if len({rung.name for rung in rungs}) < len(rungs):
        raise UsageError("The budget is too small: runs of different lengths would be equal. Give more time.")
    longest = max(rung.tokens for rung in rungs)
    if longest > len(corpus.train):
        screen.say(
            f"The longest run reads the text {longest / len(corpus.train):.1f} times over: give more text "
            "for a law of fresh text.", "yellow",
        )  # fmt: skip
    return Design(device=host.device, compute=host.compute, rungs=rungs)


def _top_budget(total_s: float, flops_per_s: float, config: LadderConfig) -> float:
    """Return the largest budget but the held-out, when all sizes were equally fast."""
    starts = _starts(config)
    powers = [start + k - max(starts) - config.lengths + 1 for start in starts for k in range(config.lengths)]
    shares = sum(STEP**power for power in powers)
    return total_s * flops_per_s / (shares + (STEP if config.hold_out else 0))


def _top_tokens_per_weight(config: LadderConfig) -> float:
    """Return what the largest size reads at its largest budget, so that it is not short at its least."""
    return MARGIN * ladders.SHORT * STEP ** (config.lengths - 1)


def _starts(config: LadderConfig) -> list[int]:
    """Return the first budget of each size: small sizes begin at the smallest."""
    most = min(2, config.sizes - 1)
    return [round(i * most / (config.sizes - 1)) for i in range(config.sizes)]


def _rungs(
    config: LadderConfig, shapes: list[ModelConfig], paces: Mapping[ModelConfig, tuple[float, int]],
    budgets: int, top: float,
) -> list[Step]:  # fmt: skip
    """Return the rungs for a largest budget `top`; `paces`: operations a second and threads of each shape."""
    found = []
    for shape, start in zip(shapes, [*_starts(config), None], strict=False):
        powers = [budgets] if start is None else range(start, start + config.lengths)
        for power in powers:
            flops = top * STEP ** (power - budgets + 1)
            found.append(_step(config, shape, flops, paces[shape], held_out=start is None))
    return sorted(found, key=lambda rung: (rung.held_out, rung.seconds))


def _step(
    config: LadderConfig, shape: ModelConfig, flops: float, pace: tuple[float, int], *, held_out: bool
) -> Step:
    tokens = flops / flops_per_token(shape)
    rows = dial.batch_for(tokens, shape.context)
    steps = max(LEAST_STEPS, round(tokens / (rows * shape.context)))
    read = steps * rows * shape.context
    return Step(
        name=f"d{shape.layers}w{shape.width}-{steps * rows}rows", depth=shape.layers, width=shape.width,
        weights=dial.weights(shape), steps=steps, rows=rows, tokens=read, threads=pace[1],
        seconds=round(OVERHEAD_S + read * flops_per_token(shape) / pace[0], 1), held_out=held_out,
    )  # fmt: skip


def _shapes(config: LadderConfig, largest: float) -> list[ModelConfig]:
    """Return the shapes whose sizes are nearest to a geometric series up to `largest`, ascending.

    The last one is the held-out size, if there is to be one.
    """
    wanted = [largest * SIZE_RANGE ** (i / (config.sizes - 1) - 1) for i in range(config.sizes)]
    if config.hold_out:
        wanted.append(largest * HELD_OUT_SIZE)
    chosen: list[ModelConfig] = []
    known = sorted(_candidates(config), key=dial.weights)
    for weights in wanted:
        left = [shape for shape in known if not chosen or dial.weights(shape) > dial.weights(chosen[-1])]
        if not left:
            raise UsageError("The budget is too large for the sizes that a ladder knows; give less time.")
        chosen.append(min(left, key=lambda shape: abs(math.log(dial.weights(shape) / weights))))
    return chosen


def _candidates(config: LadderConfig) -> Iterator[ModelConfig]:
    deeper = {depth: (64 * depth - 32, 64 * depth) for depth in range(4, DEEPEST + 1)}
    for depth, width in itertools.chain.from_iterable(
        ((depth, width) for width in widths) for depth, widths in (WIDTHS | deeper).items()
    ):
        heads = HEADS if depth == 2 else None
        chosen = ShapeConfig(
            width=width, context=config.context, heads=heads, head_dim=width // heads if heads else None
        )
        yield dial.shape(chosen, depth, config.vocab)


def _pace(host: machine.Machine, shape: ModelConfig, config: LadderConfig) -> tuple[float, int]:
    """Return the operations per second at which a shape learns here, and with how many threads."""
    rows = max(1, 2048 // shape.context)
    found = machine.pace(host, shape, rows, threads=config.threads, limit_s=1.0)
    return rows * shape.context * flops_per_token(shape) / found.step_s(rows, rows), found.threads


def _corpus(config: LadderConfig, folder: Path, screen: Screen) -> Corpus:
    """Return the one corpus of all rungs."""
    corpus = prepare(
        list(config.data), folder / "corpus", vocab_size=config.vocab, seed=config.seed,
        val_fraction=config.val_fraction, val_path=list(config.val) or None, max_bytes=config.max_bytes,
    )  # fmt: skip
    screen.say(
        f"Text: {corpus.train_bytes / 1e6:,.1f} MB to learn from ({len(corpus.train) / 1e6:,.1f}M tokens), "
        f"{corpus.val_bytes / 1e6:,.2f} MB held out."
    )
    return corpus


def _absolute(config: LadderConfig) -> LadderConfig:
    """Return the settings with whole paths, to go on from anywhere."""

    def whole(entries: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(Path(entry).resolve()) if Path(entry).exists() else entry for entry in entries)

    return dataclasses.replace(config, data=whole(config.data), val=whole(config.val))


def _kind(device: str) -> Literal["cpu", "cuda"]:
    return "cuda" if device == "cuda" else "cpu"


def _dtype(compute: str) -> Literal["bfloat16", "float32"]:
    return "float32" if compute == "float32" else "bfloat16"
