"""`twofold convert`: the same model in another file format or precision."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from twofold.cli import models

SECTION = "Files"
EXAMPLE = ("twofold convert IN OUT", "between GGUF files and Hugging Face folders, and to fewer bits")

Type = Literal[
    "q8_0", "q6_k", "q5_k_m", "q5_k", "q5_1", "q5_0", "q4_k_m", "q4_k", "q4_1", "q4_0", "f16", "bf16", "f32"
]  # fmt: skip


def command(
    model: Annotated[str, typer.Argument(metavar="IN", help=models.MODEL_HELP.partition(";")[0] + ".")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="NAME.gguf writes a GGUF file, any other name a folder.")
    ],
    type_: Annotated[
        Type | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="f32, f16, bf16, q8_0, q6_k, q5_k_m, q5_k, q5_1, q5_0, q4_k_m, q4_k, q4_1 or q4_0; "
            "default: q8_0 in GGUF, bf16 in a folder.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Write a model as a GGUF file (twofold, llama.cpp, Ollama) or Hugging Face folder (transformers, vLLM).

    q8_0 halves a 16-bit model with hardly any loss. q6_k, q5_k_m and q4_k_m leave about 41, 36 and 30 %
    of it; the last is felt in small models, and q4_0, hardly smaller, more so.
    """
    from rich.text import Text

    from twofold import parameters
    from twofold.base.errors import UsageError
    from twofold.cli import terminal

    source = models.find(model)
    to_file = out.suffix.lower() == ".gguf"
    if out.exists() and out.resolve() in (source.resolve(), source.resolve().parent):
        raise UsageError(f"{out} is where the model is read from: write to another place.")
    if out.exists() and not force:
        raise UsageError(f"{out} exists already: choose another name, or --force to replace it.")
    if out.exists() and out.is_dir() == to_file:
        raise UsageError(f"{out} is a {'folder' if out.is_dir() else 'file'}, and the model needs the other.")
    if not to_file and type_ not in (None, "f32", "f16", "bf16"):
        raise UsageError(
            f"A Hugging Face folder cannot hold {type_}: choose f32, f16 or bf16, or write NAME.gguf."
        )
    kind = type_ or ("q8_0" if to_file else "bf16")
    opened = parameters.load(source)
    if to_file:
        parameters.save_gguf(opened, out, kind.upper())
    else:
        parameters.save_hf(opened, out, kind.upper())
    files = [out] if to_file else sorted(file for file in out.iterdir() if file.is_file())
    total = terminal.size(sum(file.stat().st_size for file in files))
    names = "" if to_file else f" ({', '.join(file.name for file in files)})"
    terminal.console().print(
        Text(terminal.clean(f"{out}: {total}, weights as {kind}{names}")), soft_wrap=True
    )
