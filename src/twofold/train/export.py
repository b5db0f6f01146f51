"""From torch to the files that stay: `model.gguf`, `card.md` and the loss curve.

Not covered: other formats; `twofold convert` makes them from model.gguf.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from twofold.base import runlog
from twofold.base.errors import BadFileError
from twofold.base.files import atomic_write, write_text
from twofold.parameters import Model, ModelConfig, save_gguf
from twofold.parameters.families import FAMILIES
from twofold.run import library
from twofold.tokens import Tokenizer
from twofold.train.curve import LOSS_NAMES, draw
from twofold.train.transformer import Transformer

SEPARATOR = "<|endoftext|>"  # begins every document

TRAINED = ("qwen3", "llama")  # the families whose graph transformer.py is
Net = TypeVar("Net", bound=Transformer)


def to_model(net: Transformer, tokenizer: Tokenizer, card: dict[str, Any]) -> Model:
    """Return the network as a model in memory; its float32 tensors share memory with a CPU network."""
    order = partial(FAMILIES.get(net.config.family).to_gguf_order, config=net.config)
    tensors = {
        name: order(name, parameter.detach().float().cpu().numpy()) for name, parameter in net.named().items()
    }
    return Model(config=net.config, tokenizer=tokenizer, card=card, tensors=tensors)


def check_trained(config: ModelConfig) -> None:
    """Raise BadFileError for graphs that are not trained here."""
    if config.family not in TRAINED or config.rope_scaling or config.sliding_window:
        raise BadFileError(
            f"This model of the family {config.family} cannot be trained further here; Qwen3's dense and "
            "Llama's without scaled positions can be."
        )


def from_model(
    model: Model,
    *,
    compute: torch.dtype = torch.float32,
    kind: type[Net] = Transformer,  # type: ignore[assignment]
) -> Net:
    """Return a network with the model's weights. Raises BadFileError for graphs that are not trained here."""
    config = model.config
    check_trained(config)
    order = partial(FAMILIES.get(config.family).to_hf_order, config=config)  # halves, as transformers has it
    net = kind(config, compute=compute)
    with torch.no_grad():
        for name, parameter in net.named().items():
            parameter.copy_(torch.tensor(order(name, np.asarray(model.tensors[name], np.float32))))
    return net


def with_end(tokenizer: Tokenizer, name: str) -> Tokenizer:
    """Return the tokenizer with another token that ends a text: of a document, or of a turn.

    An imported vocabulary without that token ends its texts in its own way, and stays so.
    """
    if name not in tokenizer.vocabulary.tokens:
        return tokenizer
    vocabulary = dataclasses.replace(tokenizer.vocabulary, eos_id=tokenizer.special_id(name))
    return Tokenizer(vocabulary)


def write_files(
    folder: Path, model: Model, file_type: str, judged: tuple[str, str] = ("bits_per_byte", LOSS_NAMES[1])
) -> Path:
    """Write model.gguf, run.c, tokenizer.json, loss.svg and card.md into a run folder.

    `judged`: which figure of the log is drawn beside the loss, and its name. Returns the path of model.gguf.
    """
    path = folder / "model.gguf"
    with atomic_write(folder / "run.c") as file:
        file.write(library.program().encode())
    save_gguf(model, path, file_type)
    model.tokenizer.save(folder / "tokenizer.json")
    records = runlog.read(folder / "metrics.jsonl")
    losses = [(r["step"], r["loss_nats"]) for r in records if r.get("loss_nats") is not None]
    key, name = judged
    scores = [(r["step"], r[key]) for r in records if r.get(key) is not None]
    write_text(folder / "loss.svg", draw(losses, scores, (LOSS_NAMES[0], name)))
    write_text(folder / "card.md", spell(model.card))
    return path


def spell(card: dict[str, Any], picture: tuple[str, str] = ("Loss", "loss.svg")) -> str:
    """Return a model card as Markdown, with the run's curve beside it: its title and file."""
    lines = [f"# {card['name']}", "", card.get("summary", ""), ""]
    for name in ("parents", "data", "scores"):
        if card.get(name):
            lines += [f"## {name.capitalize()}", "", *_table(card[name]), ""]
    lines += [f"## {picture[0]}", "", f"![{picture[0]} over steps]({picture[1]})", ""]
    if card.get("samples"):
        lines += ["## Samples", "", "What it writes, unedited; it makes things up.", ""]
        for entry in card["samples"]:
            text = (entry["prompt"] + entry["text"]).replace("<|endoftext|>", "").strip()
            lines += ["```text", text.replace("```", "'''"), "```", ""]
    for name in ("training", "recipe"):
        if card.get(name):
            lines += [f"## {name.capitalize()}", ""]
            lines += [f"- {key}: {value}" for key, value in card[name].items()] + [""]
    for name in ("limits", "notes"):
        if card.get(name):
            lines += [f"## {name.capitalize()}", "", *(f"- {line}" for line in card[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = (str(row.get(column, "")).replace("|", "\\|").replace("\n", " ") for column in columns)
        lines.append("| " + " | ".join(cells) + " |")
    return lines
