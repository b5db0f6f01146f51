"""`twofold inspect`: what is inside a model."""

import re
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from twofold.cli import models

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table
    from rich.text import Text

    from twofold.parameters import Model

_SHOWN = 5  # items of a list in the card
_HASH = re.compile("[0-9a-f]{40,}")

SECTION = "Look inside"
EXAMPLE = ("twofold inspect MODEL", "its shape, tokenizer, weights and card")


def command(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=models.MODEL_HELP)] = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor, not one line per kind.")
    ] = False,
    whole_card: Annotated[
        bool, typer.Option("--card", help="Print the whole card, as Markdown, and nothing else.")
    ] = False,
) -> None:
    """Show what is inside a model: its shape, its tokenizer, how its weights are stored, its card.

    Only the file's head is read, so this is quick for a model of any size.
    """
    from rich.console import Group

    from twofold import parameters
    from twofold.cli import terminal
    from twofold.parameters import card as cards

    path = models.find(model)
    opened = parameters.load(path)
    if whole_card:
        print(terminal.clean(cards.to_markdown(opened.card)), end="")
        return
    stored = _stored(opened)
    console = terminal.console()
    parts: list[Any] = [_title(path, opened), _facts(opened, stored)]
    card = {key: value for key, value in opened.card.items() if key not in ("schema", "name", "samples")}
    if card:
        parts += ["", "[bold]Card[/]", _fields({key: _brief(value) for key, value in card.items()})]
    parts += ["", "[bold]Tensors[/]", _tensor_table(stored, each=tensors)]
    console.print(Group(*parts))


class Stored(NamedTuple):
    """How one tensor lies on the disk."""

    shape: tuple[int, ...]
    type: str
    bytes: int


def _stored(opened: "Model") -> dict[str, Stored]:
    """Return each tensor of the model's files, without making its numbers."""
    from twofold.parameters import gguf, safetensors
    from twofold.parameters.tensors import Changed, source_of

    found: dict[str, Stored] = {}
    for name in opened.tensors:
        source = source_of(opened.tensors, name)
        if isinstance(source, Changed):
            source = source.source
        if isinstance(source, gguf.Tensor):
            found[name] = Stored(source.shape, source.type, source.data.nbytes)
        elif isinstance(source, safetensors.Tensor):
            found[name] = Stored(source.shape, source.dtype, source.data.nbytes)
    return found


def _title(path: "Path", opened: "Model") -> "Text":
    from rich.text import Text

    from twofold.cli import terminal

    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    total = terminal.size(sum(file.stat().st_size for file in files))
    kind = "GGUF file" if path.is_file() else "Hugging Face folder"
    name = terminal.clean(str(opened.card.get("name", path.stem)))
    return Text.assemble((name, "bold"), f" · {kind} of {total} · {terminal.clean(str(path))}")


def _facts(opened: "Model", stored: dict[str, Stored]) -> "Table":
    """Return the shape, the tokenizer and the storage as a table of names and values."""
    from twofold.cli import terminal

    config, vocabulary = opened.config, opened.tokenizer.vocabulary
    heads = f"{config.heads} heads of {config.head_dim}"
    if config.kv_heads != config.heads:
        heads += f", {config.kv_heads} for keys and values"
    specials = sum(kind == 3 for kind in vocabulary.types)
    kind = {"bpe": "byte-level BPE", "spm": "SentencePiece"}.get(vocabulary.kind, vocabulary.kind)
    layers = f"{config.layers} layer{'s' * (config.layers != 1)}"
    chat = "with a chat template" if vocabulary.chat_template else "without a chat template"
    types: dict[str, int] = {}
    for tensor in stored.values():
        types[tensor.type] = types.get(tensor.type, 0) + tensor.bytes
    bits = 8 * sum(types.values()) / max(1, config.parameters)
    largest_first = sorted(types.items(), key=lambda item: -item[1])
    weights = ", ".join(f"{name} {terminal.size(size)}" for name, size in largest_first)
    return _fields(
        {
            "architecture": f"{config.architecture}, {terminal.count(config.parameters)} parameters",
            "shape": f"{layers}, width {config.width}, {heads}, feed-forward {config.ffn}",
            "window": f"{config.context:,} tokens",
            "tokenizer": f"{kind} ({vocabulary.pre}), {opened.tokenizer.vocab_size:,} tokens, "
            f"{specials} of them special, {chat}",
            "embeddings": "one table reads and writes tokens" if config.tied else "two tables, untied",
            "weights": f"{weights}; {bits:.2f} bits each",
        }
    )


def _fields(values: dict[str, str]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    from twofold.cli import terminal

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        table.add_row(Text(terminal.clean(key)), Text(terminal.clean(value)))
    return table


def _brief(value: Any) -> str:
    """Return one part of a card in a few lines: texts as they are, records one a line, objects as keys."""
    if isinstance(value, list):
        more = [f"… and {len(value) - _SHOWN:,} more"] if len(value) > _SHOWN else []
        return "\n".join([_brief(item) for item in value[:_SHOWN]] + more)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(item)}" for key, item in value.items())
    return str(value)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    if isinstance(value, dict):
        return "…"  # --card shows it
    if isinstance(value, str) and _HASH.fullmatch(value):
        return value[:12] + "…"
    return f"{value:,}" if type(value) is int else str(value)


def _tensor_table(stored: dict[str, Stored], *, each: bool) -> "Table":
    """Return one row per tensor, or per kind of tensor that the layers share."""
    from rich.table import Table
    from rich.text import Text

    from twofold.cli import terminal

    rows: dict[tuple[str, tuple[int, ...], str], list[int]] = {}
    for name, tensor in stored.items():
        block, _, rest = name.removeprefix("blk.").partition(".")
        kind = f"blk.*.{rest}" if name == f"blk.{block}.{rest}" and not each else name
        rows.setdefault((kind, tensor.shape, tensor.type), []).append(tensor.bytes)
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for title in ("name", "", "shape", "type", "bytes"):
        table.add_column(title, justify="right" if title in ("", "bytes") else "left", no_wrap=True)
    for (name, shape, type_), sizes in rows.items():
        times = f"× {len(sizes)}" if len(sizes) > 1 else ""
        dimensions = " × ".join(map(str, shape))
        table.add_row(Text(terminal.clean(name)), times, dimensions, type_, terminal.size(sum(sizes)))
    return table
