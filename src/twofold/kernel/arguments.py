"""The arguments of a call: values in the place of their names, whose each piece is, and what is wrong with
them."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from twofold.kernel.device import DeviceError
from twofold.kernel.flow import Label, flat
from twofold.kernel.pages import NAMES, Page, unspelled
from twofold.kernel.process import State


def resolve(
    value: Any, state: State, base: Label, leaves: dict[str, Label], path: str, schema: Mapping[str, Any]
) -> Any:
    """Return an argument with values in the place of their names, and note the label of each leaf."""
    if isinstance(value, Mapping) and set(value) == {"$value"}:
        page = value_of(state, str(value["$value"]))
        found = _typed(page.text, schema)
        leaves.update((leaf, base.join(page.label)) for leaf, _ in flat(found, path))
        return found
    leaves[path] = base
    if isinstance(value, Mapping):
        inner = schema.get("properties", {})
        return {
            key: resolve(item, state, base, leaves, f"{path}.{key}", inner.get(key, {}))
            for key, item in value.items()
        }
    if isinstance(value, list):
        inner = schema.get("items", {})
        return [resolve(item, state, base, leaves, f"{path}.{n}", inner) for n, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    for name in NAMES.findall(value):
        leaves[path] = leaves[path].join(value_of(state, name).label)
    return NAMES.sub(lambda found: value_of(state, found[1]).text, value)


def _typed(text: str, schema: Mapping[str, Any]) -> Any:
    """Return a value's text as what the schema wants in its place: a number where it wants one."""
    forms = [schema, *schema.get("anyOf", ())]
    if any(form.get("type", "string" if len(forms) == 1 else "") == "string" for form in forms):
        return text
    return unspelled(text)


def value_of(state: State, id: str) -> Page:
    """Return the page of a value, with all that is hidden inside of it. Raises DeviceError when there is none
    of that name."""
    page = state.value(id)
    if page is None:
        raise DeviceError(f"There is no value {id}.")
    return page


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda v: isinstance(v, str),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "boolean": lambda v: isinstance(v, bool),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, Mapping),
    "null": lambda v: v is None,
}


def _number(value: Any) -> Any:
    return value if _TYPES["number"](value) else None


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, str | list) else None


_LIMITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "minimum": (_number, "at least"),
    "maximum": (_number, "at most"),
    "maxLength": (_length, "no longer than"),
    "maxItems": (_length, "no longer than"),
}


def _within(limit: str, size: Any, bound: Any) -> bool:
    return bool(size >= bound if limit == "minimum" else size <= bound)


def wrong(value: Any, schema: Mapping[str, Any], where: str = "the arguments") -> str:
    """Return what is wrong with a value under a JSON schema; "" when nothing is. Other keywords bind
    nothing."""
    kinds = schema.get("type", ())
    known = [_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind in _TYPES]
    if known and not any(fits(value) for fits in known):
        return f"{where} must be of the type {kinds}."
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} must be one of {json.dumps(schema['enum'], ensure_ascii=False)}."
    for limit, (measure, word) in _LIMITS.items():
        size = measure(value)
        if limit in schema and size is not None and not _within(limit, size, schema[limit]):
            return f"{where} must be {word} {schema[limit]:,}."
    if isinstance(value, Mapping):
        properties = schema.get("properties", {})
        if missing := [name for name in schema.get("required", ()) if name not in value]:
            return f"{where} lack {', '.join(missing)}."
        for name, item in value.items():
            if name not in properties and schema.get("additionalProperties", not properties) is False:
                return f"{where} have no {name}: known are {', '.join(properties)}."
            if found := wrong(item, properties.get(name, {}), name):
                return found
    if isinstance(value, list):
        for item in value:
            if found := wrong(item, schema.get("items", {}), f"each of {where}"):
                return found
    return ""


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema that says what `wrong` takes for granted: an object with properties has no others.

    A grammar that is not told so lets a small model make up arguments.
    """
    found = dict(schema)
    if properties := schema.get("properties"):
        found["properties"] = {
            name: closed(inner) if isinstance(inner, Mapping) else {} if inner else {"not": {}}
            for name, inner in properties.items()
        }
        found.setdefault("additionalProperties", False)
    if isinstance(schema.get("items"), Mapping):
        found["items"] = closed(schema["items"])
    return found


def with_values(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema in which every argument that is no text may be the name of a value."""
    value = closed({"type": "object", "properties": {"$value": {"type": "string"}}, "required": ["$value"]})
    properties = {
        name: inner if inner.get("type") == "string" else {"anyOf": [inner, value]}
        for name, inner in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties}
