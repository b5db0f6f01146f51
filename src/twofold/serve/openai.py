"""The manners of OpenAI's API, which several files of api/ share: errors, usage, ids, sampling."""

import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from twofold.serve.fields import Schema, either, listed, number, record, text, whole
from twofold.serve.operations import Family, event
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Answer
from twofold.tokens import Tokenizer
from twofold.tokens.speech import Call

_TYPES = {
    "key": "authentication_error", "forbidden": "permission_error", "busy": "overloaded",
    "upstream": "api_error", "bug": "server_error",
}  # fmt: skip
FINISH = {"stop": "stop", "length": "length", "calls": "tool_calls"}
EFFORTS = {"none": 0, "minimal": 64, "low": 256, "medium": 1024, "high": 4096, "xhigh": 16384}
_LEAST = -9999.0  # what stands for the logarithm of nothing

SAMPLING: dict[str, Schema] = {
    "temperature": number(0, 2, "0 always takes the likeliest token."),
    "top_p": number(0, 1),
    "top_k": whole(-1, 1 << 20, "0 or -1: all."),
    "min_p": number(0, 1),
    "repetition_penalty": number(0.01, 100),
    "frequency_penalty": number(-2, 2, "What a token loses for each time that it stands in the answer."),
    "presence_penalty": number(-2, 2, "What a token loses once it stands in the answer."),
    "logit_bias": record({}, about="By a token's id what its logit gains, -100 to 100."),
    "seed": whole(-(1 << 63), (1 << 63) - 1, "The same seed gives the same answer."),
    "stop": either(text(), listed(text(), most=16)),
    "user": text("Who asks: where there is not room for all, each gets an equal share."),
}
MODEL = text("Default: the first of /v1/models.")
EFFORT = text("How long the model may think before it answers.", choices=list(EFFORTS))
PARAMETERS = record({}, about="A JSON Schema.")


def refuse(no: Refusal) -> dict[str, Any]:
    """Return the body of a refusal."""
    kind = _TYPES.get(no.kind, "invalid_request_error")
    return {"error": {"message": str(no), "type": kind, "param": no.where, "code": no.code}}


FAMILY = Family("OpenAI", refuse, lambda no: event(refuse(no)))


def new_id(prefix: str) -> str:
    """Return an id that nothing else has."""
    return f"{prefix}{secrets.token_hex(12)}"


def usage(replies: Sequence[Answer]) -> dict[str, Any]:
    """Return what the answers to one prompt cost."""
    prompt, written = replies[0].prompt_tokens, sum(reply.tokens for reply in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": replies[0].cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": sum(reply.thought_tokens for reply in replies)},
    }


def format_of(given: Mapping[str, Any] | None) -> dict[str, Any] | bool | None:
    """Return the JSON Schema that an answer is to follow, True for any JSON, None for text.

    `given`: {"type": "json_schema", "schema": …}, with or without the `json_schema` around it; "json_object".
    """
    if not given or given["type"] == "text":
        return None
    if given["type"] == "json_object":
        return True
    inner = given.get("json_schema") or given
    if not isinstance(inner.get("schema"), dict):
        raise Refusal("invalid", "A format of type json_schema needs a `schema`.", where="response_format")
    schema: dict[str, Any] = inner["schema"]
    return schema


def thoughts(effort: str | None) -> int | None:
    """Return for how many tokens the model may think, None when nothing is said."""
    return None if effort is None else EFFORTS[effort]


def call(said: Call) -> dict[str, Any]:
    """Return a call of a tool."""
    return {
        "id": new_id("call_"), "type": "function",
        "function": {"name": said.name, "arguments": said.arguments},
    }  # fmt: skip


def log_p(p: float) -> float:
    """Return the logarithm of a probability, as JSON can say it."""
    return math.log(p) if p > 0 else _LEAST


def entries(tokenizer: Tokenizer, steps: Sequence[Any]) -> list[dict[str, Any]]:
    """Return steps as chat completions and responses list them, each token with its `bytes` and `id`."""

    def named(token: int, p: float) -> dict[str, Any]:
        raw = tokenizer.token_bytes(token)
        return {"token": raw.decode("utf-8", "replace"), "id": token, "logprob": log_p(p), "bytes": list(raw)}

    return [
        {**named(step.id, step.probability), "top_logprobs": [named(*other) for other in step.alternatives]}
        for step in steps
    ]
