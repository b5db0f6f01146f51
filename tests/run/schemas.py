"""JSON schemas made at random, and a check of a value against one that shares nothing with llguidance.

The schemas are of the kind that programs send: nested objects, arrays, enums, bounds, patterns, anyOf, $ref.
Every one bounds the length of what is valid under it, so that any model comes to an end.
"""

import random
import re
from typing import Any

Schema = dict[str, Any]
_WORDS = ("name", "größe", "tag", "price", "id", "city", "unit", "a b", "from", "count", "ok", 'q"uote')
# A pattern, and Python's form of it: `\d` is a digit of ASCII in JSON schema.
_PATTERNS = (r"^[A-Z]{2,3}$", r"^\d{4}-\d{2}$", r"^(red|green)-[0-9a-f]{4}$", r"^[a-z]+(_[a-z]+){0,2}$")
_FORMATS = {
    "date": r"\d{4}-\d{2}-\d{2}",
    "uuid": r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "time": r"\d{2}:\d{2}:\d{2}.*",
}


def make(seed: int) -> Schema:
    """Return a schema; the same for the same seed."""
    chance = random.Random(seed)
    definitions = {f"part{n}": _value(chance, 1, ()) for n in range(chance.randrange(3))}
    refs = tuple(f"#/$defs/{name}" for name in definitions)
    schema = chance.choice((_object, _object, _object, _array))(chance, 3, refs)
    return {**schema, "$defs": definitions} if definitions else schema


def _value(chance: random.Random, depth: int, refs: tuple[str, ...]) -> Schema:
    if refs and chance.random() < 0.2:
        return {"$ref": chance.choice(refs)}
    simple = (_string, _integer, _number, _choice, _boolean)
    if depth == 0 or chance.random() < 0.5:
        return chance.choice(simple)(chance)
    return chance.choice((_object, _array, _either))(chance, depth - 1, refs)


def _object(chance: random.Random, depth: int, refs: tuple[str, ...]) -> Schema:
    names = chance.sample(_WORDS, chance.randint(1, 4))
    required = [name for name in names if chance.random() < 0.7]
    properties = {name: _value(chance, depth, refs) for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _array(chance: random.Random, depth: int, refs: tuple[str, ...]) -> Schema:
    least = chance.randrange(3)
    items = _value(chance, depth, refs)
    return {"type": "array", "items": items, "minItems": least, "maxItems": least + chance.randrange(3)}


def _either(chance: random.Random, depth: int, refs: tuple[str, ...]) -> Schema:
    return {"anyOf": [_value(chance, depth, refs) for _ in range(chance.randint(2, 3))]}


def _string(chance: random.Random) -> Schema:
    kind = chance.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": chance.choice(_PATTERNS), "maxLength": 20}
    if kind == 1:
        return {"type": "string", "format": chance.choice(sorted(_FORMATS)), "maxLength": 40}
    least = chance.randrange(4)
    return {"type": "string", "minLength": least, "maxLength": least + chance.randint(1, 12)}


def _integer(chance: random.Random) -> Schema:
    least = chance.randint(-1000, 1000)
    bounds = {"minimum": least, "maximum": least + chance.randint(0, 5000)}
    if chance.random() < 0.3:
        bounds = {"exclusiveMinimum": least, "exclusiveMaximum": least + chance.randint(2, 50)}
    return {"type": "integer", **bounds}


def _number(chance: random.Random) -> Schema:
    least = round(chance.uniform(-50, 50), 2)
    most = round(least + chance.uniform(1, 90), 2)
    return {"type": "number", "minimum": least, "maximum": most}


def _choice(chance: random.Random) -> Schema:
    if chance.random() < 0.3:
        return {"const": chance.choice(("fixed", 7, None, True, {"a": [1]}))}
    return {"enum": chance.sample(("red", "blau", "ünder", 3, 3.5, None, False, "a longer one"), 3)}


def _boolean(chance: random.Random) -> Schema:
    return {"type": chance.choice(("boolean", "null", ["boolean", "null"]))}


def fault(value: Any, schema: Schema, root: Schema | None = None) -> str | None:
    """Return what is wrong with a value under a schema made here, None when it is valid."""
    root = root or schema
    if "$ref" in schema:
        return fault(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema:
        faults = [fault(value, option, root) for option in schema["anyOf"]]
        return None if None in faults else f"none of anyOf: {faults}"
    for keyword, allowed in (("enum", schema.get("enum")), ("const", [schema.get("const")])):
        if keyword in schema:
            same = any(value == one and type(value) is type(one) for one in allowed or ())
            return None if same else f"{value!r} is not in {allowed}"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(_is(value, kind) for kind in kinds):
        return f"{value!r} is no {kinds}"
    return _FAULTS.get(kinds[0], lambda *_: None)(value, schema, root)


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        whole = kind == "number" or value == int(value) if isinstance(value, (int, float)) else False
        return whole and not isinstance(value, bool)
    python = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    return isinstance(value, python[kind])


def _object_fault(value: dict[str, Any], schema: Schema, root: Schema) -> str | None:
    if missing := [name for name in schema["required"] if name not in value]:
        return f"{missing} is missing"
    for name, item in value.items():
        if name not in schema["properties"]:
            return f"{name!r} is not known"
        if found := fault(item, schema["properties"][name], root):
            return f"{name}: {found}"
    return None


def _array_fault(value: list[Any], schema: Schema, root: Schema) -> str | None:
    if not schema["minItems"] <= len(value) <= schema["maxItems"]:
        return f"{len(value)} items"
    return next((found for item in value if (found := fault(item, schema["items"], root))), None)


def _string_fault(value: str, schema: Schema, root: Schema) -> str | None:
    if not schema.get("minLength", 0) <= len(value) <= schema["maxLength"]:
        return f"{value!r} has {len(value)} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value, re.ASCII):
        return f"{value!r} does not match {schema['pattern']}"
    if "format" in schema and not re.fullmatch(_FORMATS[schema["format"]], value, re.ASCII):
        return f"{value!r} is no {schema['format']}"
    return None


def _number_fault(value: float, schema: Schema, root: Schema) -> str | None:
    fits = (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and value > schema.get("exclusiveMinimum", value - 1)
        and value < schema.get("exclusiveMaximum", value + 1)
    )
    return None if fits else f"{value} is out of bounds"


_FAULTS = {
    "object": _object_fault,
    "array": _array_fault,
    "string": _string_fault,
    "integer": _number_fault,
    "number": _number_fault,
}
