"""A model: its shape, tokenizer, card and weights, from and to a GGUF file or a Hugging Face folder.

Tensors carry GGUF's names and order of rows everywhere in twofold; the files in families/ translate. Weights
become float32 when they are looked up and not before, so opening a large model is quick and saving it needs
memory for one tensor at a time.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.base.files import write_text
from twofold.base.names import unknown
from twofold.parameters import card as cards
from twofold.parameters import gguf, quantise, safetensors
from twofold.parameters.blocks import Floats
from twofold.parameters.config import ModelConfig, RopeScaling, shortest
from twofold.parameters.families import FAMILIES, of_hf
from twofold.parameters.gguf import Source
from twofold.parameters.tensors import Changed, Held, LazyTensors, source_of

if TYPE_CHECKING:
    from twofold.tokens import Tokenizer

CARD = "card.json"
_FACTORS = "rope_freqs.weight"
_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
# What a whole file can be stored as, with llama.cpp's numbers: a tensor type, or one of its mixes.
FILE_TYPES = {
    "F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_1": 3, "Q5_0": 8, "Q5_1": 9,
    "Q4_K": 14, "Q4_K_M": 15, "Q5_K": 16, "Q5_K_M": 17, "Q6_K": 18,
}  # fmt: skip
_MIXES = {"Q4_K_M": "Q4_K", "Q5_K_M": "Q5_K"}  # and the type of most of their tensors
_TABLES = ("token_embd.weight", "output.weight")
_TABLE_TYPES = dict.fromkeys(("Q4_0", "Q4_1", "Q5_0", "Q5_1"), "Q8_0") | {"Q4_K": "Q6_K", "Q5_K": "Q6_K"}
# For rows that do not divide into superblocks of 256: llama.cpp's choice of the next larger type.
_SMALLER_BLOCKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}


@dataclass(frozen=True)
class Model:
    """A model in memory or on the disk.

    `tensors`: GGUF name -> float32 array [rows, columns] or [n]; made at each look-up if from a file.
    Beside the names of `config.shapes()` it may hold those of `config.rope_tensors`, or `rope_freqs.weight`.
    """

    config: ModelConfig
    tokenizer: "Tokenizer"
    card: dict[str, Any]
    tensors: Mapping[str, Floats]


def load(path: str | Path) -> Model:
    """Return the model in a GGUF file or a Hugging Face folder.

    Raises BadFileError for a file or folder that is missing, damaged, or of a family not run here.
    """
    path = Path(path)
    return _load_hf(path) if path.is_dir() else _load_gguf(path)


# --- GGUF


def _load_gguf(path: Path) -> Model:
    from twofold.tokens import Tokenizer

    file = gguf.read(path)
    try:
        config = ModelConfig.from_gguf(file.metadata, file.tensors)
    except BadFileError as error:
        raise BadFileError(f"{path}: {error}") from error
    factors = file.tensors.get(_FACTORS)
    if factors is not None or config.rope_factors is not None:
        config = replace(config, rope_scaling=_recognise(config, factors, path))
    known = {_FACTORS}
    if config.rope_scaling is not None and config.rope_scaling.type == "longrope":
        config, known = replace(config, rope_scaling=_longrope(config, file.tensors, path)), {_LONG, _SHORT}
    extra = {name: tensor for name, tensor in file.tensors.items() if name not in known}
    _check_tensors(config, extra, str(path))
    card = cards.from_gguf(file.metadata, str(path))
    return Model(config, Tokenizer.from_gguf(file.metadata), card, LazyTensors(file.tensors))


def _recognise(config: ModelConfig, tensor: gguf.Tensor | None, path: Path) -> RopeScaling | None:
    """Return the llama3 scaling that a file's `rope_freqs.weight` comes from, None if it is not a known one.

    Other programs store the factors only; the numbers behind them are needed for a config.json alone.
    """
    if tensor is None or tensor.shape != (config.head_dim // 2,):
        raise BadFileError(
            f"{path} is damaged: {_FACTORS} is missing or has the wrong length; fetch it again."
        )
    factors = tensor.float32()
    if not (np.isfinite(factors) & (factors > 0)).all():
        raise BadFileError(f"{path} is damaged: {_FACTORS} holds numbers that are not positive.")
    told, largest = config.rope_scaling, float(factors.max())
    guess = RopeScaling(type="llama3", factor=round(largest, 3) or largest)
    for scaling in (told, guess):
        if scaling is not None and scaling.type == "llama3":
            wanted = scaling.factors(config.rope_theta, config.head_dim)
            if np.allclose(wanted, factors, rtol=1e-4):
                return scaling
    return None


def _longrope(config: ModelConfig, tensors: Mapping[str, gguf.Tensor], path: Path) -> RopeScaling:
    """Return the longrope scaling of a file with the factors of its two tensors."""
    scaling = config.rope_scaling
    found = [tensors[name] for name in (_SHORT, _LONG) if name in tensors]
    if scaling is None or [tensor.shape for tensor in found] != 2 * [(config.rotary_dim // 2,)]:
        raise BadFileError(f"{path} is damaged: {_SHORT} or {_LONG} is missing or has the wrong length.")
    short, long = (tuple(shortest(float(number)) for number in tensor.float32()) for tensor in found)
    return replace(scaling, short=short, long=long)


def _check_tensors(config: ModelConfig, tensors: Mapping[str, Source], where: str) -> None:
    """Raise BadFileError unless the tensors are those of the shape, no more and no fewer."""
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blk.")}
    if len(blocks) != config.layers:  # before a list of all names is made of a damaged number
        raise BadFileError(
            f"{where} holds {len(blocks)} blocks of weights instead of {config.layers}: fetch it again."
        )
    shapes = config.shapes()
    for name, shape in shapes.items():
        if name not in tensors:
            raise BadFileError(f"{where} lacks the tensor {name!r}: it is damaged, fetch it again.")
        if tensors[name].shape != shape:
            raise BadFileError(
                f"The tensor {name!r} in {where} has the shape {tensors[name].shape} instead of {shape}: "
                "the file is damaged."
            )
    left = [name for name in tensors if name not in shapes]
    if left:
        raise BadFileError(f"{where} holds the tensor {left[0]!r}, which {config.family} has no use for.")


def tensor_type(name: str, shape: tuple[int, ...], type: str, layers: int) -> str:
    """Return how one tensor of a file of `type` is stored, in a model of so many `layers`.

    Vectors stay F32. The tables of tokens, which suffer most from few bits, have more of them: Q8_0, or Q6_K
    among K-quants. So have, in a mix, `attn_v` and `ffn_down` (Q6_K) in about half of the layers. Rows that
    do not divide into superblocks take the next larger type of blocks of 32, or F16 if that does not fit.
    """
    if len(shape) == 1:
        return "F32"
    stored = _MIXES.get(type, type)
    if name in _TABLES:
        stored = _TABLE_TYPES.get(stored, stored)
    elif type in _MIXES and name.endswith(("attn_v.weight", "ffn_down.weight")):
        stored = "Q6_K" if _delicate(int(name.split(".")[1]), layers) else stored
    if shape[-1] % quantise.form(stored).block:
        stored = _SMALLER_BLOCKS.get(stored, stored)
    return "F16" if shape[-1] % quantise.form(stored).block else stored


def _delicate(layer: int, layers: int) -> bool:
    """Return whether a mix gives a layer more bits: the outer eighths, every third between, as llama.cpp."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def save_gguf(model: Model, path: str | Path, type: str = "Q8_0") -> None:
    """Write the model as one GGUF file, atomically. `type`: one of FILE_TYPES.

    Raises UsageError for another type, TwofoldError for a card or for weights that cannot be stored.
    """
    gguf.write(path, *_contents(model, type))


def write_gguf(model: Model, file: BinaryIO, type: str = "Q8_0") -> None:
    """Write the model as a GGUF file into an open one; the rest as `save_gguf` has it."""
    gguf.write_to(file, *_contents(model, type))


def _contents(model: Model, type: str) -> tuple[dict[str, Any], dict[str, tuple[str, Source]]]:
    """Return the metadata and tensors of a model's GGUF file."""
    if type not in FILE_TYPES:
        raise UsageError(unknown("file type", type, FILE_TYPES))
    config = model.config
    tensors: dict[str, tuple[str, Source]] = {}
    for name, shape in config.shapes().items():
        source = source_of(model.tensors, name)
        if source.shape != shape:
            raise TwofoldError(f"The tensor {name!r} has the shape {source.shape} instead of {shape}.")
        tensors[name] = (tensor_type(name, shape, type, config.layers), source)
    tensors |= {name: ("F32", Held(factors)) for name, factors in config.rope_tensors.items()}
    if _FACTORS in model.tensors:  # as they are, even if they belong to no known scaling
        tensors[_FACTORS] = ("F32", source_of(model.tensors, _FACTORS))
    tokenizer = model.tokenizer.to_gguf()
    known = len(tokenizer["tokenizer.ggml.tokens"])
    if known != config.vocab_size:
        raise TwofoldError(
            f"The tokenizer has {known} tokens and the model {config.vocab_size}: they do not belong."
        )
    metadata = {
        "general.architecture": config.architecture,
        "general.type": "model",
        **cards.to_gguf(model.card),
        "general.size_label": size_label(config.parameters),
        "general.file_type": FILE_TYPES[type],
        "general.quantization_version": 2,
        **config.to_gguf(),
        **tokenizer,
    }
    return metadata, tensors


def size_label(parameters: int) -> str:
    """Return a count of weights as people say it: 15M, 1.1B."""
    for unit, name in ((1e9, "B"), (1e6, "M")):
        if parameters >= 0.9995 * unit:
            return f"{parameters / unit:.3g}{name}"
    return f"{parameters / 1e3:.3g}K"


# --- Hugging Face


def _load_hf(folder: Path) -> Model:
    from twofold.tokens import Tokenizer

    path = folder / "config.json"
    try:
        settings = json.loads(path.read_bytes().decode())
    except OSError as error:
        raise BadFileError(
            f"{folder} is not a model: config.json cannot be read ({error.strerror})."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path} is not JSON: fetch it again.") from error
    if not isinstance(settings, dict):
        raise BadFileError(f"{path} is not a JSON object: fetch it again.")
    family = of_hf(settings, str(path))
    try:
        config: ModelConfig = family.from_hf(settings)
    except BadFileError as error:
        raise BadFileError(f"{path}: {error}") from error
    sources = _hf_sources(config, family, safetensors.read_folder(folder), str(folder))
    sources |= {name: Held(factors) for name, factors in config.rope_tensors.items()}
    tokenizer = _padded(Tokenizer.from_hf(folder), config.vocab_size, str(folder))
    return Model(config, tokenizer, _hf_card(folder), LazyTensors(sources))


def _hf_sources(
    config: ModelConfig, family: ModuleType, stored: Mapping[str, Source], where: str
) -> dict[str, Source]:
    """Return the stored tensors under GGUF's names and in GGUF's order of rows."""
    left = {
        name for name in stored if not name.endswith("rotary_emb.inv_freq")
    }  # old folders keep this constant
    sources: dict[str, Source] = {}
    for name, shape in config.shapes().items():
        hf_name = family.hf_name(name)
        if hf_name not in left:
            raise BadFileError(f"{where} lacks the tensor {hf_name!r}: fetch the model again.")
        if stored[hf_name].shape != shape:
            raise BadFileError(
                f"The tensor {hf_name!r} in {where} has the shape {stored[hf_name].shape} instead of "
                f"{shape}, so it does not belong to this config.json."
            )
        left.discard(hf_name)
        change = partial(family.to_gguf_order, name, config=config)
        sources[name] = Changed(stored[hf_name], change) if name.endswith(_ORDERED) else stored[hf_name]
    if config.tied:
        left.discard(family.hf_name("output.weight"))
    if left:
        raise BadFileError(f"{where} holds the tensor {min(left)!r}, which {config.family} has no use for.")
    return sources


_ORDERED = ("attn_q.weight", "attn_k.weight", "norm.weight")  # what a family may hold otherwise than GGUF


def _padded(tokenizer: "Tokenizer", rows: int, where: str) -> "Tokenizer":
    """Return the tokenizer with unused tokens for the rows of the table that stand for no token.

    Raises BadFileError when there are more tokens than rows.
    """
    known = tokenizer.vocab_size
    if known > rows:
        raise BadFileError(f"{where}: the tokenizer has {known} tokens, the model's table only {rows} rows.")
    return tokenizer.padded(rows)


def _hf_card(folder: Path) -> dict[str, Any]:
    path = folder / CARD
    if path.exists():
        return cards.from_json(path.read_bytes().decode(errors="replace"), str(path))
    card: dict[str, Any] = {"name": folder.resolve().name or "unnamed"}
    if sampling := _hf_sampling(folder / "generation_config.json"):
        card["sampling"] = sampling
    return cards.validate(card)


def _hf_sampling(path: Path) -> dict[str, float]:
    """Return what a model's makers advise on sampling; a file that is missing or damaged advises nothing."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict) or found.get("do_sample") is False:
        return {}
    return cards.advice(found)


def save_hf(model: Model, folder: str | Path, dtype: str = "BF16") -> None:
    """Write the model as a folder that `AutoModelForCausalLM` and `AutoTokenizer` open.

    `dtype`: F32, F16 or BF16. Each file is written atomically and config.json last, so a folder that was cut
    off does not open. Raises UsageError for another dtype, TwofoldError for a model that has no such form.
    """
    folder, config = Path(folder), model.config
    family = FAMILIES.get(config.family)
    if _FACTORS in model.tensors and config.rope_factors is None:
        raise TwofoldError("The model's rope factors are not those of a known scaling: it stays a GGUF file.")
    sources: dict[str, Source] = {}
    for name in config.shapes():
        source = source_of(model.tensors, name)
        change = partial(family.to_hf_order, name, config=config)
        sources[family.hf_name(name)] = Changed(source, change) if name.endswith(_ORDERED) else source
    text = cards.to_json(model.card)
    safetensors.write(folder / safetensors.SINGLE, sources, dtype)
    model.tokenizer.to_hf(folder)
    write_text(folder / CARD, text + "\n")
    write_text(folder / "README.md", cards.to_markdown(model.card))
    vocabulary = model.tokenizer.vocabulary
    special = {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": vocabulary.eos_id,
        "pad_token_id": vocabulary.pad_id,
    }
    stops = sorted(model.tokenizer.stop_ids)
    generation = {**special, "eos_token_id": stops if len(stops) > 1 else vocabulary.eos_id}
    if sampling := model.card.get("sampling"):
        generation |= {"do_sample": True, **sampling}
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    settings = {**family.to_hf(config), **special, "torch_dtype": names[dtype]}
    write_text(folder / "generation_config.json", json.dumps(generation, indent=2) + "\n")
    write_text(folder / "config.json", json.dumps(settings, indent=2) + "\n")
