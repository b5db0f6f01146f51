"""A vocabulary as the files of a Hugging Face folder, and back.

Read: tokenizer.json (byte-level BPE, or BPE with byte fallback as Llama 2 and Mistral have it, which becomes
SentencePiece with the order of the merges as scores), or else SentencePiece's tokenizer.model; beside them
tokenizer_config.json, special_tokens_map.json and chat_template.jinja. Written: the first three, for
transformers' AutoTokenizer. Not covered: WordPiece, Unigram, other normalisers (NFC is not applied, as in
llama.cpp), tokens that swallow the space beside them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, processors

from twofold.base.errors import BadFileError
from twofold.base.files import write_text
from twofold.tokens import bpe, protobuf
from twofold.tokens.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Vocabulary,
)

TOKENIZER, CONFIG, SPECIAL_MAP, TEMPLATE = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
_BYTES = {f"<0x{byte:02X}>" for byte in range(256)}
_NAMES = {"bos_id": "bos_token", "eos_id": "eos_token", "pad_id": "pad_token", "unk_id": "unk_token"}


def read_folder(folder: Path) -> Vocabulary:
    """Return the vocabulary in a folder. Raises BadFileError when it is absent, foreign or damaged."""
    config = {**_optional(folder / SPECIAL_MAP), **_optional(folder / CONFIG)}
    if (folder / TEMPLATE).is_file():
        config["chat_template"] = _text(folder / TEMPLATE)
    if (folder / TOKENIZER).is_file():
        return from_json(read_json(folder / TOKENIZER), config, folder / TOKENIZER)
    if (folder / "tokenizer.model").is_file():
        v = protobuf.read(folder / "tokenizer.model")
        return _with_config(v.__dict__, config, folder / CONFIG)
    raise BadFileError(f"{folder} holds no tokenizer: neither {TOKENIZER} nor tokenizer.model.")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises BadFileError."""
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadFileError(f"{path} must hold a JSON object.")
    return value


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFileError(f"{path} cannot be read: {error}.") from None


# ---- reading tokenizer.json ----------------------------------------------------------------------------


def from_json(data: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> Vocabulary:
    """Return the vocabulary of a tokenizer.json; a file written by `to_json` comes back exactly."""
    try:
        own = data["model"].get("twofold") if isinstance(data.get("model"), dict) else None
        if own is not None:
            return _from_own(data, own)
        return _with_config(_foreign(data), config, path)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise BadFileError(
            f"{path} is damaged: its parts do not have the form of a tokenizer ({error!r})."
        ) from None


def _from_own(data: Mapping[str, Any], own: Mapping[str, Any]) -> Vocabulary:
    tokens = _by_id(data["model"]["vocab"])
    fields = {key: value for key, value in own.items() if key not in ("types", "tokens")}
    types = [NORMAL] * len(tokens)
    for token, type_ in own["types"]:
        types[token] = type_
    for token, text in own.get("tokens", []):  # those that the package cannot hold twice
        tokens[token] = text
    merges = _merges(data["model"]) if own["kind"] == "bpe" else []  # those of spm follow from the scores
    return Vocabulary(tokens=tuple(tokens), types=tuple(types), merges=tuple(merges), **fields)


def _by_id(ids: Mapping[str, int]) -> list[str]:
    """Return the tokens by id; ids that no token has are filled with unused ones."""
    if not all(type(token) is int and token >= 0 for token in ids.values()):
        raise ValueError("ids must be whole numbers")
    size = max(ids.values(), default=-1) + 1
    if size > 2 * len(ids) + 100_000:
        raise ValueError("ids far beyond the number of tokens")
    tokens = [f"<|unused_{n}|>" for n in range(size)]
    for text, token in ids.items():
        tokens[token] = text
    return tokens


def _merges(model: Mapping[str, Any]) -> list[str]:
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or [])
    return list(dict.fromkeys(merges))


def _foreign(data: Mapping[str, Any]) -> dict[str, Any]:
    model = data["model"]
    if model.get("type", "BPE") != "BPE" or "merges" not in model:
        raise BadFileError(f"The tokenizer is of type {model.get('type')!r}; twofold reads BPE.")
    added = data.get("added_tokens") or []
    ids = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
    tokens = _by_id(ids)
    spm = bool(model.get("byte_fallback")) and not _parts(data.get("pre_tokenizer"), "ByteLevel")
    known = set(ids.values())
    types = [NORMAL if n in known else UNUSED for n in range(len(tokens))]
    for token in added:
        types[token["id"]] = CONTROL if token.get("special") else USER_DEFINED
    merges = _merges(model)
    fields: dict[str, Any] = {"kind": "spm" if spm else "bpe", "tokens": tokens, "types": types}
    if spm:
        if model.get("unk_token") in ids:
            types[ids[model["unk_token"]]] = UNKNOWN
        for text in _BYTES & ids.keys():
            types[ids[text]] = BYTE
        for token in (n for n, type_ in enumerate(types) if type_ == USER_DEFINED):
            tokens[token] = tokens[token].replace(
                SPACE, " "
            )  # Gemma's runs of spaces: found in text as it is
        fields |= {"pre": "default", "scores": _scores(tokens, types, merges)}
        fields |= {"unk_id": ids.get(model.get("unk_token")), "add_space_prefix": _adds_space(data)}
    else:
        _refuse_normalizer(data.get("normalizer"))
        fields |= {"pre": _pre(data.get("pre_tokenizer")), "merges": merges}
    first = (_parts(data.get("post_processor"), "TemplateProcessing") or [{}])[0].get("single") or [{}]
    special = first[0].get("SpecialToken", {}).get("id")
    return fields | ({"add_bos": True, "bos_id": ids[special]} if special in ids else {})


def _parts(node: Any, type_: str) -> list[dict[str, Any]]:
    """Return the parts of a type in a (nested sequence of a) normalizer, pre-tokenizer or processor."""
    if not isinstance(node, dict):
        return []
    inner = [part for key in ("normalizers", "pretokenizers", "processors") for part in node.get(key) or []]
    return [n for n in [node] if n.get("type") == type_] + [p for n in inner for p in _parts(n, type_)]


def _scores(tokens: list[str], types: list[int], merges: list[str]) -> list[float]:
    """Return scores that make SentencePiece join in the order of the merges.

    A token that no merge makes is marked as unused in `types`, or SentencePiece would make it.
    """
    rank: dict[str, int] = {}
    for number, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", "", 1), number)
    for token, text in enumerate(tokens):
        if types[token] == NORMAL and len(text) > 1 and text not in rank:
            types[token] = UNUSED
    return [-float(rank.get(text, len(merges) if len(text) == 1 else 0)) for text in tokens]


def _adds_space(data: Mapping[str, Any]) -> bool:
    if _parts(data.get("normalizer"), "Prepend"):
        return True
    for part in _parts(data.get("pre_tokenizer"), "Metaspace"):
        older_files = "always" if part.get("add_prefix_space", True) else "never"
        return bool(part.get("prepend_scheme", older_files) != "never")
    return False


def _refuse_normalizer(normalizer: Any) -> None:
    if isinstance(normalizer, dict) and not _parts(normalizer, "NFC"):
        raise BadFileError(
            f"The tokenizer changes text before it splits it ({normalizer.get('type')!r}), which twofold "
            "does not do."
        )


def _pre(node: Any) -> str:
    """Return the name of the pattern that a pre-tokenizer splits words by."""
    levels = _parts(node, "ByteLevel")
    patterns = [part["pattern"].get("Regex") for part in _parts(node, "Split")]
    digits = [part for part in _parts(node, "Digits") if part.get("individual_digits")]
    if len(levels) == 1 and not levels[0].get("add_prefix_space", True):
        whole = levels[0].get("use_regex", True)
        if not whole and patterns in ([bpe.QWEN2], [bpe.LLAMA3]):
            return "qwen2" if patterns == [bpe.QWEN2] else "llama-bpe"
        if whole and not patterns and not digits:
            return "gpt-2"
        if whole and (len(digits) == 1) != (patterns == [r"\p{N}"]):
            return "smollm"
    raise BadFileError(
        "The tokenizer splits words by a pattern that twofold does not know; it knows those of Qwen2, "
        "Llama 3, GPT-2, SmolLM and StarCoder."
    )


def _with_config(fields: Mapping[str, Any], config: Mapping[str, Any], path: Path) -> Vocabulary:
    """Return the vocabulary with what tokenizer_config.json says of special tokens and chats."""
    tokens = fields["tokens"]
    found = {}
    for field, name in _NAMES.items():
        text = config.get(name)
        text = text.get("content") if isinstance(text, dict) else text
        if isinstance(text, str) and text in tokens:
            found[field] = tokens.index(text)
    merged = {**fields, **found}
    if isinstance(config.get("add_bos_token"), bool):
        merged["add_bos"] = config["add_bos_token"]
    elif merged["kind"] == "spm" and str(config.get("tokenizer_class", "Llama")).startswith("Llama"):
        merged["add_bos"] = True
    merged["add_bos"] = merged.get("add_bos", False) and merged.get("bos_id") is not None
    template = config.get("chat_template")
    if isinstance(template, list):
        named = {
            t["name"]: t["template"]
            for t in template
            if isinstance(t, dict) and {"name", "template"} <= t.keys()
        }
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise BadFileError(f"{path}: the chat template must be text.")
    return Vocabulary(**{**merged, "chat_template": template or None})


# ---- writing -------------------------------------------------------------------------------------------


def to_json(v: Vocabulary) -> str:
    """Return a tokenizer.json for the `tokenizers` package; `model.twofold` holds what has no place in it."""
    ids: dict[str, int] = {}
    twice = []
    for token, text in enumerate(v.tokens):
        if text in ids:
            twice.append([token, text])
        ids[f"<|twin_{token}|>" if text in ids else text] = token
    made = _bpe_pipeline(v, ids) if v.kind == "bpe" else _spm_pipeline(v, ids)
    doubles = {token for token, _ in twice}
    for token, (text, type_) in enumerate(zip(v.tokens, v.types, strict=True)):
        special = type_ == CONTROL or (type_ == UNKNOWN and v.kind == "spm")
        if text and token not in doubles and (special or type_ == USER_DEFINED):
            added = AddedToken(text, normalized=False, special=special)
            (made.add_special_tokens if special else made.add_tokens)([added])
    if v.add_bos and v.bos_id is not None:
        bos = v.tokens[v.bos_id]
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, v.bos_id)]
        )
    data = json.loads(made.to_str())
    own = {key: value for key, value in v.__dict__.items() if key not in ("tokens", "types", "merges")}
    own["types"] = [[token, type_] for token, type_ in enumerate(v.types) if type_ != NORMAL]
    data["model"]["twofold"] = own | ({"tokens": twice} if twice else {})
    if v.kind == "bpe":  # all of them, also those that lead to no ordinary token
        data["model"]["merges"] = [merge.split(" ", 1) for merge in v.merges]
    return json.dumps(data, ensure_ascii=False)


def _bpe_pipeline(v: Vocabulary, ids: dict[str, int]) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(bpe.model(v, ids))
    made.pre_tokenizer = bpe.pre_tokenizer(v.pre)
    made.decoder = decoders.ByteLevel()
    return made


def _spm_pipeline(v: Vocabulary, ids: dict[str, int]) -> tokenizers.Tokenizer:
    """SentencePiece as the package has it: every way to make a piece of two others is a merge, the best piece
    first. Of two ways to the same piece it takes one everywhere, where SentencePiece takes the leftmost."""
    normal = v.normal_ids()
    pieces = sorted((text for text in normal if len(text) > 1), key=lambda text: -v.scores[normal[text]])
    merges = []
    for text in pieces:
        ways = [
            (text[:n], text[n:]) for n in range(1, len(text)) if text[:n] in normal and text[n:] in normal
        ]
        merges += sorted(ways, key=lambda way: (normal[way[0]], normal[way[1]]))
    unknown = None if v.unk_id is None else v.tokens[v.unk_id]
    made = tokenizers.Tokenizer(
        models.BPE(vocab=ids, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    first = [normalizers.Prepend(SPACE)] if v.add_space_prefix else []
    made.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", SPACE)])
    last = [decoders.Strip(" ", 1, 0)] if v.add_space_prefix else []
    made.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
    )
    return made


def write_folder(v: Vocabulary, folder: Path) -> None:
    """Write tokenizer.json and the two files beside it for transformers' AutoTokenizer."""
    named = {name: getattr(v, field) for field, name in _NAMES.items()}
    special = {name: v.tokens[token] for name, token in named.items() if token is not None}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": v.add_bos,
        **special,
    }
    if v.chat_template is not None:
        config["chat_template"] = v.chat_template
    write_text(folder / TOKENIZER, to_json(v))
    write_text(folder / CONFIG, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
    write_text(folder / SPECIAL_MAP, json.dumps(special, ensure_ascii=False, indent=2) + "\n")
