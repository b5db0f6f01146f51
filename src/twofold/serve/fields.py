"""What a request may hold: JSON Schema written in Python, and a check that answers in sentences.

One description serves both the check and the OpenAPI document. Only what the APIs here need: types, choices,
bounds, lists, objects, alternatives. A field that is absent and one that is null are the same; a field that
nobody knows is passed over, since clients send many.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.serve.refusals import Refusal

Schema = dict[str, Any]
_WORDS = {"string": "text", "boolean": "true or false", "object": "an object", "array": "a list"}
_DEEPEST = 64


def text(about: str = "", *, choices: Sequence[str] = ()) -> Schema:
    """Return the schema of a text."""
    return {"type": "string", **({"enum": list(choices)} if choices else {}), **_about(about)}


def flag(about: str = "") -> Schema:
    """Return the schema of true or false."""
    return {"type": "boolean", **_about(about)}


def number(low: float, high: float, about: str = "") -> Schema:
    """Return the schema of a number within bounds."""
    return {"type": "number", "minimum": low, "maximum": high, **_about(about)}


def whole(low: int, high: int, about: str = "") -> Schema:
    """Return the schema of a whole number within bounds."""
    return {"type": "integer", "minimum": low, "maximum": high, **_about(about)}


def listed(of: Schema, about: str = "", *, least: int = 0, most: int | None = None) -> Schema:
    """Return the schema of a list."""
    bounds = ({"minItems": least} if least else {}) | ({"maxItems": most} if most is not None else {})
    return {"type": "array", "items": of, **bounds, **_about(about)}


def record(fields: Mapping[str, Schema], required: Sequence[str] = (), about: str = "") -> Schema:
    """Return the schema of an object."""
    must = {"required": list(required)} if required else {}
    return {"type": "object", "properties": dict(fields), **must, **_about(about)}


def either(*schemas: Schema, about: str = "") -> Schema:
    """Return the schema of what is one of several things."""
    return {"anyOf": list(schemas), **_about(about)}


def _about(about: str) -> Schema:
    return {"description": about} if about else {}


def check(schema: Schema, value: Any, where: str = "") -> Any:
    """Return `value`, whole numbers as int. Raises Refusal, which names the field, when it does not fit."""
    if "anyOf" in schema:
        return _either(schema, value, where)
    kind = schema.get("type")
    if kind == "object":
        return _record(schema, value, where)
    if kind == "array":
        return _listed(schema, value, where)
    if kind in ("number", "integer"):
        return _number(schema, value, where)
    if kind == "string":
        good = isinstance(value, str) and _whole_text(value)
    else:
        good = kind is None or (kind == "boolean" and isinstance(value, bool))
    if not good:
        raise _wrong(where, _WORDS[str(kind)], value)
    if "enum" in schema and value not in schema["enum"]:
        raise _wrong(where, "one of " + ", ".join(schema["enum"]), value)
    return value


def _record(schema: Schema, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    found = dict(value)
    for name in schema.get("required", ()):
        if value.get(name) is None:
            raise Refusal(
                "invalid", f"The field `{_join(where, name)}` is missing.", where=_join(where, name)
            )
    for name, of in schema.get("properties", {}).items():
        if value.get(name) is not None:
            found[name] = check(of, value[name], _join(where, name))
    return found


def _listed(schema: Schema, value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise _wrong(where, "a list", value)
    least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if not least <= len(value) <= most:
        bounds = f"{least} to {most}" if most < math.inf else f"{least} or more"
        raise Refusal("invalid", f"`{where}` has {len(value):,} items and takes {bounds}.", where=where)
    return [check(schema["items"], item, f"{where}[{n}]") for n, item in enumerate(value)]


def _number(schema: Schema, value: Any, where: str) -> Any:
    real = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    whole_ = schema["type"] == "integer"
    low, high = schema["minimum"], schema["maximum"]
    if not real or not low <= value <= high or (whole_ and value != int(value)):
        raise _wrong(where, f"a {'whole ' if whole_ else ''}number from {low:,} to {high:,}", value)
    return int(value) if whole_ else value


def _either(schema: Schema, value: Any, where: str) -> Any:
    refusals = []
    for one in schema["anyOf"]:
        try:
            return check(one, value, where)
        except Refusal as refusal:
            refusals.append((len(refusal.where or ""), _kind(value) == one.get("type"), refusal))
    # The alternative that came furthest says best what is wrong, and of these the one of the value's kind.
    raise max(refusals, key=lambda found: found[:2])[2]


def _kind(value: Any) -> str:
    kinds = {str: "string", list: "array", dict: "object", bool: "boolean", int: "integer", float: "number"}
    return kinds.get(type(value), "null")


def _whole_text(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _wrong(where: str, must: str, value: Any) -> Refusal:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:39] + "…"
    shown = shown.encode("utf-8", "backslashreplace").decode()
    named = f"`{where}`" if where else "The body"
    return Refusal("invalid", f"{named} must be {must}, not {shown}.", where=where or None)
