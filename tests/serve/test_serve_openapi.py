"""The OpenAPI document holds, and what is made from it never breaks the server."""

import schemathesis
from serving import Serving

from twofold.serve import openapi

DOCUMENT = openapi.document()
for _path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"):
    assert _path in DOCUMENT["paths"]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


def test_it_is_served_and_valid(serving: Serving) -> None:
    assert serving.http.get("/openapi.json").json() == DOCUMENT
    SCHEMA.validate()
