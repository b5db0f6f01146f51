"""Opening a model from the command line: what MODEL may be, and the settings of generation."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from twofold.base import config
from twofold.base.errors import UsageError

if TYPE_CHECKING:
    from twofold.kernel.elsewhere import Kernel
    from twofold.measure.judge import Judge
    from twofold.run import Engine, Sampler
    from twofold.tokens import Tokenizer

MODEL_HELP = (
    "A .gguf file, a Hugging Face folder, the name of a run or of a pulled model; default: the model in the "
    "box, until another is promoted."
)

Model = Annotated[str | None, typer.Argument(metavar="MODEL", help=MODEL_HELP)]
RunTime = Annotated[
    str | None, typer.Option("--time", metavar="TIME", help="At most so long: 90s, 20m, 1h30m.")
]
Lora = Annotated[
    int | None,
    typer.Option("--lora", metavar="RANK", min=1, help="Train adapters of this rank instead of all weights."),
]
Temperature = Annotated[
    float | None, typer.Option("--temp", metavar="X", help="0 always takes the likeliest; 1 samples as is.")
]
TopK = Annotated[
    int | None, typer.Option("--top-k", metavar="K", help="Choose among the K likeliest tokens; 0 = all.")
]
TopP = Annotated[
    float | None, typer.Option("--top-p", metavar="P", help="Choose among the likeliest that sum to P.")
]
MinP = Annotated[
    float | None, typer.Option("--min-p", metavar="P", help="Leave out tokens below P times the likeliest.")
]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="The same seed gives the same text; default: random."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--tokens", "-n", metavar="N", help="Stop after this many tokens.")
]
Threads = Annotated[
    int | None, typer.Option("--threads", "-t", metavar="N", help="CPU threads; default: all cores.")
]
Think = Annotated[
    str | None,
    typer.Option(
        "--think",
        metavar="BUDGET",
        help="What each answer may cost, to be better: 5s, 2m, or a number of tokens.",
    ),
]
RunFolder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Where the run goes; default: runs/NAME.")
]
Resume = Annotated[
    Path | None,
    typer.Option("--resume", metavar="RUN", help="Go on with a run that was stopped or killed."),
]
RunSeed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="The same seed gives the same run; default: 0.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any other setting; a wrong key lists them."),
]


def alone(resume: Path | None, given: Mapping[str, Any]) -> None:
    """Raise UsageError when a run is to be resumed and settings of a new one are given; by option's name."""
    used = [name for name, value in given.items() if value]
    if resume is not None and used:
        raise UsageError(f"--resume takes the run's own settings; it does not go together with {used[0]}.")


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How to run a model and choose its tokens; the keys of `--set` for chat and complete.

    `best_of`: from how many answers a judge chooses, where there is one.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.05
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int = 512
    best_of: int = 8
    threads: int | None = None
    context: int | None = None
    backend: Literal["auto", "c", "numpy"] = "auto"
    think_by: Literal["auto", "greedy", "vote", "best", "search", "moves"] = "auto"
    think_width: int = 16

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1 or self.top_k < 0:
            raise ValueError("temperature and top_k are 0 or more, top_p is in (0, 1], min_p in [0, 1].")
        if self.repetition_penalty <= 0:
            raise ValueError("repetition_penalty is above 0 (1 = none).")
        if min(self.max_tokens, self.best_of) < 1 or (self.threads or 1) < 1 or (self.context or 1) < 1:
            raise ValueError("tokens, best_of, threads and context are 1 or more.")
        if not 1 <= self.think_width <= 256:
            raise ValueError("think_width, how many answers are written side by side, is 1 to 256.")


def generation(
    defaults: Generation, settings: Sequence[str] | None, **flags: float | int | None
) -> Generation:
    """Return the settings of a command: its defaults, then the flags that were given, then `--set`.

    A seed nobody chose is drawn here, so that it can be shown and used again. Raises UsageError.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    try:
        chosen = replace(defaults, **given)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"These options do not work: {error}") from error
    chosen = config.override(chosen, settings or [])
    return chosen if chosen.seed is not None else replace(chosen, seed=secrets.randbelow(2**31))


def said(settings: Sequence[str] | None, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that flags and `--set` name, and no defaults. Raises UsageError."""
    chosen = generation(Generation(), settings, **flags)
    named = {name for name, value in flags.items() if value is not None}
    named |= {setting.partition("=")[0].strip() for setting in settings or ()}
    return {name: getattr(chosen, name) for name in sorted(named)}


def advised(
    chosen: Generation,
    engine: "Engine",
    settings: Sequence[str] | None,
    flags: Mapping[str, float | int | None],
) -> Generation:
    """Return the settings with the model's own advice on sampling where nobody said otherwise."""
    named = said(settings, flags)
    advice = engine.card.get("sampling", {})
    return replace(chosen, **{name: value for name, value in advice.items() if name not in named})


def sampler(chosen: Generation) -> "Sampler":
    """Return the engine's sampler for these settings."""
    from twofold.run import Sampler

    assert chosen.seed is not None
    return Sampler(
        temperature=chosen.temperature,
        top_k=chosen.top_k,
        top_p=chosen.top_p,
        min_p=chosen.min_p,
        repetition_penalty=chosen.repetition_penalty,
        seed=chosen.seed,
    )


def find(model: str | None) -> Path:
    """Return the file or folder that `model` names, None the default model; see run/catalogue.py."""
    from twofold.run import catalogue

    return catalogue.find(model)


def elsewhere(model: str | None) -> "Kernel | None":
    """Return the model on another server that `model` names; None when it is one here, or none at all."""
    try:
        find(model)
    except UsageError:
        if model is None:
            raise
        from twofold.kernel import kernels

        return kernels.find(model)
    return None


def start(model: str | None) -> Path:
    """Return the model to start a run from; of a run the folder, whose weights are not rounded."""
    path = find(model)
    folder = path.parent
    return folder if path.name == "model.gguf" and (folder / "recipe.toml").is_file() else path


def default_name() -> str:
    """Return what the default model is called."""
    from twofold.run import catalogue

    return catalogue.default_name()


def open_engine(
    model: str | None, chosen: Generation, *, thinks: bool = False, sequences: int = 1
) -> "Engine":
    """Return the engine for `model`, ready to run; with room for answers side by side if it `thinks`."""
    from twofold import run

    sequences = max(sequences, 2 * chosen.think_width + 1 if thinks else 1)
    return run.load(
        find(model), threads=chosen.threads, context=chosen.context, backend=chosen.backend,
        sequences=sequences,
    )  # fmt: skip


def open_judge(model: str, chosen: Generation) -> "Judge":
    """Return the reward model `model`, ready to judge. Raises UsageError when it is none."""
    from twofold.measure.judge import Judge

    return Judge(open_engine(model, replace(chosen, context=None), sequences=8))


def prompt_ids(tokenizer: "Tokenizer", text: str) -> list[int]:
    """Return the ids of a raw prompt, as run.c makes them: the text, after BOS where the model wants one.

    The empty prompt is the start of a document. Raises UsageError when the model has no token for that.
    """
    from twofold.tokens.specials import END_OF_TEXT

    vocabulary = tokenizer.vocabulary
    start = [vocabulary.bos_id] if vocabulary.add_bos and vocabulary.bos_id is not None else []
    ids = start + tokenizer.encode(text)
    if ids:
        return ids
    if END_OF_TEXT in vocabulary.tokens:
        return [tokenizer.special_id(END_OF_TEXT)]
    raise UsageError("This model has no token that starts a document, so the text cannot be empty.")
