"""The OpenAPI document is right: what it lists is answered as it says, and reads well."""

import json
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from komputer.api.openapi import ABOUT
from tests.e2e.platform import Json, Platform

DOCUMENT: Json = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text("utf-8"))
STREAMS = {"follow_agent", "follow_all"}
"""They never end, so they have tests of their own."""
schema = schemathesis.openapi.from_dict(DOCUMENT)


def operations() -> list[tuple[str, str, Json]]:
    return [(path, verb, told) for path, verbs in DOCUMENT["paths"].items() for verb, told in verbs.items()]


@schema.exclude(operation_id=sorted(STREAMS)).parametrize()
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much, HealthCheck.too_slow],
)
def test_every_answer_is_documented_and_none_is_a_5xx(case: schemathesis.Case[Any], platform: Platform) -> None:
    if case.body and isinstance(case.body, dict) and case.path == "/api/v1/agents":
        case.body = {**case.body, "templateRef": "none", "namespace": "fuzz"}
    answer = case.call(base_url=platform.url, timeout=30, headers=dict(platform.http.headers))
    case.validate_response(
        answer,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )


def test_the_document_is_valid_and_served_as_it_is_committed(platform: Platform) -> None:
    validate(DOCUMENT)
    served = platform.http.get(f"{platform.url}/openapi.json").json()
    assert served == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["description"] == ABOUT


def test_the_page_of_the_document_needs_nobody_else(platform: Platform) -> None:
    page = platform.http.get(f"{platform.url}/docs")
    assert page.status_code == 200
    assert "https://" not in page.text
    assert "//cdn" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert name in page.text
        assert platform.http.get(f"{platform.url}/static-offline-docs/{name}").status_code == 200


@pytest.mark.parametrize(
    ("path", "verb", "told"), operations(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_operation_reads_well(path: str, verb: str, told: Json) -> None:
    assert told["operationId"].replace("_", "").isalpha(), "a name that a generated client can have"
    assert told["description"].strip()
    assert told["tags"]
    if path.startswith("/api/"):
        refusals = [code for code in told["responses"] if code[0] in "45"]
        assert {"400", "401", "403", "429", "503"} <= set(refusals)
        for code in refusals:
            content = told["responses"][code]["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
    if verb in ("post", "patch") and "requestBody" in told:
        schema = told["requestBody"]["content"]["application/json"]["schema"]
        reference = schema.get("anyOf", [schema])[0]["$ref"]
        body = DOCUMENT["components"]["schemas"][reference.rsplit("/", 1)[-1]]
        assert body["examples"], f"{reference} has an example"


def test_operation_ids_are_unique() -> None:
    ids = [told["operationId"] for _, _, told in operations()]
    assert len(set(ids)) == len(ids)
