"""Configuration: one frozen, keyword-only dataclass per command, from TOML and `--set key=value`.

A dataclass says which keys exist, of what type, with which defaults; a field may itself be such a dataclass
(`optimizer.lr`). Values come from a TOML file or as text from the command line and are checked against the
field's type. A key that does not exist is an error that names the nearest one that does.

Types understood: bool, int, float, str, Path, Literal, X | None, list[X], tuple[X, ...], dict[str, X] and
nested dataclasses. Nothing is ever evaluated. Not covered: unions of two real types, sets, dates.
"""

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from twofold.base.errors import UsageError
from twofold.base.names import nearest

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BOOLS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(("false", "no", "off", "0"), False)


def load(
    cls: type[T],
    path: str | Path | None = None,
    settings: Sequence[str] = (),
    values: Mapping[str, Any] | None = None,
) -> T:
    """Return a `cls` from a TOML file, then `values` on top, then the `key=value` texts of `settings`.

    Raises UsageError for a file that is not TOML, an unknown key, or a value of the wrong type.
    """
    merged: dict[str, Any] = {}
    if path is not None:
        try:
            merged = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"Cannot read {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is not a TOML file: {error}.") from error
    return override(build(cls, {**merged, **(values or {})}), settings)


def build(cls: type[T], values: Mapping[str, Any], *, at: str = "") -> T:
    """Return a `cls` whose fields are `values`, each checked against its type.

    `at` is the dotted key of the whole in messages. Raises UsageError.
    """
    hints = typing.get_type_hints(cls)
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise _unknown_key(cls, at, key)
    for name, field in known.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if no_default and name not in values:
            raise UsageError(f"The setting {at}{name} is missing.")
    checked = {key: _check(hints[key], value, at + key) for key, value in values.items()}
    try:
        return cls(**checked)
    except ValueError as error:  # a __post_init__ that refuses the values
        raise UsageError(f"The settings are not usable: {error}") from error


def override(config: T, settings: Sequence[str]) -> T:
    """Return `config` with the texts of `settings` applied in order, such as "optimizer.lr=3e-4".

    Raises UsageError for a text without `=`, an unknown key (names the nearest) or a value of the wrong type.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set takes key=value, and {setting!r} has no '='.")
        config = _replace(config, key.strip().split("."), text.strip(), at="")
    return config


def to_toml(config: Any) -> str:
    """Return the TOML text of a config dataclass or a mapping; `load` reads it back to an equal value.

    None values are left out (TOML has no null). Scalars come before tables, as TOML demands.
    """
    return "\n".join(_toml_table(_plain(config), [])).strip("\n") + "\n"


# --- values


def _replace(config: T, keys: list[str], text: str, at: str) -> T:
    """Return `config` with the field at the path `keys` read from `text`."""
    cls = type(config)
    head, rest = keys[0], keys[1:]
    if head not in {field.name for field in dataclasses.fields(config) if field.init}:  # type: ignore[arg-type]
        raise _unknown_key(cls, at, ".".join(keys))
    hint = typing.get_type_hints(cls)[head]
    old = getattr(config, head)
    if rest and dataclasses.is_dataclass(old):
        new: Any = _replace(old, rest, text, f"{at}{head}.")
    elif rest and isinstance(old, dict):
        new = {**old, ".".join(rest): _from_text(typing.get_args(hint)[1], text, at + ".".join(keys))}
    elif rest:
        raise UsageError(f"The setting {at}{head} is one value; it has no part {'.'.join(rest)!r}.")
    elif dataclasses.is_dataclass(hint):
        inner = sorted(_keys(hint, f"{at}{head}."))
        raise UsageError(f"The setting {at}{head} has parts; set one of {', '.join(inner)}.")
    else:
        new = _from_text(hint, text, at + head)
    try:
        return dataclasses.replace(config, **{head: new})  # type: ignore[type-var]
    except ValueError as error:  # a __post_init__ that refuses the value
        raise UsageError(f"The setting {at}{head} cannot be {text!r}: {error}") from error


def _from_text(hint: Any, text: str, key: str) -> Any:
    """Return the value that `text`, typed by a person, means for a field of type `hint`."""
    hint, optional = _strip_optional(hint)
    if optional and text.casefold() in ("none", ""):
        return None
    origin = typing.get_origin(hint)
    if origin in (list, tuple):
        inner = typing.get_args(hint)[0]
        parts = [part.strip() for part in text.strip("[]()").split(",") if part.strip()]
        items = [_from_text(inner, part.strip("'\""), key) for part in parts]
        return tuple(items) if origin is tuple else items
    if origin is Literal:
        choices = {str(choice): choice for choice in typing.get_args(hint)}
        return _check(hint, choices.get(text, text), key)
    if hint is bool:
        return _check(hint, _BOOLS.get(text.casefold(), text), key)
    if hint in (int, float):
        return _check(hint, _number(text), key)
    return _check(hint, text, key)


def _number(text: str) -> int | float | str:
    """Return the number in `text`, an int if it is whole (1e6 is), or the text itself when it is none."""
    try:
        return int(text.replace("_", ""), 10)
    except ValueError:
        pass
    try:
        value = float(text)
    except ValueError:
        return text
    whole = math.isfinite(value) and value == int(value) and abs(value) < 2**53
    return int(value) if whole else value


def _check(hint: Any, value: Any, key: str) -> Any:
    """Return `value` as the type `hint` wants it. Raises UsageError when it is of another type."""
    hint, optional = _strip_optional(hint)
    if value is None and optional:
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, Mapping):
            return build(hint, value, at=f"{key}.")
    elif origin is Literal:
        if value in arguments:
            return value
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        items = [_check(arguments[0], item, key) for item in value]
        return tuple(items) if origin is tuple else items
    elif origin is dict and isinstance(value, Mapping):
        return {str(name): _check(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
    elif hint is Path and isinstance(value, str | Path):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    shown = str(value) if isinstance(value, Path) else repr(value)
    raise UsageError(f"The setting {key} must be {_spell(hint)}, not {shown}.")


def _strip_optional(hint: Any) -> tuple[Any, bool]:
    """Return (X, True) for `X | None`, and (hint, False) otherwise."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        inner = [part for part in typing.get_args(hint) if part is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return hint, False


def _spell(hint: Any) -> str:
    """Return how a person would call the type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(str(choice) for choice in arguments)
    if origin in (list, tuple):
        return f"a list ({_spell(arguments[0])} each)"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return words.get(hint, "a table of settings")


def _unknown_key(cls: Any, at: str, key: str) -> UsageError:
    known = _keys(cls, at)
    same_end = [name for name in known if name.split(".")[-1] == key.split(".")[-1]]
    guess = same_end[0] if same_end else nearest(at + key, known)
    hint = f"did you mean {guess}?" if guess else f"known are {', '.join(sorted(known))}."
    return UsageError(f"There is no setting {at + key}; {hint}")


def _keys(cls: Any, at: str) -> list[str]:
    """Return the dotted keys of all values in a config dataclass."""
    keys: list[str] = []
    for name, hint in typing.get_type_hints(cls).items():
        nested = dataclasses.is_dataclass(hint)
        keys += _keys(hint, f"{at}{name}.") if nested else [at + name]
    return keys


# --- TOML out


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _toml_table(table: Mapping[str, Any], path: list[str]) -> list[str]:
    """Return the lines of a table: its plain values, then its tables and arrays of tables."""
    lines, inner = [], []
    for key, value in table.items():
        name = _toml_key(key)
        dotted = [*path, name]
        if isinstance(value, Mapping):
            inner += ["", f"[{'.'.join(dotted)}]", *_toml_table(value, dotted)]
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for item in value:
                inner += ["", f"[[{'.'.join(dotted)}]]", *_toml_table(item, dotted)]
        else:
            lines.append(f"{name} = {_toml_value(value)}")
    return lines + inner


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # the shortest digits that read back to the same float; inf and nan are TOML
    if isinstance(value, str):
        escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
        body = "".join(
            escapes.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c) for c in value
        )
        return f'"{body}"'
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        pairs = (f"{_toml_key(key)} = {_toml_value(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    raise UsageError(f"A value of type {type(value).__name__} cannot be written as TOML.")
