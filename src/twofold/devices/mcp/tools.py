"""What a server says of its tools, made safe to read, and what the user has seen of it.

A description is text of a stranger that would stand in every prompt: it can hold orders to the model, also in
characters that no person sees (tool poisoning), and it can change after somebody has said yes to it (a rug
pull). So nothing of a tool reaches a model before the user has looked at it (`twofold mcp trust NAME`); what
he saw is kept word for word in `mcp-trusted.json`, and that is what models read from then on, whatever the
server says later. Where it says something else, the tool is not called before the user has looked again.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twofold.base import files, home
from twofold.base.errors import UsageError
from twofold.devices.mcp.servers import Server
from twofold.kernel.device import Effect

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_MOST_TEXT, _MOST_SCHEMA = 2_000, 20_000  # characters
_MOST_DEPTH, _MOST_PARTS = 8, 400  # of a schema
_NUMBERS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")
_TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
_CLAIMS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool of a server. name: as the server knows it; call: as models do, without the server's name.

    description, parameters: made safe to read. claims: what it says of itself. digest: of all as it came.
    """

    name: str
    call: str
    description: str
    parameters: Mapping[str, Any]
    claims: Mapping[str, bool]
    digest: str

    def effect(self, server: Server) -> Effect:
        """Return what a call does, as far as it is known: the worst, unless the user says otherwise."""
        if self.name in server.effects:
            return server.effects[self.name]
        if server.believe and self.claims.get("readOnlyHint"):
            inside = server.here and self.claims.get("openWorldHint") is False
            return Effect.READ if inside else Effect.FETCH
        return Effect.SEND


def read(said: Mapping[str, Any]) -> Tool:
    """Return a tool from what a server says of it (MCP's `Tool`); never fails."""
    whole = {key: said.get(key) for key in ("name", "title", "description", "inputSchema", "annotations")}
    canonical = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    name = str(said.get("name") or "")
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:32] or "tool"
    annotations = said.get("annotations") or {}
    return Tool(
        name=name,
        call=name if _NAME.fullmatch(name) else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}",
        description=plain_text(said.get("description") or said.get("title") or ""),
        parameters=_Schema(said.get("inputSchema")).read(),
        claims={key: annotations[key] for key in _CLAIMS if isinstance(annotations.get(key), bool)},
        digest=digest,
    )


def plain_text(text: Any) -> str:
    """Return a text without the characters that nobody sees, and not without end."""
    kept = "".join(
        character if character == "\n" else " " if character.isspace() else character
        for character in (text if isinstance(text, str) else "")[: 4 * _MOST_TEXT]
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    ).strip()
    return kept if len(kept) <= _MOST_TEXT else kept[:_MOST_TEXT] + " …"


class _Schema:
    """A JSON schema that is small, stands by itself, and has no patterns: the server checks those itself."""

    def __init__(self, whole: Any) -> None:
        self._whole = whole if isinstance(whole, dict) else {}
        self._left = _MOST_PARTS

    def read(self) -> dict[str, Any]:
        """Return the schema of an object."""
        found = self._part(self._whole, 0)
        if found.get("type") != "object" or len(json.dumps(found)) > _MOST_SCHEMA:
            found = {"type": "object"}
        return {"type": "object", "properties": {}, **found}

    def _part(self, part: Any, depth: int) -> dict[str, Any]:
        self._left -= 1
        part = self._target(part)
        if not isinstance(part, dict) or depth > _MOST_DEPTH or self._left < 0:
            return {}
        found: dict[str, Any] = {}
        kinds = part.get("type")
        if _known(kinds) or (isinstance(kinds, list) and kinds and all(map(_known, kinds))):
            found["type"] = kinds
        if isinstance(part.get("description"), str):
            found["description"] = plain_text(part["description"])
        if isinstance(part.get("enum"), list) and all(map(_scalar, part["enum"])) and part["enum"]:
            found["enum"] = [plain_text(one) if isinstance(one, str) else one for one in part["enum"]][:200]
        if "const" in part and _scalar(part["const"]):
            found["const"] = plain_text(part["const"]) if isinstance(part["const"], str) else part["const"]
        for key in _NUMBERS:
            if _whole_number(part.get(key)):
                found[key] = part[key]
        found |= self._inner(part, depth + 1)
        return found

    def _inner(self, part: dict[str, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if isinstance(part.get("properties"), dict):
            inner = {
                key: value for key, value in part["properties"].items() if plain_text(key) == key and key
            }
            found["properties"] = {key: self._part(value, depth) for key, value in list(inner.items())[:100]}
            required = part.get("required")
            if isinstance(required, list):
                found["required"] = [key for key in found["properties"] if key in required]
        if isinstance(part.get("items"), dict):
            found["items"] = self._part(part["items"], depth)
        if isinstance(part.get("additionalProperties"), bool):
            found["additionalProperties"] = part["additionalProperties"]
        choices = part.get("anyOf") or part.get("oneOf")
        if isinstance(choices, list) and choices:
            found["anyOf"] = [self._part(one, depth) for one in choices[:20]]
        return found

    def _target(self, part: Any) -> Any:
        """Return what a reference leads to within the schema; nothing is fetched."""
        for _ in range(_MOST_DEPTH):
            if not isinstance(part, dict) or "$ref" not in part:
                return part
            place = part["$ref"]
            if not isinstance(place, str) or not place.startswith("#/"):
                return None
            part = self._whole
            for step in place[2:].split("/"):
                part = (
                    part.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(part, dict) else None
                )
        return None


def _known(kind: Any) -> bool:
    return isinstance(kind, str) and kind in _TYPES


def _scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or _whole_number(value) or value is None


def _whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53


# --- what the user has seen


def file() -> Path:
    """Return where it is kept which tools the user has looked at."""
    return home.data_folder() / "mcp-trusted.json"


def trusted(server: Server, path: Path | None = None) -> dict[str, Tool]:
    """Return the tools of a server that the user has looked at, by name; none where it is started otherwise
    than then. Raises UsageError."""
    entry = _kept(path or file()).get(server.name)
    if entry is None or entry["spelled"] != server.spelled:
        return {}
    return {one["name"]: Tool(**one) for one in entry["tools"]}


def trust(server: Server, tools: Iterable[Tool], path: Path | None = None) -> None:
    """Keep that the user has looked at these tools of a server, and at no others."""
    path = path or file()
    entry = {"spelled": server.spelled, "tools": [asdict(tool) for tool in tools]}
    kept = {**_kept(path), server.name: entry}
    files.write_text(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def forget(name: str, path: Path | None = None) -> bool:
    """Return whether the user had looked at the tools of a server, and forget it."""
    path = path or file()
    kept = _kept(path)
    if kept.pop(name, None) is None:
        return False
    files.write_text(path, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    return True


def _kept(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        for entry in kept.values():
            entry["spelled"], [Tool(**one) for one in entry["tools"]]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        raise UsageError(f"{path} is damaged: remove it, and look at your servers' tools anew.") from None
    return kept if isinstance(kept, dict) else {}
