"""`twofold prefer`: a model learns which of two answers is better, or becomes a judge of answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from twofold.train import PreferConfig

SECTION = "Train"
EXAMPLE = (
    "twofold prefer MODEL --on PAIRS.jsonl",
    "teach a model which of two answers is better (DPO), or train a reward model",
)
REHEARSE = 0.5  # the weight of a model's own answers when it learns from labels (docs/log.md)


def command(
    model: models.Model = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on", metavar="FILE", help="Pairs: prompt, chosen, rejected in .jsonl; default: your labels."
        ),
    ] = None,
    labels: Annotated[
        bool, typer.Option("--labels", help="Your labels beside the files: /better, /worse, /fix.")
    ] = False,
    reward: Annotated[
        bool, typer.Option("--reward", help="Train a reward model, which says how good an answer is.")
    ] = False,
    length_control: Annotated[
        bool, typer.Option("--length-control", help="Do not learn what the length of answers alone explains.")
    ] = False,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge", metavar="JUDGE",
            help="Who gives the gold reward: a reward model or a task; default: one made of half the pairs.",
        ),
    ] = None,
    time: models.RunTime = None,
    lora: models.Lora = None,
    out: models.RunFolder = None,
    resume: models.Resume = None,
    seed: models.RunSeed = None,
    settings: models.Settings = None,
) -> None:  # fmt: skip
    """Teach a model which of two answers is better. Pairs come from files, or from what you said in the chat.

    The run ends where the gold reward turns, whose curve is drawn. Ctrl-C saves; --resume goes on.
    """
    given = {
        "MODEL": model, "--on": on, "--labels": labels, "--reward": reward,
        "--length-control": length_control, "--judge": judge, "--time": time, "--lora": lora, "--out": out,
        "--seed": seed, "--set": settings,
    }  # fmt: skip
    models.alone(resume, given)

    from twofold import train
    from twofold.base import config as configs
    from twofold.cli import terminal

    console = terminal.error_console()
    if resume is not None:
        result = train.resume(resume, console=console)
    else:
        named = models.default_name() if model is None else Path(model).name.removesuffix(".gguf")
        how: dict[str, Any] = {
            "model": models.start(model), "out": out, "time": time, "seed": seed or 0, "lora": lora or 0,
            "name": f"{named}-{'judge' if reward else 'preferred'}", "reward": reward,
            "length_control": length_control, "judge": _judge(judge), "data": tuple(on or ()),
        }  # fmt: skip
        chosen = _with_labels(how) if labels or not on else configs.build(train.PreferConfig, how)
        result = train.prefer(configs.override(chosen, settings or []), console=console)
    _show(result.folder, result.model)


def _judge(judge: str | None) -> str | None:
    """Return the name of a task, or the path of a reward model."""
    from twofold.environments import TASKS

    return judge if judge is None or judge in TASKS.names() else str(models.find(judge).resolve())


def _with_labels(how: dict[str, Any]) -> "PreferConfig":
    """Return the settings of a run that learns from the user's labels too; the run folder gets a copy."""
    import json

    from twofold.base.errors import UsageError
    from twofold.base.files import write_text
    from twofold.kernel.labels import Labels
    from twofold.train import PreferConfig
    from twofold.train.folder import new_folder

    found = [
        {"prompt": messages, "chosen": better, "rejected": worse}
        for messages, better, worse in Labels().comparisons()
    ]
    if not found:
        raise UsageError(
            "There are no labels to learn from yet: compare answers in `twofold chat` by /compare, /better "
            "and /worse, or give pairs by --on FILE."
        )
    folder = new_folder(how["out"], how["name"])
    lines = [json.dumps(one, ensure_ascii=False) for one in found]
    write_text(folder / "labels.jsonl", "".join(f"{line}\n" for line in lines))
    data = (*how["data"], str(folder / "labels.jsonl"))
    rehearse = 0.0 if how["data"] or how["reward"] else REHEARSE
    return PreferConfig(**{**how, "data": data, "rehearse": rehearse, "out": folder})


def _show(folder: Path, model: Path) -> None:
    """Print the curve of over-optimisation in a terminal's letters, and how to go on."""
    from twofold.cli import curves, terminal
    from twofold.train.folder import read_recipe
    from twofold.train.gold import PICTURE, read_curves

    console = terminal.console()
    drawn = read_curves(folder)
    if drawn is not None and console.is_terminal:
        gold, lines = drawn
        console.print(f"\n[bold]Over-optimisation[/]  gold reward ({gold}) by KL in nats; * the highest")
        shown = curves.of_climb(lines)
        console.print(curves.draw(shown, console.width, plain=console.options.ascii_only, root=True))
        names = [f"{curves.letter(number)} {one.name}" for number, one in enumerate(shown)]
        console.print(f"[dim]{', '.join(names)}; {folder / PICTURE}[/]\n", soft_wrap=True)
    console.print(str(model), markup=False, soft_wrap=True)
    told = (
        f"Talk to it, or make it the default if it wins:\n  twofold chat {folder}\n  twofold promote {folder}"
    )
    if read_recipe(folder).settings.get("reward"):
        told = f"Let it choose the best of several answers:\n  twofold chat --judge {folder}"
    console.print(f"\n{told}", markup=False, soft_wrap=True)
