"""Ollama's own API: /api/chat, /api/generate, /api/tags, /api/show, /api/ps, /api/version, /api/embed.

Streams are lines of JSON. Models are neither made nor fetched here (`twofold pull` does that); pictures are
refused; `context`, the state that /api/generate could hand back, is not kept.
"""

import asyncio
import datetime
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from twofold import __version__, parameters
from twofold.kernel.elsewhere import Kernel, refused
from twofold.serve import asking, forms, openai
from twofold.serve.embedding import embed
from twofold.serve.fields import Schema, either, flag, listed, number, record, text, whole
from twofold.serve.models import Served
from twofold.serve.operations import Family, Operation, Result
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Answer
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]


_NEVER = "2100-01-01T00:00:00Z"


def refuse(no: Refusal) -> dict[str, Any]:
    """Return the body of a refusal."""
    return {"error": str(no)}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


FAMILY = Family("Ollama", refuse, lambda no: _line(refuse(no)), media="application/x-ndjson")

OPTIONS = record(
    {
        "temperature": number(0, 100),
        "top_p": number(0, 1),
        "top_k": whole(-1, 1 << 20),
        "min_p": number(0, 1),
        "repeat_penalty": number(0.01, 100),
        "frequency_penalty": number(-2, 2),
        "presence_penalty": number(-2, 2),
        "seed": whole(-(1 << 63), (1 << 63) - 1),
        "num_predict": whole(-2, 1 << 31, "-1 and -2: as many as there is room for."),
        "stop": either(text(), listed(text(), most=16)),
    }
)
CALL = record({"function": record({"name": text(), "arguments": record({})}, ["name"])}, ["function"])
MESSAGE = record(
    {
        "role": text(choices=["system", "user", "assistant", "tool"]),
        "content": text(),
        "thinking": text(),
        "images": listed(text()),
        "tool_calls": listed(CALL),
        "tool_name": text(),
    },
    ["role"],
)
TOOL = record(
    {
        "type": text(),
        "function": record(
            {"name": text(), "description": text(), "parameters": openai.PARAMETERS}, ["name"]
        ),
    },
    ["function"],
)
COMMON: dict[str, Schema] = {
    "model": text(),
    "stream": flag("Default: true."),
    "format": either(text(choices=["json", ""]), openai.PARAMETERS),
    "options": OPTIONS,
    "keep_alive": either(text(), number(-1e9, 1e9)),
    "think": either(flag(), text(choices=["low", "medium", "high"])),
}
CHAT = record({**COMMON, "messages": listed(MESSAGE), "tools": listed(TOOL)}, ["model"])
GENERATE = record(
    {
        **COMMON,
        "prompt": text(),
        "system": text(),
        "suffix": text("Only empty."),
        "raw": flag("The prompt is all that the model reads."),
        "images": listed(text()),
    },
    ["model"],
)
SHOW = record({"model": text(), "name": text(), "verbose": flag()})
EMBED = record({"model": text(), "input": either(text(), listed(text())), "prompt": text()}, ["model"])


async def chat(request: Request) -> Result:
    """Return the next message, as one object or a line for each piece."""
    body = request.body
    began = time.monotonic_ns()
    if (rest := await _only_load(request, body.get("messages"))) is not None:
        return {**rest, "message": {"role": "assistant", "content": ""}}
    served = await request.speaker()
    loaded = time.monotonic_ns()
    for message in body["messages"]:
        _no_pictures(message)
    tools = [{"type": "function", **tool} for tool in body.get("tools") or ()]
    messages = [{**message, "content": message.get("content") or ""} for message in body["messages"]]
    wish = await asyncio.to_thread(
        asking.turn,
        request,
        served,
        messages,
        tools=tools,
        goes_on=messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"),
        **_how(request),
    )
    return await _answer(request, await request.begin(served, wish), _chat_piece, began, loaded)


async def generate(request: Request) -> Result:
    """Return the answer to one prompt, as one object or a line for each piece."""
    body = request.body
    began = time.monotonic_ns()
    if (rest := await _only_load(request, body.get("prompt"))) is not None:
        return {**rest, "response": ""}
    served = await request.speaker()
    loaded = time.monotonic_ns()
    _no_pictures(body)
    if body.get("suffix"):
        raise Refusal("invalid", "`suffix` is not offered: a text is only continued.", where="suffix")
    wish: asking.Turn
    if isinstance(served, Served) and (
        body.get("raw") or not served.engine.tokenizer.vocabulary.chat_template
    ):
        wish = await asyncio.to_thread(_raw, request, served)
    elif isinstance(served, Kernel) and body.get("raw"):
        raise refused(served, "`raw` prompts")
    else:
        system = [{"role": "system", "content": body["system"]}] if body.get("system") else []
        messages = [*system, {"role": "user", "content": body["prompt"]}]
        wish = await asyncio.to_thread(asking.turn, request, served, messages, **_how(request))
    return await _answer(request, await request.begin(served, wish), _generate_piece, began, loaded)


def _raw(request: Request, served: Served) -> asking.Wish:
    """Return the wish to go on with a prompt that is all that the model reads."""
    how, settings = _how(request), request.state.settings
    ids = asking.raw_ids(served, request.body["prompt"])
    return asking.Wish(
        ids=ids,
        max_tokens=asking.room(served, ids, how["max_tokens"], settings),
        sampler=asking.sampler(how["options"], settings, served, penalty=how["penalty"]),
        constraint=forms.form(served, how["schema"], (), "auto"),
        stops=how["stops"],
        owner=request.owner,
        chat=False,
    )


def _how(request: Request) -> dict[str, Any]:
    """Return what both kinds of request say about the answer."""
    body = request.body
    options, think, wanted = body.get("options") or {}, body.get("think"), body.get("format")
    efforts: dict[Any, int | None] = {None: None, False: 0, True: openai.EFFORTS["medium"]}
    most = options.get("num_predict")
    return {
        "schema": True if wanted == "json" else wanted or None,
        "thoughts": openai.EFFORTS[think] if isinstance(think, str) else efforts[think],
        "max_tokens": most if most and most > 0 else None,
        "options": options,
        "penalty": "repeat_penalty",
        "stops": asking.stops(options.get("stop")),
    }


def _no_pictures(holder: Mapping[str, Any]) -> None:
    if holder.get("images"):
        raise Refusal("invalid", "This model reads text only, no images.", where="images")


async def _only_load(request: Request, given: Any) -> dict[str, Any] | None:
    """Load or unload the model when nothing is asked of it; return the answer to that, else None."""
    if given:
        return None
    models, gone = request.state.models, request.body.get("keep_alive") in (0, "0", "0s", "0m")
    if models.kernel(request.body["model"]) is None:  # else there is nothing to load
        name, _ = models.resolve(request.body["model"])
        await (models.unload(name) if gone else models.load(name))
    return {
        "model": request.body["model"],
        "created_at": _now(),
        "done": True,
        "done_reason": "unload" if gone else "load",
    }


def _chat_piece(said: str, thought: str, calls: list[Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if thought:
        message["thinking"] = thought
    if calls:
        message["tool_calls"] = [
            {"function": {"name": call.name, "arguments": json.loads(call.arguments)}} for call in calls
        ]
    return {"message": message}


def _generate_piece(said: str, thought: str, calls: list[Any]) -> dict[str, Any]:
    return {"response": said, **({"thinking": thought} if thought else {})}


async def _answer(request: Request, reply: Answer, form: Any, began: int, loaded: int) -> Result:
    head = {"model": request.body["model"]}

    def end() -> dict[str, Any]:
        request.count([reply])
        now = time.monotonic_ns()
        read = reply.first_ns or now
        return {
            "done": True,
            "done_reason": "length" if reply.finish == "length" else "stop",
            "total_duration": now - began,
            "load_duration": loaded - began,
            "prompt_eval_count": reply.prompt_tokens,
            "prompt_eval_duration": max(1, read - loaded),
            "eval_count": reply.tokens,
            "eval_duration": max(1, now - read),
        }

    async def lines() -> AsyncIterator[str]:
        async for piece in reply:
            parts = (piece.text, "") if piece.kind == "text" else ("", piece.text)
            said = form(*parts, [piece.call] if piece.call else [])
            yield _line({**head, "created_at": _now(), **said, "done": False})
        yield _line({**head, "created_at": _now(), **form("", "", []), **end()})

    if request.body.get("stream") is not False:
        return lines()
    said = await reply.whole()
    return {**head, "created_at": _now(), **form(said.text, said.thought, said.calls), **end()}


async def tags(request: Request) -> Result:
    """Return all models."""
    models = request.state.models
    here = [_listed(name, path) for name, path in models.known().items()]
    return {"models": here + [_elsewhere(kernel) for kernel in models.elsewhere().values()]}


async def running(request: Request) -> Result:
    """Return the models in memory."""
    loaded = request.state.models.loaded()
    return {
        "models": [
            {
                **_listed(one.name, one.path), "size": one.bytes, "size_vram": 0, "expires_at": _NEVER,
                "context_length": one.engine.context,
            }
            for one in loaded
        ]
    }  # fmt: skip


async def show(request: Request) -> Result:
    """Return what is known of a model. Raises Refusal when there is none of that name."""
    asked = request.body.get("model") or request.body.get("name")
    if kernel := request.state.models.kernel(asked):
        return {
            "modelfile": "", "parameters": "", "template": "", "license": "", "modified_at": _NEVER,
            "details": _elsewhere(kernel)["details"], "capabilities": ["completion", "tools"],
            "model_info": {"general.architecture": kernel.family},
        }  # fmt: skip
    name, path = request.state.models.resolve(asked)
    model = parameters.load(path)
    template = model.tokenizer.vocabulary.chat_template or ""
    config = model.config
    capabilities = ["completion", *(["tools"] if "tools" in template else [])]
    return {
        "modelfile": f"FROM {name}",
        "parameters": _parameters(model.card.get("sampling", {})),
        "template": template,
        "license": str(model.card.get("license") or ""),
        "modified_at": _modified(path),
        "details": _details(path),
        "capabilities": capabilities
        + (["thinking"] if "<think>" in model.tokenizer.vocabulary.tokens else []),
        "model_info": {
            "general.architecture": config.architecture,
            "general.parameter_count": config.parameters,
            f"{config.architecture}.context_length": config.context,
            f"{config.architecture}.embedding_length": config.width,
            f"{config.architecture}.block_count": config.layers,
        },
    }


def _parameters(sampling: Mapping[str, float]) -> str:
    """Return advice on sampling as Ollama lists it: a name and a value a line."""
    names = {"repetition_penalty": "repeat_penalty"}
    return "\n".join(f"{names.get(name, name):30} {value:g}" for name, value in sampling.items())


async def version(request: Request) -> Result:
    """Return the version, behind that of an Ollama which knows all of this: clients compare."""
    return {"version": f"0.12.0-twofold-{__version__}"}


async def embedded(request: Request) -> Result:
    """Return a vector for each text."""
    body = request.body
    given: Any = body.get("input") if body.get("input") is not None else body.get("prompt") or []
    texts = [given] if isinstance(given, str) else given
    served = await request.model()
    began = time.monotonic_ns()
    vectors, tokens = await embed(request.state, served, texts)
    if body.get("input") is None:
        return {"embedding": vectors[0] if vectors else []}
    spent = time.monotonic_ns() - began
    return {
        "model": body["model"], "embeddings": vectors, "total_duration": spent, "load_duration": 0,
        "prompt_eval_count": tokens,
    }  # fmt: skip


def _listed(name: str, path: Path) -> dict[str, Any]:
    size = path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.glob("*"))
    what = f"{path.resolve()} {size} {path.stat().st_mtime_ns}"  # a file's own hash would take long
    digest = hashlib.sha256(what.encode()).hexdigest()
    return {
        "name": name, "model": name, "modified_at": _modified(path), "size": size, "digest": digest,
        "details": _details(path),
    }  # fmt: skip


def _elsewhere(kernel: Kernel) -> dict[str, Any]:
    details = {
        "parent_model": "", "format": "", "family": kernel.family, "families": [kernel.family],
        "parameter_size": "", "quantization_level": "",
    }  # fmt: skip
    digest = hashlib.sha256(f"{kernel.url} {kernel.model}".encode()).hexdigest()
    return {
        "name": kernel.name, "model": kernel.name, "modified_at": _NEVER, "size": 0, "digest": digest,
        "remote_model": kernel.model, "remote_host": kernel.url, "details": details,
    }  # fmt: skip


def _details(path: Path) -> dict[str, Any]:
    return {
        "parent_model": "", "format": "gguf" if path.is_file() else "safetensors", "family": "",
        "families": [], "parameter_size": "", "quantization_level": "",
    }  # fmt: skip


def _modified(path: Path) -> str:
    return (
        datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC).isoformat().replace("+00:00", "Z")
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat().replace("+00:00", "Z")


OPERATIONS = [
    Operation("POST", "/api/chat", "Answer a conversation, as Ollama's clients ask.", chat, CHAT),
    Operation("POST", "/api/generate", "Answer a prompt, as Ollama's clients ask.", generate, GENERATE),
    Operation("POST", "/api/embed", "A vector for each text.", embedded, EMBED),
    Operation("POST", "/api/embeddings", "A vector for a text.", embedded, EMBED),
    Operation("GET", "/api/tags", "All models.", tags),
    Operation("GET", "/api/ps", "The models in memory.", running),
    Operation("POST", "/api/show", "What is known of a model.", show, SHOW),
    Operation("GET", "/api/version", "The version.", version),
]
