"""`twofold tune`: teach a model to answer, from conversations or from what you said about its answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from twofold.train import FinetuneConfig

SECTION = "Train"
EXAMPLE = (
    "twofold tune MODEL --on FILE",
    "teach a model to answer, from a file of conversations or from your labels",
)
REHEARSE = 0.6  # the share of a model's own answers when it learns from labels (docs/log.md)


def command(
    model: models.Model = None,
    on: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="FILE[:WEIGHT]",
            help="Conversations (messages in .jsonl); a weight is the file's share; default: your labels.",
        ),
    ] = None,
    time: models.RunTime = None,
    lora: models.Lora = None,
    out: models.RunFolder = None,
    resume: models.Resume = None,
    seed: models.RunSeed = None,
    settings: models.Settings = None,
) -> None:
    """Teach a model to answer. Only the assistant's words are learned.

    The plan is printed first, a comparison with the model before at the end. Ctrl-C saves; --resume goes on.
    Without --on it learns what you said by /fix and /compare in the chat, and rehearses what it knew.
    """
    given = {"--on": on, "--time": time, "--lora": lora, "--out": out, "--seed": seed, "--set": settings}
    models.alone(resume, {**given, "MODEL": model})

    from twofold import train
    from twofold.base import config as configs
    from twofold.cli import terminal

    console = terminal.error_console() if train.speaks() else None
    if resume is not None:
        result = train.resume(resume, console=console)
    else:
        named = models.default_name() if model is None else Path(model).name.removesuffix(".gguf")
        how: dict[str, Any] = {
            "model": models.start(model), "out": out, "time": time, "seed": seed or 0, "lora": lora or 0,
            "name": f"{named}-tuned",
        }  # fmt: skip
        chosen = _on_labels(how) if not on else _on_files(on, how)
        result = train.finetune(configs.override(chosen, settings or []), console=console)
    if train.speaks():
        shown = terminal.console()
        shown.print(str(result.model), markup=False, soft_wrap=True)
        shown.print(
            f"\nTalk to it, or make it the default if it wins:\n  twofold chat {result.folder}\n"
            f"  twofold promote {result.folder}",
            markup=False, soft_wrap=True,
        )  # fmt: skip


def _on_files(on: list[str], how: dict[str, Any]) -> "FinetuneConfig":
    """Return the settings of a run on files; `talk.jsonl:3` has the weight 3."""
    from twofold.base.errors import UsageError
    from twofold.train import FinetuneConfig

    paths, weights = [], []
    for entry in on:
        path, colon, weight = entry.rpartition(":")
        if not colon or Path(entry).exists():
            path, weight = entry, ""
        try:
            weights.append(float(weight) if weight else None)
        except ValueError as error:
            raise UsageError(f"--on takes FILE or FILE:WEIGHT, and {weight!r} is no weight.") from error
        paths.append(path)
    shares = tuple(weight or 1.0 for weight in weights) if any(weights) else ()
    try:
        return FinetuneConfig(data=tuple(paths), weights=shares, **how)
    except ValueError as error:
        raise UsageError(f"These options do not work: {error}") from error


def _on_labels(how: dict[str, Any]) -> "FinetuneConfig":
    """Return the settings of a run on the user's labels, of which the run folder gets a copy."""
    import json

    from twofold.base.errors import UsageError
    from twofold.base.files import write_text
    from twofold.kernel import labels
    from twofold.train import FinetuneConfig
    from twofold.train.folder import new_folder

    corrections = labels.Labels().corrections()
    if not corrections:
        raise UsageError(
            "There are no labels to learn from yet: correct an answer in `twofold chat` by /fix TEXT, or "
            "give conversations by --on FILE."
        )
    folder = new_folder(how["out"], how["name"])
    lines = [json.dumps(one, ensure_ascii=False) for one in labels.conversations(corrections)]
    write_text(folder / "labels.jsonl", "".join(f"{line}\n" for line in lines))
    return FinetuneConfig(data=(str(folder / "labels.jsonl"),), rehearse=REHEARSE, **{**how, "out": folder})
