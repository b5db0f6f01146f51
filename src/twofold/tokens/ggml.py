"""A vocabulary as GGUF metadata: the keys named tokenizer.*, and back.

Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Own keys (twofold.*) are described in
unicode.py and turns.py. Not covered: reading the file itself, which is twofold.parameters.gguf; the many
other `pre` names.
"""

from collections.abc import Mapping
from typing import Any

from twofold.base.errors import BadFileError
from twofold.tokens import unicode
from twofold.tokens.vocabulary import NORMAL, Vocabulary

_MODELS = {"gpt2": "bpe", "llama": "spm"}


def from_metadata(metadata: Mapping[str, Any]) -> Vocabulary:
    """Return the vocabulary in a GGUF file's metadata. Raises BadFileError: absent, foreign or damaged."""
    model = metadata.get("tokenizer.ggml.model")
    if not isinstance(model, str) or model not in _MODELS:
        raise BadFileError(
            f"The model file's tokenizer is {model!r}; twofold reads gpt2 (byte-level BPE) and llama "
            "(SentencePiece)."
        )
    kind = _MODELS[model]
    tokens = _list(metadata, "tokens")
    if not tokens:
        raise BadFileError("The model file holds no tokens: convert the model again with its tokenizer.")
    if kind == "bpe" and "tokenizer.ggml.merges" not in metadata:
        raise BadFileError("The model file's tokenizer has no merges: convert the model again.")
    pre = metadata.get("tokenizer.ggml.pre", "default")
    template = metadata.get("tokenizer.chat_template")
    bos = _id(metadata, "bos_token_id", len(tokens))
    try:
        scores = [float(score) for score in _list(metadata, "scores")] if kind == "spm" else []
        types = [int(type_) for type_ in _list(metadata, "token_type")]
    except (TypeError, ValueError, OverflowError):
        raise BadFileError(
            "The tokenizer's scores and token types must be numbers: the file is damaged."
        ) from None
    return Vocabulary(
        kind=kind,
        pre=pre if isinstance(pre, str) and kind == "bpe" else "default",
        tokens=tuple(tokens),
        types=tuple(types or [NORMAL] * len(tokens)),
        merges=tuple(dict.fromkeys(_text(_list(metadata, "merges")))) if kind == "bpe" else (),
        scores=tuple(scores),
        bos_id=bos,
        eos_id=_id(metadata, "eos_token_id", len(tokens)),
        pad_id=_id(metadata, "padding_token_id", len(tokens)),
        unk_id=_id(metadata, "unknown_token_id", len(tokens)),
        add_bos=bool(_flag(metadata, "add_bos_token", kind == "spm")) and bos is not None,
        add_space_prefix=kind == "spm" and _flag(metadata, "add_space_prefix", True),
        chat_template=template if isinstance(template, str) and template else None,
    )


def to_metadata(v: Vocabulary, turns: Mapping[str, str]) -> dict[str, Any]:
    """Return the metadata for a vocabulary; lists of ints are INT32, `twofold.unicode` is uint32 of numpy.

    `turns`: the strings around a conversation's texts, from turns.derive.
    """
    ggml: dict[str, Any] = {
        "model": "gpt2" if v.kind == "bpe" else "llama",
        "pre": v.pre,
        "tokens": list(v.tokens),
        "token_type": list(v.types),
    }
    if v.kind == "bpe":
        ggml["merges"] = list(v.merges)
    else:
        ggml |= {"scores": [float(s) for s in v.scores], "add_space_prefix": v.add_space_prefix}
    ids = {"bos": v.bos_id, "eos": v.eos_id, "padding": v.pad_id, "unknown": v.unk_id}
    ggml |= {f"{name}_token_id": token for name, token in ids.items() if token is not None}
    ggml["add_bos_token"] = v.add_bos
    metadata = {f"tokenizer.ggml.{key}": value for key, value in ggml.items()}
    if v.chat_template is not None:
        metadata["tokenizer.chat_template"] = v.chat_template
    if v.kind == "bpe":
        metadata["twofold.unicode"] = unicode.packed()
    return metadata | {f"twofold.chat.{key}": value for key, value in turns.items()}


def _list(metadata: Mapping[str, Any], name: str) -> list[Any]:
    value = metadata.get(f"tokenizer.ggml.{name}", [])
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise BadFileError(f"tokenizer.ggml.{name} must be a list: the file is damaged.")
    return list(value)


def _text(items: list[Any]) -> list[str]:
    if not all(isinstance(item, str) for item in items):
        raise BadFileError("The tokenizer's merges must be text: the file is damaged.")
    return items


def _id(metadata: Mapping[str, Any], name: str, tokens: int) -> int | None:
    """Return a token id, or None when it is absent or -1 (as an unsigned number too), which means none."""
    value = metadata.get(f"tokenizer.ggml.{name}")
    if value is None or value in (-1, 0xFFFFFFFF):
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < tokens:
        raise BadFileError(f"tokenizer.ggml.{name} is {value!r}, not an id below {tokens:,}.")
    return value


def _flag(metadata: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    value = metadata.get(f"tokenizer.ggml.{name}", otherwise)
    if not isinstance(value, bool):
        raise BadFileError(f"tokenizer.ggml.{name} must be true or false: the file is damaged.")
    return value
