"""The model card: what a model is, from what it was made, how well it does, and what not to expect.

A card is a plain dict that travels inside the model file as JSON (`twofold.card`), beside the keys that
other programs show (`general.name`, `general.license`, ...). Idea: Mitchell et al., Model Cards for Model
Reporting, 2019. The keys, all but `name` may be left out:

    schema       1
    name, summary, author, organization, version, created, url, license, license_link      text
    languages, tags, limits, notes                                                         lists of text
    parents      list of {name, and if known: author, url, license, ...}   what it was tuned or merged from
    data         list of {name, and if known: license, url, documents, bytes, tokens, sha256, ...}
    scores       list of {name, value, and if known: unit, split, ...}
    samples      list of {prompt, text}
    sampling     {temperature, top_k, top_p, min_p, repetition_penalty}, what is known of them: how its tokens
                 are best chosen where nobody says otherwise
    recipe       any JSON object: everything needed to repeat the training
    training     any JSON object: what the training took, with units in the keys (wall_s, tokens, ...)

Not covered: pictures; a run folder's card.md adds them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.base.errors import BadFileError, TwofoldError
from twofold.base.names import nearest

SCHEMA = 1
_TEXTS = ("name", "summary", "author", "organization", "version", "created", "url", "license", "license_link")
_LISTS = ("languages", "tags", "limits", "notes")
_RECORDS = {
    "parents": ("name",),
    "data": ("name",),
    "scores": ("name", "value"),
    "samples": ("prompt", "text"),
}
_OBJECTS = ("recipe", "training")
_SAMPLING = {  # card -> (GGUF's own key, least, most)
    "temperature": ("general.sampling.temp", 0, 10),
    "top_k": ("general.sampling.top_k", 0, 1 << 20),
    "top_p": ("general.sampling.top_p", 1e-6, 1),
    "min_p": ("general.sampling.min_p", 0, 1),
    "repetition_penalty": ("general.sampling.penalty_repeat", 0.1, 10),
}
_KNOWN = ("schema", *_TEXTS, *_LISTS, *_RECORDS, *_OBJECTS, "sampling")
_GENERAL = {  # card -> GGUF's own key
    "name": "general.name",
    "summary": "general.description",
    "author": "general.author",
    "organization": "general.organization",
    "version": "general.version",
    "url": "general.url",
    "license": "general.license",
    "license_link": "general.license.link",
    "tags": "general.tags",
    "languages": "general.languages",
}
_SOURCES = {"parents": "general.base_model", "data": "general.dataset"}
_SOURCE_KEYS = ("name", "author", "version", "organization", "description", "url", "doi", "repo_url")


def validate(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card as a dict of plain JSON values, with its schema number.

    Raises TwofoldError that names the key which is unknown, missing or of the wrong type.
    """
    for key in card:
        if key not in _KNOWN:
            guess = nearest(str(key), _KNOWN)
            hint = f"did you mean {guess!r}?" if guess else f"known are {', '.join(_KNOWN)}."
            raise TwofoldError(f"The model card has an unknown key {key!r}; {hint}")
    schema = card.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise TwofoldError(
            f"The model card has schema {schema!r}, this twofold reads {SCHEMA}: update twofold."
        )
    if not isinstance(card.get("name"), str) or not card["name"]:
        raise TwofoldError("The model card lacks a name: give the model one.")
    for key, value in card.items():
        _check(key, value)
    try:
        plain: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **card}, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise TwofoldError(f"The model card holds something that JSON cannot: {error}.") from error
    return plain


def _check(key: str, value: Any) -> None:
    if key in _TEXTS and not isinstance(value, str):
        raise TwofoldError(f"The model card's {key} must be text, not {type(value).__name__}.")
    if key in _LISTS and not (_is_list(value) and all(isinstance(item, str) for item in value)):
        raise TwofoldError(f"The model card's {key} must be a list of texts.")
    if key in _OBJECTS and not isinstance(value, Mapping):
        raise TwofoldError(f"The model card's {key} must be an object, not {type(value).__name__}.")
    if key == "sampling" and (not isinstance(value, Mapping) or advice(value) != dict(value)):
        raise TwofoldError(
            f"The model card's sampling must be an object of {', '.join(_SAMPLING)}, in range."
        )
    if key not in _RECORDS:
        return
    needed = _RECORDS[key]
    if not _is_list(value) or not all(isinstance(item, Mapping) for item in value):
        raise TwofoldError(f"The model card's {key} must be a list of objects with {' and '.join(needed)}.")
    for number, item in enumerate(value):
        for part in needed:
            wanted: tuple[type, ...] = (int, float, str) if part == "value" else (str,)
            if not isinstance(item.get(part), wanted):
                raise TwofoldError(f"The model card's {key}[{number}] lacks {part}.")


def advice(given: Mapping[str, Any]) -> dict[str, float]:
    """Return what of these settings advises on sampling, by the card's names; nonsense advises nothing."""
    found: dict[str, float] = {}
    for name, (_, least, most) in _SAMPLING.items():
        value = given.get(name)
        kind = int if name == "top_k" else int | float
        if isinstance(value, kind) and not isinstance(value, bool) and least <= value <= most:
            found[name] = value
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def to_json(card: Mapping[str, Any]) -> str:
    """Return the card as one line of JSON. Raises TwofoldError for a card that is not valid."""
    return json.dumps(validate(card), ensure_ascii=True, sort_keys=False)


def from_json(text: str, where: str) -> dict[str, Any]:
    """Return the card in `text`. Raises BadFileError that names `where` it stood."""
    try:
        card = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"The model card in {where} is not JSON: {error}.") from error
    if not isinstance(card, dict):
        raise BadFileError(f"The model card in {where} is not a JSON object.")
    try:
        return validate(card)
    except TwofoldError as error:
        raise BadFileError(f"{where}: {error}") from error


def to_gguf(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card as GGUF metadata: the keys that other programs know, and the whole as JSON."""
    card = validate(card)
    metadata: dict[str, Any] = {}
    for key, general in _GENERAL.items():
        if card.get(key):
            metadata[general] = card[key]
    for key, prefix in _SOURCES.items():
        sources = card.get(key, [])
        if sources:
            metadata[f"{prefix}.count"] = len(sources)
        for number, source in enumerate(sources):
            for part in _SOURCE_KEYS:
                if isinstance(source.get(part), str):
                    metadata[f"{prefix}.{number}.{part}"] = source[part]
    for key, value in card.get("sampling", {}).items():
        metadata[_SAMPLING[key][0]] = value if key == "top_k" else float(value)
    metadata["twofold.card"] = to_json(card)
    return metadata


def from_gguf(metadata: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the card in a GGUF file's metadata, made of the general keys if there is no `twofold.card`.

    Raises BadFileError that names `where` for a card that is not valid.
    """
    whole = metadata.get("twofold.card")
    if isinstance(whole, str):
        return from_json(whole, where)
    card: dict[str, Any] = {"schema": SCHEMA, "name": "unnamed"}
    for key, general in _GENERAL.items():
        value = metadata.get(general)
        texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
        if value and (texts if key in _LISTS else isinstance(value, str)):
            card[key] = value
    for key, prefix in _SOURCES.items():
        count = metadata.get(f"{prefix}.count", 0)
        sources = []
        for number in range(min(count, len(metadata)) if type(count) is int else 0):
            parts = {part: metadata.get(f"{prefix}.{number}.{part}") for part in _SOURCE_KEYS}
            sources.append({part: value for part, value in parts.items() if isinstance(value, str)})
        named = [source for source in sources if "name" in source]
        if named:
            card[key] = named
    if sampling := advice({name: metadata.get(key) for name, (key, _, _) in _SAMPLING.items()}):
        card["sampling"] = sampling
    return validate(card)


def to_markdown(card: Mapping[str, Any]) -> str:
    """Return the card as a Markdown page, with the front matter that model hubs read."""
    card = validate(card)
    lines = ["---"]
    for key, name in (("license", "license"), ("languages", "language"), ("tags", "tags")):
        if card.get(key):
            lines.append(f"{name}: {json.dumps(card[key], ensure_ascii=False)}")
    lines += ["---", "", f"# {_line(card['name'])}", ""]
    if card.get("summary"):
        lines += [card["summary"].strip(), ""]
    facts = ("author", "organization", "version", "created", "url", "license", "license_link")
    lines += [f"- {key.replace('_', ' ')}: {_line(card[key])}" for key in facts if card.get(key)]
    if card.get("sampling"):
        how = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in card["sampling"].items())
        lines.append(f"- sampling: {how}")
    for key, title in (("limits", "What not to expect"), ("notes", "Notes")):
        if card.get(key):
            lines += ["", f"## {title}", "", *[f"- {_line(item)}" for item in card[key]]]
    for key, title in (("scores", "Scores"), ("data", "Data"), ("parents", "Made from")):
        if card.get(key):
            lines += ["", f"## {title}", "", *_table(card[key])]
    if card.get("samples"):
        lines += ["", "## Samples, as they came"]
        for sample in card["samples"]:
            lines += ["", *_quoted(sample["prompt"], "**", "**"), ">", *_quoted(sample["text"])]
    for key, title in (("training", "Training"), ("recipe", "Recipe")):
        if card.get(key):
            lines += ["", f"## {title}", "", *_fenced(json.dumps(card[key], indent=2, ensure_ascii=False))]
    return "\n".join(lines).rstrip() + "\n"


def _line(value: Any) -> str:
    return " ".join(str(value).split())


def _table(records: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table with a column for each key that occurs, in the order of appearance."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    rows = [[_cell(record.get(column, "")) for column in columns] for record in records]
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        text = f"{value:.4g}"
    else:
        text = f"{value:,}" if type(value) is int else _line(value)
    return text.replace("|", "\\|")


def _quoted(text: str, before: str = "", after: str = "") -> list[str]:
    """Return the lines of a block quote; characters that Markdown would act on are escaped."""
    lines = ["".join("\\" + c if c in "\\`*_#<>[]|" else c for c in line) for line in text.splitlines()]
    return [f"> {before}{line}{after}  " if line.strip() else ">" for line in lines] or [">"]


def _fenced(text: str) -> list[str]:
    fence = "```"
    while fence in text:
        fence += "`"
    return [f"{fence}json", text, fence]
