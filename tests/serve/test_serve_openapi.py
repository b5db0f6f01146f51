"""The OpenAPI document holds, and what is made from it never breaks the server."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from serving import Serving

from twofold.serve import openapi

DOCUMENT = openapi.document()
for _path in ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"):
    assert _path in DOCUMENT["paths"]
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


def test_it_is_served_and_valid(serving: Serving) -> None:
    assert serving.http.get("/openapi.json").json() == DOCUMENT
    SCHEMA.validate()


@SCHEMA.parametrize()
@settings(
    max_examples=8, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
def test_requests_made_from_it_never_break_the_server(case: schemathesis.Case, serving: Serving) -> None:
    if isinstance(case.body, dict):
        for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
            if isinstance(case.body.get(name), int):
                case.body[name] = min(case.body[name], 8)
    case.call_and_validate(base_url=serving.url, checks=[not_a_server_error], timeout=60)
