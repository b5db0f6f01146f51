"""The manners of OpenAI's API, which several files of api/ share: errors, usage, ids."""

import secrets
from collections.abc import Sequence
from typing import Any

from twofold.serve.operations import Family, event
from twofold.serve.refusals import Refusal
from twofold.serve.replies import Reply

_TYPES = {
    "key": "authentication_error",
    "forbidden": "permission_error",
    "busy": "overloaded",
    "bug": "server_error",
}


def refuse(no: Refusal) -> dict[str, Any]:
    """Return the body of a refusal."""
    kind = _TYPES.get(no.kind, "invalid_request_error")
    return {"error": {"message": str(no), "type": kind, "param": no.where, "code": no.code}}


FAMILY = Family("OpenAI", refuse, lambda no: event(refuse(no)))


def new_id(prefix: str) -> str:
    """Return an id that nothing else has."""
    return f"{prefix}-{secrets.token_hex(12)}"


def usage(replies: Sequence[Reply]) -> dict[str, Any]:
    """Return what the answers to one prompt cost."""
    prompt, written = replies[0].prompt_tokens, sum(reply.tokens for reply in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": replies[0].cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": sum(reply.thought_tokens for reply in replies)},
    }
