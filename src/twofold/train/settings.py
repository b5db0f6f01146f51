"""What a run is told: one frozen dataclass per kind of run, kept in the run's recipe.

None means that the dial, the data or this machine decides.
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

from twofold.base import config as configs
from twofold.measure.compare import TASKS
from twofold.train.dial import ShapeConfig
from twofold.train.guard import GuardConfig
from twofold.train.optimiser import OptimizerConfig
from twofold.train.schedule import ScheduleConfig

PRETRAIN_PROMPTS = ("", "Once upon a time", "The most important")
FINETUNE_PROMPTS = ("Hello! Who are you?", "What is the sun?", "Tell me a story.")
LINEAR = ScheduleConfig(warmup=0.02, decay=0.98, final=0.0)
PREFERENCE_SCHEDULE = ScheduleConfig(warmup=0.1, decay=0.9, final=0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """What a pretraining run is told; None means: the dial decides.

    `data`: files, folders or a hub data set; or `corpus`: the folder of a prepared one. `time` ("20m"),
    `flops` and `model.depth` sets the size of the run (`time` with `depth` is allowed); `steps` overrules
    the number of steps. `batch`: rows of `model.context` tokens per step. `compiled`: by torch's compiler,
    which pays in runs of more than some minutes. `checkpoint_steps`: save every so many steps instead of
    every `checkpoint_s` seconds; `checkpoint_keep` and `checkpoint_best`: the last ones and the best stay;
    `checkpoint_share`: of the time, that saving may take (0: only checkpoints).
    `layout`: under torchrun, whether each process holds a copy of the model or a part of it. `start`: a
    model file or a run folder to go on from, with its tokenizer and shape; `model.context` is how long the
    rows are.
    """

    data: tuple[str, ...] = ()
    corpus: Path | None = None
    start: Path | None = None
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
    compiled: bool | None = None
    layout: Literal["auto", "copies", "shards"] = "auto"
    eval_every: int | None = None
    eval_tokens: int | None = None
    sample_every: int | None = None
    prompts: tuple[str, ...] = PRETRAIN_PROMPTS
    checkpoint_s: float = 60.0
    checkpoint_steps: int = 0
    checkpoint_keep: int = 2
    checkpoint_best: bool = True
    checkpoint_share: float = 0.02
    file_type: Literal["Q8_0", "F16", "F32", "BF16", "Q4_0"] = "Q8_0"
    model: ShapeConfig = dataclasses.field(default_factory=ShapeConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        if any(number is not None and number < 1 for number in (self.steps, self.batch, self.threads)):
            raise ValueError("steps, batch and threads are 1 or more.")
        _check_saving(self)
        if self.flops is not None and self.flops < 1e9:
            raise ValueError("flops is at least 1e9.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningConfig:
    """What every run is told that starts from a model; None means: follows from the data.

    `model`: a model.gguf or a run folder (then the unrounded weights of its last checkpoint are used).
    `data`: files, or folders of prepared conversations. `rehearse`: the share (tuning) or weight
    (preferences) of the model's own answers to general questions and text, so that it forgets less.
    `time` cuts the number of steps that `epochs` ask for; `steps` overrules both. `batch`: rows of
    `context` tokens, or pairs, per step. `lora`: the rank of adapters, 0 trains all weights. `patience`:
    the run ends when so many scores on what was held out in a row were not better than the best, 0 =
    never. `bad_lines`: what to do about lines that cannot be learned from. `compare`: measure the model
    before and after, on what was held out, general text, and those of the benchmarks `tasks` whose data
    is at hand.
    """

    model: Path
    data: tuple[str, ...] = ()
    out: Path | None = None
    name: str | None = None
    license: str | None = None
    rehearse: float = 0.0
    lora: int = 0
    patience: int = 3
    bad_lines: Literal["stop", "skip"] = "stop"
    compare: bool = True
    tasks: tuple[str, ...] = TASKS
    epochs: float | None = None
    time: str | None = None
    steps: int | None = None
    batch: int | None = None
    context: int | None = None
    seed: int = 0
    val_fraction: float | None = None
    shuffle: bool = True
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compute: Literal["auto", "bfloat16", "float32"] = "auto"
    threads: int | None = None
    layout: Literal["auto", "copies", "shards"] = "auto"
    eval_every: int | None = None
    sample_every: int | None = None
    prompts: tuple[str, ...] = FINETUNE_PROMPTS
    checkpoint_s: float = 60.0
    checkpoint_steps: int = 0
    checkpoint_keep: int = 2
    checkpoint_best: bool = True
    checkpoint_share: float = 0.02
    file_type: Literal["Q8_0", "F16", "F32", "BF16", "Q4_0"] = "Q8_0"
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = LINEAR
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)

    def __post_init__(self) -> None:
        if any(number is not None and number < 1 for number in (self.steps, self.batch, self.threads)):
            raise ValueError("steps, batch and threads are 1 or more.")
        _check_saving(self)
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError("epochs is above 0.")
        if not 0 <= self.rehearse < 1:
            raise ValueError("rehearse is a share, from 0 to below 1.")
        if self.lora < 0 or self.patience < 0:
            raise ValueError("lora and patience are 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TuningConfig):
    """What a finetuning run is told, beside `TuningConfig`.

    `data`: files of conversations, or `corpus`: the folder of prepared ones. `weights`: of the tokens that
    are read, each file's share; without them every conversation counts alike. `compiled`: blocks go through
    torch's compiler, which takes half a minute and makes steps of a small model half as long again quicker.
    """

    weights: tuple[float, ...] = ()
    corpus: Path | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and (len(self.weights) != len(self.data) or min(self.weights) <= 0):
            raise ValueError("there is one weight per file, above 0.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PreferConfig(TuningConfig):
    """What a preference run is told, beside `TuningConfig`.

    `data`: files of pairs; `val`: files of held-out ones, instead of a share of `data`. `reward`: train a
    reward model instead of the model itself. `beta`: DPO's, in nats of distance for a nat of preference.
    `length_control`: what length alone explains is not learned; `alpha`: how much that is per token, None =
    estimated from the pairs. `judge`: who gives the gold reward, a reward model's file or the name of a
    task; `keep_back`: the share of pairs from which a judge is trained otherwise, None = half of them when
    they are many and none is given. `gold_prompts`: so many prompts are asked at each evaluation, and as
    many others, `gold_each` times, at the end; `best_of`: answers to choose from in its curve; `max_tokens`:
    of such an answer. `sequences`: answers side by side.
    """

    val: tuple[str, ...] = ()
    reward: bool = False
    beta: float = 0.1
    length_control: bool = False
    alpha: float | None = None
    judge: str | None = None
    keep_back: float | None = None
    gold_prompts: int = 128
    gold_each: int = 4
    best_of: int = 16
    max_tokens: int = 128
    sequences: int = 32
    compute: Literal["auto", "bfloat16", "float32"] = "float32"
    schedule: ScheduleConfig = PREFERENCE_SCHEDULE

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.beta <= 0 or (self.keep_back is not None and not 0 <= self.keep_back < 1):
            raise ValueError("beta is above 0, keep_back a share from 0 to below 1.")
        if min(self.gold_prompts, self.gold_each, self.best_of, self.max_tokens, self.sequences) < 1:
            raise ValueError("gold_prompts, gold_each, best_of, max_tokens and sequences are 1 or more.")
        if self.layout == "shards":
            raise ValueError("preferences are learned in one process.")


def _check_saving(config: PretrainConfig | TuningConfig) -> None:
    if config.checkpoint_keep < 1 or config.checkpoint_s <= 0 or config.checkpoint_steps < 0:
        raise ValueError("checkpoint_keep is 1 or more, checkpoint_s above 0, checkpoint_steps 0 or more.")
    if not 0 <= config.checkpoint_share <= 0.5:
        raise ValueError("checkpoint_share is from 0 to 0.5.")


def plain(config: PretrainConfig | TuningConfig) -> dict[str, Any]:
    """Return the settings as a recipe holds them: plain values, absolute paths (to resume from anywhere)."""
    changed: dict[str, Any] = {"out": None}
    for name in ("data", "val"):
        entries = getattr(config, name, ())
        if entries:
            changed[name] = tuple(str(Path(e).resolve()) if Path(e).exists() else e for e in entries)
    for name in ("corpus", "model"):
        path = getattr(config, name, None)
        if isinstance(path, Path):
            changed[name] = path.resolve()
    return tomllib.loads(configs.to_toml(dataclasses.replace(config, **changed)))
