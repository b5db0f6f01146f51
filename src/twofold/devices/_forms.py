"""What devices share in describing their functions, and in refusing arguments in one sentence.

The kernel checks arguments by their schema before it asks anybody; a device checks again what it stands on,
because it is also called by tests, by the MCP server and by programs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold.base.errors import UsageError
from twofold.base.names import unknown
from twofold.kernel.device import DeviceError, Function

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list, tuple),
    "object": (dict,),
}  # fmt: skip


def text(description: str, *, longest: int) -> dict[str, Any]:
    """Return the schema of a text."""
    return {"type": "string", "description": description, "maxLength": longest}


def object_of(properties: Mapping[str, Any], required: Sequence[str]) -> dict[str, Any]:
    """Return the schema of arguments: these, and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def chosen(functions: Sequence[Function], name: str) -> Function:
    """Return the function of that name. Raises DeviceError when there is none."""
    for function in functions:
        if function.name == name:
            return function
    raise DeviceError(unknown("function", name, [function.name for function in functions]))


def check(functions: Function | Sequence[Function], name: str, arguments: Mapping[str, Any]) -> None:
    """Raise DeviceError in one sentence unless the arguments are those of the function."""
    function = chosen([functions] if isinstance(functions, Function) else functions, name)
    known = function.parameters["properties"]
    for argument, value in arguments.items():
        if argument not in known:
            raise DeviceError(unknown("argument", argument, known))
        _value(argument, value, known[argument])
    for argument in function.parameters["required"]:
        if argument not in arguments:
            raise DeviceError(f"{function.name} needs the argument {argument!r}.")


def _value(argument: str, value: Any, schema: Mapping[str, Any]) -> None:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    allowed = tuple(kind for name in kinds for kind in _TYPES[name])
    if not isinstance(value, allowed) or (isinstance(value, bool) and "boolean" not in kinds):
        raise DeviceError(f"{argument!r} must be of type {' or '.join(kinds)}.")
    if "enum" in schema and value not in schema["enum"]:
        raise DeviceError(unknown(f"value of {argument}", str(value), schema["enum"]))
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        raise DeviceError(f"{argument!r} is too long: at most {schema['maxLength']:,} characters.")
    if isinstance(value, list | tuple) and len(value) > schema.get("maxItems", len(value)):
        raise DeviceError(f"{argument!r} has too many items: at most {schema['maxItems']:,}.")
    if isinstance(value, int | float) and not isinstance(value, bool):
        least, most = schema.get("minimum"), schema.get("maximum")
        if (
            not abs(value) < float("inf")
            or (least is not None and value < least)
            or (most is not None and value > most)
        ):
            raise DeviceError(f"{argument!r} must be a number from {least} to {most}.")


def settings(device: str, given: Mapping[str, Any], known: Sequence[str] = ()) -> None:
    """Raise UsageError when the device's section in devices.toml has a key that is none."""
    for key in given:
        if key not in known:
            raise UsageError(f"devices.toml, [{device}]: " + unknown("key", key, known))
