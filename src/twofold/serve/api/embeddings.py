"""OpenAI's embeddings: /v1/embeddings. What the vectors are worth: see serve/embedding.py."""

import base64
from typing import Any

import numpy as np

from twofold.serve import openai
from twofold.serve.embedding import embed
from twofold.serve.fields import either, listed, record, text, whole
from twofold.serve.openai import FAMILY
from twofold.serve.operations import Operation, Result
from twofold.serve.refusals import Refusal
from twofold.serve.request import Request

__all__ = ["FAMILY", "OPERATIONS"]

IDS = listed(whole(0, 1 << 31), least=1)
TAKES = record(
    {
        "model": openai.MODEL,
        "input": either(text(), listed(text(), least=1), IDS, listed(IDS, least=1)),
        "encoding_format": text(choices=["float", "base64"]),
        "dimensions": whole(1, 1 << 20, "Only as many as the model has."),
        "user": text(),
    },
    ["input"],
)


async def answer(request: Request) -> Result:
    """Return a vector for each text."""
    body = request.body
    given = body["input"]
    texts = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    served = await request.model()
    width = served.engine.config.width
    if body.get("dimensions") not in (None, width):
        raise Refusal("invalid", f"The vectors of {served.name} have {width:,} numbers.", where="dimensions")
    vectors, tokens = await embed(request.state, served, texts)
    data = [
        {"object": "embedding", "index": n, "embedding": _coded(vector, body.get("encoding_format"))}
        for n, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": served.name, "usage": usage}


def _coded(vector: list[float], form: str | None) -> Any:
    if form != "base64":
        return vector
    return base64.b64encode(np.array(vector, "<f4").tobytes()).decode()


OPERATIONS = [Operation("POST", "/v1/embeddings", "A vector for each text.", answer, TAKES)]
