"""Which file of a repository to take: the one that was asked for, or the best that this program runs."""

import re
from collections.abc import Sequence

from twofold.base.errors import UsageError
from twofold.base.names import nearest
from twofold.parameters.model import FILE_TYPES
from twofold.pull.hub import HubFile, Repo

# Nobody said which: Q8_0 is hardly worse than the original, and a small model feels every bit less; of a
# large one, four to five bits are what most machines have room for.
SMALL_BYTES = 2_000_000_000
BEST = ("Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0", "Q4_0", "Q4_K_S", "F16", "BF16", "F32")

_TYPE = re.compile(r"(?:^|[-_.])((?:I?Q|TQ)\d(?:_\w+)?|MXFP4(?:_MOE)?|B?F16|FP16|F32|FP32)$", re.IGNORECASE)
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_RUN = {*FILE_TYPES, "Q4_K_S", "Q5_K_S"}
_MEANS = {"FP16": "F16", "FP32": "F32"}
_KEPT = re.compile(
    r"(model.*\.safetensors(\.index\.json)?|config\.json|card\.json|tokenizer\.(json|model)|vocab\.json"
    r"|merges\.txt|(tokenizer|generation|special_tokens)_(config|map)\.json|added_tokens\.json"
    r"|chat_template\.(jinja|json))"
)


def type_of(name: str) -> str:
    """Return the file type that a GGUF file's name ends in, "" where it does not say."""
    found = _TYPE.search(name.rpartition("/")[2].removesuffix(".gguf"))
    label = found[1].upper() if found else ""
    return _MEANS.get(label, label)


def gguf(repo: Repo, what: str | None) -> HubFile | None:
    """Return the GGUF file to take, None when the repository has none and no certain one was asked for.

    `what`: a file's name or a type, in any case. Raises UsageError when it is not there, when it comes in
    parts, or when it is of a type that run.c does not read.
    """
    models = [
        file for file in repo.files if file.name.endswith(".gguf") and "mmproj" not in file.name.lower()
    ]
    if what is None and not models:
        return None
    found = _named(models, what) if what is not None else _best(models)
    if found is None:
        known = sorted({type_of(file.name) or file.name for file in models}, key=str.lower)
        guess = nearest(what or "", known)
        hint = f" Did you mean {guess}?" if guess else ""
        there = ", ".join(known) if known else "no GGUF file"
        raise UsageError(f"{repo.id} holds no {what or 'file that twofold runs'}.{hint} It has: {there}.")
    if _PART.search(found.name.removesuffix(".gguf")):
        raise UsageError(f"{found.name} is one part of several, which twofold does not join: take one file.")
    if type_of(found.name) not in ("", *_RUN):
        raise UsageError(
            f"{found.name} is of a type that twofold does not run: take one of {', '.join(sorted(_RUN))}."
        )
    return found


def folder(repo: Repo) -> list[HubFile]:
    """Return the files of a Hugging Face folder to take, the smallest first. Raises UsageError."""
    files = [file for file in repo.files if "/" not in file.path and _KEPT.fullmatch(file.name)]
    names = [file.name for file in files]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise UsageError(
            f"{repo.id} holds neither a GGUF file nor config.json with *.safetensors: twofold runs those."
        )
    return sorted(files, key=lambda file: file.size)


def _named(models: Sequence[HubFile], what: str) -> HubFile | None:
    wanted = what.lower()
    for file in models:
        if wanted in (file.path.lower(), file.name.lower(), file.name.lower().removesuffix(".gguf")):
            return file
    label = _MEANS.get(what.upper(), what.upper())
    return next((file for file in models if type_of(file.name) == label), None)


def _best(models: Sequence[HubFile]) -> HubFile | None:
    whole = [file for file in models if not _PART.search(file.name.removesuffix(".gguf"))]
    by_type = {type_of(file.name): file for file in reversed(whole)}
    if "Q8_0" in by_type and by_type["Q8_0"].size < SMALL_BYTES:
        return by_type["Q8_0"]
    found = next((by_type[label] for label in BEST if label in by_type), None)
    return found or by_type.get("")
